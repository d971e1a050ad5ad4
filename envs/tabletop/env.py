"""The Gymnasium environment of the table-top suite."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError
from robo_reward.frames import Image

from .control import OPEN_WIDTH
from .facts import Facts
from .goal import HELD_STEPS, Goal
from .instructions import instruct
from .model import TIMESTEP_S
from .randomise import Split, sample_scene
from .scene import SUBSTEPS, Stage
from .spec import SceneSpec
from .tasks import FAMILIES, family_of

CAMERAS = ("front", "side")
Observation = Literal["state", "proprio"]
STATE_SIZE = 18
PROPRIO_SIZE = 8


class TabletopEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One arm, a table, things on it, and a sentence.

    Task: one of ``FAMILIES``, drawn for each episode when several are given; the sentence is in
    ``info["instruction"]`` and in ``instruction``.
    Action: ``(4,) float32`` in [-1, 1]: a step of the tool point along x, y, z (3.5 cm at 1) and
    the gripper (-1 open, +1 closed); 12.5 actions a simulated second.
    Observation: ``"state"`` is ``(18,)``: tool point, opening, where to act, where it should end
    up, the way to both, the fixture's joint and the gripper command. ``"proprio"`` is
    ``(8,)``: tool point, opening, last tool step, gripper command; nothing about the scene.
    Reward: 0 always. Rewards are what this project learns; wrap with ``VisualReward``.
    Success: ``info["success"]``, for evaluators; ``VisualReward`` strips it.
    Cameras: ``front`` and ``side``; ``render()`` gives the first of ``cameras``.

    Args:
        family: One family, several, or ``"all"``.
        split: Which combinations and camera poses appear: train, seen, unseen, paraphrase.
        looks: Whether light, surfaces and cameras vary between episodes.
        observation: ``"state"`` or ``"proprio"``.
        image_size: Side of the rendered images, pixels.
        cameras: Cameras of ``images()``; the first is that of ``render()``.
        renderer: ``"gl"``, or ``"rays"`` where there is no OpenGL.
        terminate_on_success: Whether the simulator's own check ends the episode (owner ``env``)
            once it has held for ``HELD_STEPS`` in a row. Who ends at its first glimpse never sees
            what comes after and learns to touch the goal, not to stay.
        render_mode: ``"rgb_array"`` or ``None``.
    """

    metadata = {  # noqa: RUF012 - the attribute is Gymnasium's
        "render_modes": ["rgb_array"],
        "render_fps": round(1 / (SUBSTEPS * TIMESTEP_S)),
    }

    def __init__(
        self,
        family: str | tuple[str, ...] = "pick_place",
        *,
        split: Split = "train",
        looks: bool = True,
        observation: Observation = "state",
        image_size: int = 96,
        cameras: tuple[str, ...] = ("front",),
        renderer: str = "gl",
        terminate_on_success: bool = False,
        render_mode: str | None = None,
    ) -> None:
        names = (
            tuple(FAMILIES) if family == "all" else (family,) if isinstance(family, str) else family
        )
        for name in names:
            family_of(name)
        if unknown := set(cameras) - set(CAMERAS):
            raise ConfigError(f"cameras must be among {CAMERAS}, got {sorted(unknown)}")
        if observation not in ("state", "proprio"):
            raise ConfigError(f'observation must be "state" or "proprio", got {observation!r}')
        self.families = names
        self.split = split
        self.looks = looks
        self.observation = observation
        self.image_size = image_size
        self.cameras = cameras
        self.terminate_on_success = terminate_on_success
        self.render_mode = render_mode
        size = STATE_SIZE if observation == "state" else PROPRIO_SIZE
        self.observation_space = gym.spaces.Box(-10.0, 10.0, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.instruction = ""
        self.spec_of_scene = SceneSpec()
        self.goal = Goal(family=names[0], target=0)
        self._renderer = renderer
        self._stages: dict[str, Stage] = {}
        self._last_grip = np.zeros(3)
        self._gripper = -1.0
        self._held = 0

    @property
    def stage(self) -> Stage:
        """The stage that the current scene runs on."""
        return self._stage_of(self.spec_of_scene.fixture.kind)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a scene and a goal; ``options={"scene": SceneSpec, "goal": Goal}`` sets them."""
        super().reset(seed=seed)
        options = options or {}
        if "scene" in options:
            self.spec_of_scene, self.goal = options["scene"], options["goal"]
        else:
            family = self.families[int(self.np_random.integers(len(self.families)))]
            self.spec_of_scene, self.goal = sample_scene(
                family, rng=self.np_random, split=self.split, looks=self.looks
            )
        self.instruction = options.get("instruction") or instruct(
            self.goal,
            self.spec_of_scene,
            rng=self.np_random,
            held_out=self.split == "paraphrase",
        )
        self.stage.dress(self.spec_of_scene)
        self._last_grip = self.stage.grip
        self._gripper = -1.0
        self._held = 0
        facts = self.stage.facts()
        return self._observe(facts), self._info(facts)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Act for 80 ms."""
        self._last_grip = self.stage.grip
        self._gripper = float(action[3])
        self.stage.act(action)
        facts = self.stage.facts()
        info = self._info(facts)
        self._held = self._held + 1 if info["success"] else 0
        ended = self.terminate_on_success and self._held >= HELD_STEPS
        return self._observe(facts), 0.0, ended, False, info

    def render(self) -> Image | None:
        """Return what the first camera sees, ``(S, S, 3) uint8``; ``None`` without render mode."""
        if self.render_mode is None:
            return None
        return self._image(self.cameras[0])

    def images(self) -> dict[str, Image]:
        """Return what every camera sees, ``(S, S, 3) uint8`` each."""
        return {name: self._image(name) for name in self.cameras}

    def facts(self) -> Facts:
        """The truth of this instant, for experts, evaluators and training labels only."""
        return self.stage.facts()

    def progress(self) -> float:
        """True stage-wise progress of the goal, [0, 1]; the oracle's potential."""
        facts = self.stage.facts()
        return family_of(self.goal.family).progress(facts, self.spec_of_scene, self.goal)

    def scene_config(self) -> bytes:
        """What a camera process needs once per episode to render this scene."""
        return self.spec_of_scene.to_bytes()

    def scene_state(self) -> NDArray[np.float64]:
        """What a camera process needs per step, ``(n,) float64``."""
        return self.stage.state()

    def load_scene(self, config: bytes) -> None:
        """Show a scene that another process runs."""
        self.spec_of_scene = SceneSpec.from_bytes(config)
        self.stage.dress(self.spec_of_scene)

    def load_state(self, state: NDArray[np.float64]) -> None:
        """Show a state of the scene that another process runs."""
        self.stage.load_state(state)

    def close(self) -> None:
        """Free the renderers."""
        for stage in self._stages.values():
            stage.close()
        self._stages.clear()

    def _stage_of(self, fixture: str) -> Stage:
        if fixture not in self._stages:
            self._stages[fixture] = Stage(fixture, renderer=self._renderer)
        return self._stages[fixture]

    def _image(self, camera: str) -> Image:
        return self.stage.render(camera, size=(self.image_size, self.image_size))

    def _observe(self, facts: Facts) -> NDArray[np.float32]:
        moved = facts.grip - self._last_grip
        opening = [facts.opening / OPEN_WIDTH]
        if self.observation == "proprio":
            parts: list[Any] = [facts.grip, opening, moved * 10.0, [self._gripper]]
            return np.concatenate(parts).astype(np.float32)
        family = family_of(self.goal.family)
        act, end = family.anchors(facts, self.spec_of_scene, self.goal)
        joint = facts.joints[self.goal.target] if family.fixture != "none" else 0.0
        ways = [act, end, act - facts.grip, end - act]
        parts = [facts.grip, opening, *ways, [joint], [self._gripper]]
        return np.concatenate(parts).astype(np.float32)

    def _info(self, facts: Facts) -> dict[str, Any]:
        family = family_of(self.goal.family)
        return {
            "instruction": self.instruction,
            "family": self.goal.family,
            "success": family.success(facts, self.spec_of_scene, self.goal),
        }
