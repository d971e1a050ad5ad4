"""OpenDrawer and CloseDrawer: pull a drawer out by its handle, or push it shut.

Task: open or close the drawer with the handle of the named colour.
Randomisation: place of the cabinet, colours, which drawers stand open; up to 2 objects about.
Success: open: pulled out 9.5 cm or more; close: within 1.2 cm of shut.
Stages: approach the handle (0 to 0.4), slide (to 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Family, Goal, near, ramp
from ..spec import SceneSpec

OPEN = 0.095
SHUT = 0.012
TRAVEL = 0.12


class OpenDrawer(Family):
    """Pull a drawer out."""

    name = "open_drawer"
    fixture = "drawer"
    max_steps = 50

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """The drawers that are shut at the start."""
        joints = spec.fixture.joints
        return [Goal(family=self.name, target=i) for i in range(2) if joints[i] < SHUT]

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Approach, then travel."""
        if self.success(facts, spec, goal):
            return 1.0
        approach = near(facts.grip, facts.part_at(goal.target))
        return 0.4 * approach + 0.58 * ramp(float(facts.joints[goal.target]), 0.0, OPEN)

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """Far enough out."""
        return bool(facts.joints[goal.target] >= OPEN)

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The handle, and where it ends up."""
        handle = facts.part_at(goal.target)
        return handle, handle + [0.0, float(facts.joints[goal.target]) - TRAVEL, 0.0]


class CloseDrawer(Family):
    """Push a drawer shut."""

    name = "close_drawer"
    fixture = "drawer"
    max_steps = 40

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """The drawers that stand open at the start."""
        joints = spec.fixture.joints
        return [Goal(family=self.name, target=i) for i in range(2) if joints[i] >= OPEN]

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Approach, then travel."""
        if self.success(facts, spec, goal):
            return 1.0
        approach = near(facts.grip, facts.part_at(goal.target))
        shut = 1.0 - ramp(float(facts.joints[goal.target]), SHUT, OPEN)
        return 0.4 * approach + 0.58 * shut

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """Shut."""
        return bool(facts.joints[goal.target] <= SHUT)

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The handle, and where it ends up."""
        handle = facts.part_at(goal.target)
        return handle, handle + [0.0, float(facts.joints[goal.target]), 0.0]
