"""TurnLever: swing a lever over to the other side.

Task: turn the lever of the named colour to the left or to the right (as the front camera sees it).
Randomisation: places, colours and sides of two levers; up to 2 objects about.
Success: the lever is at least 0.5 rad over on the side that was asked for.
Stages: approach the knob (0 to 0.4), swing (to 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Family, Goal, near, ramp
from ..spec import SceneSpec

OVER = 0.5
SIDES = (-1.0, 1.0)
"""Sign of the joint angle on the left and on the right."""


class TurnLever(Family):
    """Swing a lever to the other side."""

    name = "turn_lever"
    fixture = "lever"
    max_steps = 40

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """Each lever, to the side it is not on."""
        return [
            Goal(family=self.name, target=i, place=int(spec.fixture.joints[i] < 0))
            for i in range(2)
        ]

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Approach, then angle."""
        if self.success(facts, spec, goal):
            return 1.0
        approach = near(facts.grip, facts.part_at(goal.target))
        return 0.4 * approach + 0.58 * ramp(self._angle(facts, goal), -OVER, OVER)

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """Far enough over."""
        return self._angle(facts, goal) >= OVER

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The knob, and where it ends up."""
        knob = facts.part_at(goal.target)
        return knob, knob + [0.0, 0.14 * SIDES[goal.place] * (self._angle(facts, goal) < 0), 0.0]

    def _angle(self, facts: Facts, goal: Goal) -> float:
        return float(facts.joints[goal.target]) * SIDES[goal.place]
