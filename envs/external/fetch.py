"""Gymnasium-Robotics Fetch as a suite: reach, push, pick and place, with scripted experts of ours.

Truth about progress is ``staged``: the way of the hand to the cube, then the way of the cube to its
goal; for reaching, the way of the hand. Success is the simulator's own check (5 cm).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.episode import Episode
from robo_reward.errors import require

from .actors import Moment, Policy, Vector
from .fetch_tasks import ELSEWHERE, TASKS
from .recording import Source, check_renderer, record, staged

CAMERA = "side"
VIEW = {"distance": 1.25, "azimuth": 132.0, "elevation": -24.0, "lookat": (1.32, 0.75, 0.5)}
"""Half as far from the table as Fetch's own view, in which the cube is four pixels wide."""
ENV_IDS = {
    "fetch-reach": "FetchReach-v4",
    "fetch-push": "FetchPush-v4",
    "fetch-pick-place": "FetchPickAndPlace-v4",
}
SPLITS: Mapping[str, Sequence[str]] = {split: tuple(TASKS) for split in ("unseen", "train")}
"""The same tasks with other seeds."""
LIMIT = 100
"""Steps after which an episode ends."""
HAND, CUBE, FINGERS, GOAL = slice(0, 3), slice(3, 6), slice(9, 11), slice(-3, None)
"""Where they stand in an observation with the goal behind it."""
GAIN, CALM = 12.0, 5.0
"""Action per metre: a step at action 1 is about 3 cm. The calm one makes reaching last."""
OPEN, CLOSED = 1.0, -1.0


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
    """Record labelled episodes of Fetch, tasks in turn.

    Args:
        split: ``unseen`` or ``train``: the same tasks, other seeds.
        episodes: How many.
        seed: Number of the set within the split; another one shares no episode.
        families: Tasks to take; empty for all three.
        kinds: Behaviours in turn; empty for two expert's, a slow one's and two failures of five.
        image_size: Side of the images, pixels.
        renderer: ``"gl"``; nothing else draws meshes.

    Raises:
        ConfigError: A task or setting is unknown.
        MissingDependency: Gymnasium-Robotics is not installed.
    """
    check_renderer("Fetch", renderer)
    require("gymnasium_robotics", extra="external")
    source = Source(
        name="fetch",
        tasks=TASKS,
        splits=SPLITS,
        open_world=lambda task, number: Fetch(task, seed=number, image_size=image_size),
        camera=CAMERA,
        elsewhere=ELSEWHERE,
    )
    return record(source, split, episodes=episodes, seed=seed, families=families, kinds=kinds)


class Fetch:
    """One Fetch task with the cube and goal of one seed.

    Args:
        task: A key of ``TASKS``.
        seed: Decides cube and goal.
        image_size: Side of the images, pixels.
    """

    stride = 1
    """25 frames a simulated second."""
    limit = LIMIT

    def __init__(self, task: str, *, seed: int, image_size: int = 96) -> None:
        self.task = task
        self._seed = seed
        self._env = _open(task, image_size=image_size)
        self._sim = self._env.unwrapped
        self._sim.model.light_castshadow[:] = 0
        self._hand_way = self._goal_way = 1.0

    def begin(self) -> Moment:
        """Reset."""
        parts, _ = self._env.reset(seed=self._seed)
        seen = _vector(parts)
        self._hand_way, self._goal_way = self._ways(parts, seen)
        return self._moment(parts)

    def step(self, action: Vector) -> Moment:
        """Act once."""
        return self._moment(self._env.step(action.astype(np.float32))[0])

    def image(self) -> NDArray[np.uint8]:
        """Return the picture."""
        return np.ascontiguousarray(self._env.render())

    def expert(self) -> Policy:
        """Return the script of the task."""
        return EXPERTS[self.task]

    def other_expert(self, rng: np.random.Generator) -> Policy:
        """Return the script of another task: reaching does not move the cube, and so on."""
        if self.task == "fetch-reach":
            return _away
        return _reach

    def misread(self, observation: Vector, offset: Vector) -> Vector:
        """Return the observation with the goal moved."""
        seen = observation.copy()
        seen[GOAL] += offset
        return seen

    def close(self) -> None:
        """Free the simulator and its OpenGL context."""
        self._env.close()

    def _ways(self, parts: Mapping[str, Any], seen: Vector) -> tuple[float, float]:
        """Distances of hand and cube, and of what must arrive and its goal, metres."""
        goal = float(np.linalg.norm(parts["achieved_goal"] - parts["desired_goal"]))
        if self.task == "fetch-reach":
            return goal, goal
        return float(np.linalg.norm(seen[HAND] - seen[CUBE])), goal

    def _moment(self, parts: Mapping[str, Any]) -> Moment:
        seen = _vector(parts)
        hand, goal = self._ways(parts, seen)
        done = bool(self._sim._is_success(parts["achieved_goal"], parts["desired_goal"]))
        progress = staged(
            approach=1.0 - hand / max(self._hand_way, 1e-6),
            moved=1.0 - goal / max(self._goal_way, 1e-6),
            done=done,
        )
        return Moment(observation=seen, progress=progress, done=done)


