"""The truth about one instant of a scene: what progress and success are computed from.

Facts never reach a learner or a reward model; the evaluator and the training labels read them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_OBJECTS = 4
SIZE = 3 + 1 + 3 * MAX_OBJECTS + MAX_OBJECTS + 2 + 2 + 6

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """One instant.

    Attributes:
        grip: Tool point, ``(3,)`` metres.
        opening: Mean travel of the fingers, metres; 0 is closed.
        objects: Centres, ``(4, 3)`` metres; NaN where the scene has fewer.
        held: Whether both fingers touch the object, ``(4,) bool``.
        joints: The two fixture joints, ``(2,)`` metres or radians.
        lit: Whether each button has been pressed, ``(2,) bool``.
        parts: Where to touch each fixture part, ``(2, 3)`` metres; NaN without a fixture.
    """

    grip: Vector
    opening: float
    objects: Vector
    held: NDArray[np.bool_]
    joints: Vector
    lit: NDArray[np.bool_]
    parts: Vector

    def object_at(self, index: int) -> Vector:
        """Centre of an object, ``(3,)`` metres."""
        point: Vector = self.objects[index]
        return point

    def part_at(self, index: int) -> Vector:
        """Where to touch a fixture part, ``(3,)`` metres."""
        point: Vector = self.parts[index]
        return point

    def to_vector(self) -> NDArray[np.float32]:
        """Return ``(30,) float32``, the row that training data keeps of a frame."""
        return np.concatenate(
            [self.grip, [self.opening], self.objects.ravel(), self.held, self.joints, self.lit,
             self.parts.ravel()]
        ).astype(np.float32)  # fmt: skip

    @classmethod
    def from_vector(cls, row: NDArray[np.float32]) -> Facts:
        """Rebuild facts from a row of ``to_vector``."""
        values: Vector = row.astype(np.float64)
        ends = np.cumsum([3, 1, 3 * MAX_OBJECTS, MAX_OBJECTS, 2, 2, 6])
        grip, opening, objects, held, joints, lit, parts = np.split(values, ends[:-1])
        return cls(
            grip=grip,
            opening=float(opening[0]),
            objects=objects.reshape(MAX_OBJECTS, 3),
            held=held > 0.5,
            joints=joints,
            lit=lit > 0.5,
            parts=parts.reshape(2, 3),
        )
