"""One goal in a part of the table: what a policy for one job sees, with everything else varying.

The table-top suite draws another goal for every episode. A policy that is improved for minutes is
given one sentence instead; where the things are, how they are turned and where the arm starts still
vary, and a distractor and a second pad, or a second drawer, stand about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robo_reward.envs.tabletop.goal import Goal
from robo_reward.envs.tabletop.scene import rest_height
from robo_reward.envs.tabletop.spec import FixtureSpec, ObjectSpec, PadSpec, SceneSpec
from robo_reward.errors import ConfigError

Area = tuple[tuple[float, float], tuple[float, float]]
"""``((x low, x high), (y low, y high))`` metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What stays the same from episode to episode.

    Attributes:
        family: Task family.
        instruction: The sentence.
        target: Shape and colour of the object to move.
        pad: Colour of the pad to bring it to.
        distractor: Shape and colour of an object to leave alone.
        other_pad: Colour of a pad that is not meant.
        target_area: Where the object starts.
        pad_area: Where the pad lies.
        elsewhere: Where the distractor and the other pad may be.
        spacing: Least distance between any two things, metres.
        apart: Least distance of the object from its pad, metres.
        drawers: Colours of the handles of two shut drawers, the first to be opened; they stand
            alone. Empty for a table with objects and pads.
    """

    family: str = "pick_place"
    instruction: str = "put the red cube on the blue pad"
    target: tuple[str, str] = ("cube", "red")
    pad: str = "blue"
    distractor: tuple[str, str] = ("cylinder", "green")
    other_pad: str = "red"
    target_area: Area = ((0.28, 0.48), (0.00, 0.20))
    pad_area: Area = ((0.28, 0.48), (-0.20, -0.02))
    elsewhere: Area = ((0.27, 0.49), (-0.20, 0.20))
    spacing: float = 0.09
    apart: float = 0.14
    drawers: tuple[str, str] | tuple[()] = ()


JOBS: dict[str, Job] = {
    "red-cube-to-blue-pad": Job(),
    "push-red-cube-to-blue-pad": Job(
        family="push", instruction="push the red cube onto the blue pad"
    ),
    "lift-red-cube": Job(family="lift", instruction="lift the red cube"),
    "open-red-drawer": Job(
        family="open_drawer",
        instruction="open the drawer with the red handle",
        drawers=("red", "blue"),
    ),
}
"""Jobs by name."""


class OneGoal(gym.Wrapper[Any, Any, Any, Any]):
    """Gives a table-top environment the scenes of one job.

    Args:
        env: A table-top environment of the job's family.
        job: What stays the same.

    Example:
        >>> import robo_reward.envs
        >>> env = OneGoal(gym.make("robo_reward/PickPlace-v0", looks=False), Job())
        >>> env.reset(seed=0)[1]["instruction"]
        'put the red cube on the blue pad'
    """

    def __init__(self, env: gym.Env[Any, Any], job: Job) -> None:
        super().__init__(env)
        families = getattr(env.unwrapped, "families", ())
        if families != (job.family,):
            raise ConfigError(f"the job is {job.family!r}, the environment plays {families}")
        self.job = job
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw a scene of the job; the same seed gives the same scene."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        goal = Goal(family=self.job.family, target=0, place=0)
        scene = {
            "scene": draw(self.job, self._rng),
            "goal": goal,
            "instruction": self.job.instruction,
        }
        return self.env.reset(seed=seed, options={**scene, **(options or {})})


def draw(job: Job, rng: np.random.Generator) -> SceneSpec:
    """Return a scene of the job."""
    if job.drawers:
        return SceneSpec(fixture=_drawers(job.drawers, rng), grip=_grip(rng))
    target, pad, distractor, other = _points(job, rng)
    return SceneSpec(
        objects=(
            _object(job.target, target, rng),
            _object(job.distractor, distractor, rng),
        ),
        pads=(
            PadSpec(colour=job.pad, position=(float(pad[0]), float(pad[1]))),
            PadSpec(colour=job.other_pad, position=(float(other[0]), float(other[1]))),
        ),
        grip=_grip(rng),
    )


def _grip(rng: np.random.Generator) -> tuple[float, float, float]:
    return (
        float(rng.uniform(0.30, 0.38)),
        float(rng.uniform(-0.08, 0.08)),
        float(rng.uniform(0.16, 0.22)),
    )


def _drawers(colours: tuple[str, str], rng: np.random.Generator) -> FixtureSpec:
    shift = (float(rng.uniform(-0.04, 0.04)), float(rng.uniform(-0.03, 0.02)))
    shut = float(rng.uniform(0.0, 0.004))
    return FixtureSpec(kind="drawer", colours=colours, offsets=(shift, shift), joints=(shut, shut))


def _points(job: Job, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    areas = (job.target_area, job.pad_area, job.elsewhere, job.elsewhere)
    while True:
        points = [np.array([rng.uniform(*x), rng.uniform(*y)]) for x, y in areas]
        gaps = [
            float(np.linalg.norm(points[i] - points[j])) for i in range(4) for j in range(i + 1, 4)
        ]
        clear = job.family != "push" or _beside(points[2], points[0], points[1]) >= 0.09
        if min(gaps) >= job.spacing and gaps[0] >= job.apart and clear:
            return points


def _beside(
    point: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> float:
    """Return the distance of a point from the way that a push takes, run-up included."""
    way = (end - start) / np.linalg.norm(end - start)
    begin = start - 0.09 * way
    along = float(np.clip((point - begin) @ way, 0.0, np.linalg.norm(end - begin)))
    return float(np.linalg.norm(point - begin - along * way))


def _object(
    kind: tuple[str, str], point: NDArray[np.float64], rng: np.random.Generator
) -> ObjectSpec:
    return ObjectSpec(
        shape=kind[0],
        colour=kind[1],
        position=(float(point[0]), float(point[1]), rest_height(kind[0])),
        yaw=float(rng.uniform(-0.35, 0.35)),
    )
