"""Reach: bring the gripper to an object.

Task: move the tool point to just above the named object, touching nothing else.
Randomisation: 2 to 4 objects anywhere on the table.
Success: the tool point is within 3.5 cm of a point 3 cm above the object's centre.
Stages: approach (0 to 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import REACH_SCALE, Family, Goal, ramp
from ..spec import SceneSpec

TOLERANCE = 0.035
ABOVE = np.array([0.0, 0.0, 0.03])


class Reach(Family):
    """Bring the gripper to an object."""

    name = "reach"
    max_steps = 30

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """One per object."""
        return [Goal(family=self.name, target=i) for i in range(len(spec.objects))]

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Falls with the distance from the tool point."""
        return 1.0 - ramp(self._distance(facts, goal), TOLERANCE, REACH_SCALE)

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """Within 3.5 cm."""
        return self._distance(facts, goal) <= TOLERANCE

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The object, twice."""
        return facts.object_at(goal.target), facts.object_at(goal.target)

    def _distance(self, facts: Facts, goal: Goal) -> float:
        return float(np.linalg.norm(facts.grip - facts.object_at(goal.target) - ABOVE))
