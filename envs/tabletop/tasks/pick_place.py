"""PickPlace: put an object on a pad.

Task: grasp the named object, carry it over the named pad, lower it and let go.
Randomisation: 2 to 4 objects and 2 pads anywhere on the table.
Success: the object rests on the pad, centre within 4.2 cm of the pad's along x and y, not held.
Stages: approach (0 to 0.3), grasp (0.35), lift, carry and lower (to 0.9), let go (1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..facts import Facts
from ..goal import Goal, pad_point, vector
from ..scene import rest_height
from ..spec import SceneSpec
from .placing import Placing

HALF_SIDE = 0.042


class PickPlace(Placing):
    """Put an object on a pad."""

    name = "pick_place"

    def goals(self, spec: SceneSpec) -> list[Goal]:
        """Every object with every pad."""
        return [
            Goal(family=self.name, target=i, place=j)
            for i in range(len(spec.objects))
            for j in range(len(spec.pads))
        ]

    def place(self, facts: Facts, spec: SceneSpec, goal: Goal) -> NDArray[np.float64]:
        """On the middle of the pad."""
        rest = rest_height(spec.objects[goal.target].shape)
        return pad_point(spec, goal.place) + vector(0.0, 0.0, rest)

    def in_place(self, offset: NDArray[np.float64]) -> bool:
        """Within the pad's square and down on the table."""
        return bool(np.abs(offset[:2]).max() <= HALF_SIDE and abs(offset[2]) <= 0.012)
