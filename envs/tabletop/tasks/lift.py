"""Lift: raise an object off the table.

Task: grasp the named object and lift it.
Randomisation: 2 to 4 objects anywhere on the table.
Success: the object is held with its centre at least 9 cm above where it rests.
Stages: approach (0 to 0.4), grasp (0.5), raise (0.5 to 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Family, Goal, near, ramp, vector
from ..scene import rest_height
from ..spec import SceneSpec

HEIGHT = 0.09


class Lift(Family):
    """Raise an object off the table."""

    name = "lift"
    max_steps = 40

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """One per object."""
        return [Goal(family=self.name, target=i) for i in range(len(spec.objects))]

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Approach, then height."""
        if self.success(facts, spec, goal):
            return 1.0
        if not facts.held[goal.target]:
            return 0.4 * near(facts.grip, facts.object_at(goal.target))
        return 0.5 + 0.49 * ramp(self._height(facts, spec, goal), 0.0, HEIGHT)

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """Held 9 cm up."""
        return bool(facts.held[goal.target]) and self._height(facts, spec, goal) >= HEIGHT

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The object, and the point it is lifted to."""
        target = facts.object_at(goal.target)
        return target, vector(target[0], target[1], HEIGHT + 0.04)

    def _height(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        rest = rest_height(spec.objects[goal.target].shape)
        return float(facts.objects[goal.target, 2]) - rest
