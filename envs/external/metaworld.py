"""Meta-World as a suite: its tasks and scripted policies, our sentences, failures and truth.

Truth about progress is ``staged`` on what the simulator measures: the way of the hand to the
object, then the way of the object to its goal (its own ``obj_to_target``; for ``door-open``, where
that is always 0, the distance that its check looks at). Meta-World's dense reward is no measure of
progress: it is not monotone along an expert's episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.episode import Episode
from robo_reward.errors import require

from .actors import Moment, Policy, Vector
from .metaworld_tasks import TASKS, TRAIN, UNSEEN
from .recording import Source, check_renderer, record, staged

CAMERA = "corner2"
CAMERA_AT = (0.75, 0.075, 0.7)
"""Where the camera is moved, metres: from where it stands a puck would be two pixels wide."""
LIMIT = 500
SETTLE = 10
"""Steps before the first frame."""
STRIDE = 4
"""Steps between frames: 20 frames a simulated second."""
NEAR = 0.08
"""Distance of hand and object at which the way there counts as made, metres."""
HAND_IS_OBJECT = ("reach", "reach-wall")
"""Tasks of the hand alone; the object in their scene only distracts."""
AIMED_AT_GOAL = frozenset(
    (
        "coffee-pull",
        "coffee-push",
        "door-close",
        "hand-insert",
        "peg-insert-side",
        "pick-place",
        "pick-place-wall",
        "push",
        "push-back",
        "reach",
        "reach-wall",
        "soccer",
        "stick-pull",
        "stick-push",
        "sweep-into",
    )
)
"""Tasks whose policy reads the goal; the others act on the object alone."""
OBJECT, GOAL = slice(4, 7), slice(36, 39)
"""Where they stand in an observation ``(39,)``."""
SPLITS: Mapping[str, Sequence[str]] = {
    "unseen": UNSEEN,
    "train": TRAIN,
    "seen": TRAIN,
    "paraphrase": TRAIN,
}
"""``seen`` and ``paraphrase`` are the training tasks with other seeds, and with other words."""


def record_episodes(
    split: str,
    *,
    episodes: int,
    seed: int = 0,
    families: Sequence[str] = (),
    kinds: Sequence[str] = (),
    image_size: int = 96,
    renderer: str = "gl",
) -> Iterator[Episode]:
    """Record labelled episodes of Meta-World, tasks in turn.

    Args:
        split: ``train`` (20 tasks), ``unseen`` (17 others), ``seen`` or ``paraphrase``.
        episodes: How many.
        seed: Number of the set within the split; another one shares no episode.
        families: Tasks to take, without ``-v3``; empty for all of the split.
        kinds: Behaviours in turn; empty for two expert's, a slow one's and two failures of five.
        image_size: Side of the images, pixels.
        renderer: ``"gl"``; nothing else draws meshes.

    Raises:
        ConfigError: A task is not one of the split, or a setting is unknown.
        MissingDependency: Meta-World is not installed.
    """
    check_renderer("Meta-World", renderer)
    require("metaworld", extra="external")
    source = Source(
        name="metaworld",
        tasks=TASKS,
        splits=SPLITS,
        open_world=lambda task, number: MetaWorld(task, seed=number, image_size=image_size),
        camera=CAMERA,
    )
    return record(source, split, episodes=episodes, seed=seed, families=families, kinds=kinds)


class MetaWorld:
    """One task of Meta-World with the object and goal of one seed.

    Args:
        task: Name without ``-v3``.
        seed: Decides object and goal, below 2**32.
        image_size: Side of the images, pixels.
    """

    stride = STRIDE
    limit = LIMIT - SETTLE - 1
    """Meta-World refuses a step beyond its own limit."""

    def __init__(self, task: str, *, seed: int, image_size: int = 96) -> None:
        self.task = task
        self._seed = seed
        self._env = _open(task, seed=seed, image_size=image_size)
        self._sim = self._env.unwrapped
        self._sim.model.camera(CAMERA).pos[:] = CAMERA_AT
        self._sim.model.light_castshadow[:] = 0  # a shadow costs ten times the rest of the picture
        self._hand_way = self._goal_way = 1.0

    def begin(self) -> Moment:
        """Reset, and let things settle: some poses are not yet those set, and a door swings."""
        self._env.reset(seed=self._seed)
        for _ in range(SETTLE):
            observation, _, _, _, info = self._env.step(np.array([0, 0, 0, -1], np.float32))
        self._hand_way = max(_hand_way(observation), 1e-6)
        self._goal_way = max(self._distance(observation, info), 1e-6)
        return self._moment(observation, info)

    def step(self, action: Vector) -> Moment:
        """Act once."""
        observation, _, _, _, info = self._env.step(action.astype(np.float32))
        return self._moment(observation, info)

    def image(self) -> NDArray[np.uint8]:
        """Return the picture, the right way up: the corner cameras hang upside down."""
        return np.ascontiguousarray(self._env.render()[::-1])

    def expert(self) -> Policy:
        """Return Meta-World's scripted policy of the task."""
        return _policy(self.task)

    def other_expert(self, rng: np.random.Generator) -> Policy:
        """Return the policy of a task about something else; it acts where that would be."""
        mine = set(TASKS[self.task].about)
        others = [name for name in TASKS if not mine & set(TASKS[name].about)]
        return _policy(others[int(rng.integers(len(others)))])

    def misread(self, observation: Vector, offset: Vector) -> Vector:
        """Return the observation with the goal moved, or the object where no goal is read."""
        seen = observation.copy()
        seen[GOAL if self.task in AIMED_AT_GOAL else OBJECT] += offset
        return seen

    def close(self) -> None:
        """Free the simulator and its OpenGL context."""
        self._env.close()

    def _moment(self, observation: Vector, info: Mapping[str, Any]) -> Moment:
        done = bool(info["success"])
        moved = 1.0 - self._distance(observation, info) / self._goal_way
        approach = (self._hand_way - _hand_way(observation)) / max(self._hand_way - NEAR, 1e-6)
        if self.task in HAND_IS_OBJECT:
            approach = moved
        progress = staged(approach=approach, moved=moved, done=done)
        return Moment(observation=observation, progress=progress, done=done)

    def _distance(self, observation: Vector, info: Mapping[str, Any]) -> float:
        if self.task == "door-open":
            return abs(float(observation[4] - self._sim._target_pos[0]))
        return float(info["obj_to_target"])


def _open(task: str, *, seed: int, image_size: int) -> Any:
    """Make the environment, in which nothing has a type that mypy would know."""
    require("metaworld", extra="external")
    import gymnasium

    return gymnasium.make(
        "Meta-World/MT1",
        env_name=f"{task}-v3",
        seed=seed,
        render_mode="rgb_array",
        camera_name=CAMERA,
        width=image_size,
        height=image_size,
        disable_env_checker=True,  # it warns about bounds that Meta-World does not keep
    )


def _hand_way(observation: Vector) -> float:
    return float(np.linalg.norm(observation[:3] - observation[OBJECT]))


def _policy(task: str) -> Policy:
    policies = require("metaworld.policies", extra="external")
    scripted: Any = policies.ENV_POLICY_MAP[f"{task}-v3"]()
    act: Policy = scripted.get_action
    return act