def _open(task: str, *, image_size: int) -> Any:
    """Make the environment, in which nothing has a type that mypy would know."""
    robotics = require("gymnasium_robotics", extra="external")
    import gymnasium

    gymnasium.register_envs(robotics)
    return gymnasium.make(
        ENV_IDS[task],
        render_mode="rgb_array",
        width=image_size,
        height=image_size,
        max_episode_steps=LIMIT + 1,
        default_camera_config={**VIEW, "lookat": np.array(VIEW["lookat"])},
        disable_env_checker=True,
    )


def _vector(parts: Mapping[str, Any]) -> Vector:
    return np.concatenate([parts["observation"], parts["desired_goal"]])


def _towards(seen: Vector, point: Vector, gripper: float, *, gain: float = GAIN) -> Vector:
    return np.append(np.clip(gain * (point - seen[HAND]), -1.0, 1.0), gripper)


def _reach(seen: Vector) -> Vector:
    return _towards(seen, seen[GOAL], CLOSED, gain=CALM)


def _away(seen: Vector) -> Vector:
    """Goes to the side of the start on which the goal is not."""
    centre = np.array([1.34, 0.75, 0.53])
    return _towards(seen, 2 * centre - seen[GOAL], CLOSED, gain=CALM)


def _push(seen: Vector) -> Vector:
    """Goes round to behind the cube, down, and pushes it along the line to the goal."""
    cube, goal, hand = seen[CUBE], seen[GOAL], seen[HAND]
    way = goal[:2] - cube[:2]
    left = float(np.linalg.norm(way))
    if left < 0.02:
        return np.array([0.0, 0.0, 0.0, CLOSED])
    along = way / left
    behind = cube[:2] - 0.075 * along
    rel = hand[:2] - cube[:2]
    ahead = float(rel @ along)
    beside = float(abs(rel[0] * along[1] - rel[1] * along[0]))
    low = cube[2]
    if ahead > -0.03 or beside > 0.02:  # not in line behind it: over it, then down
        high = low + 0.08
        if np.linalg.norm(hand[:2] - behind) > 0.015:
            if hand[2] < high - 0.03 and ahead > -0.06:
                return _towards(seen, np.array([*hand[:2], high]), CLOSED)
            return _towards(seen, np.array([*behind, high]), CLOSED)
    if hand[2] > low + 0.02:
        return _towards(seen, np.array([*behind, low]), CLOSED)
    reach = min(left, 0.06)
    return _towards(seen, np.array([*(cube[:2] + (reach - 0.045) * along), low]), CLOSED)


def _pick_place(seen: Vector) -> Vector:
    """Opens above the cube, goes down, closes, and carries it to the goal."""
    cube, hand = seen[CUBE], seen[HAND]
    over = float(np.linalg.norm(hand[:2] - cube[:2]))
    away = float(np.linalg.norm(hand - cube))
    width = float(seen[FINGERS].sum())
    if away < 0.02 and width < 0.052:  # it is held: the cube is 5 cm wide
        return _towards(seen, seen[GOAL] + hand - cube, CLOSED)
    if away < 0.012:
        return np.array([0.0, 0.0, 0.0, CLOSED])
    if over > 0.012:
        return _towards(seen, np.array([*cube[:2], max(cube[2] + 0.07, 0.0)]), OPEN)
    return _towards(seen, cube, OPEN)


EXPERTS: dict[str, Policy] = {
    "fetch-reach": _reach,
    "fetch-push": _push,
    "fetch-pick-place": _pick_place,
}
"""Task → its script; none of them remembers anything."""
