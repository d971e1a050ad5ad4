"""What placing on a pad and stacking on an object have in common: grasp, carry, lower, let go."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Family, Goal, near, ramp
from ..scene import rest_height
from ..spec import SceneSpec

OVER = 0.045
"""Horizontal distance at which the object counts as over its place, metres."""


class Placing(Family):
    """Base of the families that carry an object somewhere and let go."""

    max_steps = 60

    @abstractmethod
    def place(self, facts: Facts, spec: SceneSpec, goal: Goal) -> NDArray[np.float64]:
        """Where the object's centre should come to rest, ``(3,)`` metres."""

    @abstractmethod
    def in_place(self, offset: NDArray[np.float64]) -> bool:
        """Whether an object at ``offset`` metres from its place counts as placed."""

    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Approach 0 to 0.3; grasp 0.35; lift, carry and lower to 0.9; let go 1."""
        if self.success(facts, spec, goal):
            return 1.0
        target = facts.object_at(goal.target)
        if not facts.held[goal.target]:
            return 0.3 * near(facts.grip, target)
        offset = target - self.place(facts, spec, goal)
        apart = float(np.linalg.norm(offset[:2]))
        rest = rest_height(spec.objects[goal.target].shape)
        lifted = 1.0 if apart < OVER else ramp(float(target[2]) - rest, 0.0, 0.07)
        lowered = 1.0 - ramp(float(offset[2]), 0.005, 0.1) if apart < OVER else 0.0
        carried = 1.0 - ramp(apart, 0.02, 0.35)
        return 0.35 + 0.1 * lifted + 0.35 * carried + 0.1 * lowered

    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """In place and let go."""
        if facts.held[goal.target]:
            return False
        return self.in_place(facts.object_at(goal.target) - self.place(facts, spec, goal))

    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The object and its place."""
        return facts.object_at(goal.target), self.place(facts, spec, goal)
