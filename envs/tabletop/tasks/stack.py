"""Stack: put an object on top of another.

Task: grasp the named object, carry it over the other one, lower it and let go.
Randomisation: 2 to 4 objects anywhere on the table; balls are not stacked, only cubes carry.
Success: the object rests on the other one, centres within 2.4 cm horizontally, not held.
Stages: approach (0 to 0.3), grasp (0.35), lift, carry and lower (to 0.9), let go (1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Goal, vector
from ..scene import rest_height
from ..spec import SceneSpec
from .placing import Placing

TOLERANCE = 0.024


class Stack(Placing):
    """Put an object on top of another."""

    name = "stack"

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """Everything that does not roll, on every other cube."""
        flat = [i for i, item in enumerate(spec.objects) if item.shape != "ball"]
        cubes = [j for j in flat if spec.objects[j].shape == "cube"]
        return [Goal(family=self.name, target=i, place=j) for i in flat for j in cubes if i != j]

    def place(self, facts: Facts, spec: SceneSpec, goal: Goal) -> NDArray[np.float64]:
        """On the other object's top."""
        upper = rest_height(spec.objects[goal.target].shape)
        lower = rest_height(spec.objects[goal.place].shape)
        return facts.object_at(goal.place) + vector(0.0, 0.0, upper + lower)

    def in_place(self, offset: NDArray[np.float64]) -> bool:
        """Over the other one and down on it."""
        return bool(np.linalg.norm(offset[:2]) <= TOLERANCE and abs(offset[2]) <= 0.01)
