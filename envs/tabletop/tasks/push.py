"""Push: slide an object onto a pad.

Task: push the named object over the table onto the named pad.
Randomisation: 2 to 4 objects and 2 pads; the object starts at least 14 cm from the pad, and nothing
stands between. Balls, which roll, are never the ones to push.
Success: the object stands on the pad, centre within 4.2 cm of the pad's along x and y, not held.
Stages: approach (0 to 0.25), slide (to 0.9), on the pad (1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Family, Goal, near, pad_point, ramp
from ..scene import rest_height
from ..spec import SceneSpec
from .pick_place import HALF_SIDE


class Push(Family):
    """Slide an object onto a pad."""

    name = "push"
    max_steps = 60

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """Every object that does not roll with every pad."""
        return [
            Goal(family=self.name, target=i, place=j)
            for i, item in enumerate(spec.objects)
            if item.shape != "ball"
            for j in range(len(spec.pads))
        ]

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Approach, then the square of the nearness to the pad: most of a start is worth little."""
        if self.success(facts, spec, goal):
            return 1.0
        target = facts.object_at(goal.target)
        apart = float(np.linalg.norm((target - pad_point(spec, goal.place))[:2]))
        slid = 1.0 - ramp(apart, 0.04, 0.28)
        return 0.25 * near(facts.grip, target) + 0.65 * slid**2

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """On the pad, on the table, not held."""
        target = facts.object_at(goal.target)
        offset = target - pad_point(spec, goal.place)
        low = abs(float(offset[2]) - rest_height(spec.objects[goal.target].shape)) <= 0.012
        within = bool(np.abs(offset[:2]).max() <= HALF_SIDE)
        return within and low and not facts.held[goal.target]

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The object and the pad."""
        return facts.object_at(goal.target), pad_point(spec, goal.place)
