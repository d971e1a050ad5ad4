"""What the simulator knows about a frame, as training targets for any instruction about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from robo_reward.envs.tabletop.facts import Facts
from robo_reward.envs.tabletop.goal import Goal
from robo_reward.envs.tabletop.scene import DEFAULT_CAMERAS, camera_pose
from robo_reward.envs.tabletop.spec import CameraSpec, SceneSpec
from robo_reward.envs.tabletop.tasks import all_goals, family_of

NOWHERE = np.full(2, np.nan, np.float32)


@dataclass(frozen=True, slots=True)
class Label:
    """Targets of one (frame, instruction) pair.

    Attributes:
        progress: [0, 1].
        done: Whether the goal holds.
        points: Where target, place and gripper are in the image, ``(3, 2)`` as (column, row) in
            [-1, 1]; NaN where the instruction names nothing that is there.
    """

    progress: float
    done: bool
    points: NDArray[np.float32]


def judged_goals(spec: SceneSpec) -> list[Goal]:
    """Every goal that can be judged on this scene, also those that hold from the start."""
    goals = all_goals(spec)
    extra: list[Goal] = []
    if spec.fixture.kind == "drawer":
        extra = [Goal(family=f, target=i) for f in ("open_drawer", "close_drawer") for i in (0, 1)]
    elif spec.fixture.kind == "lever":
        extra = [Goal(family="turn_lever", target=i, place=j) for i in (0, 1) for j in (0, 1)]
    return goals + [goal for goal in extra if goal not in goals]


def label(facts: Facts, spec: SceneSpec, goal: Goal, *, camera: str) -> Label:
    """Judge a goal on a frame."""
    family = family_of(goal.family)
    act, end = family.anchors(facts, spec, goal)
    pose = spec.cameras.get(camera, DEFAULT_CAMERAS[camera])
    return Label(
        family.progress(facts, spec, goal),
        family.success(facts, spec, goal),
        project(np.stack([act, end, facts.grip]), pose),
    )


def absent(facts: Facts, spec: SceneSpec, *, camera: str) -> Label:
    """Label of an instruction about things that are not there: nothing of it is done."""
    pose = spec.cameras.get(camera, DEFAULT_CAMERAS[camera])
    grip = project(facts.grip[None], pose)[0]
    return Label(0.0, False, np.stack([NOWHERE, NOWHERE, grip]))


def project(points: NDArray[np.float64], camera: CameraSpec) -> NDArray[np.float32]:
    """Return where points of the world, ``(n, 3)`` metres, are in the image: ``(n, 2)`` in ±1."""
    position, matrix, slope = _pose(camera)
    seen = (points - position) @ matrix
    depth = np.maximum(-seen[:, 2], 1e-6)
    image = np.stack([seen[:, 0], -seen[:, 1]], 1) / (depth * slope)[:, None]
    return image.astype(np.float32)


@lru_cache(maxsize=8192)
def _pose(camera: CameraSpec) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    position, matrix = camera_pose(camera)
    return position, matrix, float(np.tan(np.deg2rad(camera.fovy) / 2))
