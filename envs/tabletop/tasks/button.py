"""PressButton: push a button down until it latches and its ring lights up.

Task: press the button of the named colour.
Randomisation: places and colours of two buttons; up to 2 objects about.
Success: the button has latched (10 mm down); its ring stays lit.
Stages: approach the cap (0 to 0.6), press (to 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Family, Goal, near, ramp, vector
from ..scene import BUTTON_LATCH
from ..spec import SceneSpec


class PressButton(Family):
    """Push a button down."""

    name = "press_button"
    fixture = "button"
    max_steps = 35

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """Both buttons."""
        return [Goal(family=self.name, target=i) for i in range(2)]

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Approach, then depth."""
        if self.success(facts, spec, goal):
            return 1.0
        approach = near(facts.grip, facts.part_at(goal.target))
        depth = ramp(float(facts.joints[goal.target]), 0.0, BUTTON_LATCH)
        return 0.6 * approach + 0.39 * depth

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """Latched."""
        return bool(facts.lit[goal.target])

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The cap, and where it is pressed to."""
        cap = facts.part_at(goal.target)
        return cap, cap - vector(0.0, 0.0, BUTTON_LATCH)
