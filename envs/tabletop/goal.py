"""A goal: one task family applied to the things of a scene, judged on the facts of an instant.

Progress is a function of the state alone, stage by stage (as in SARM, arXiv 2509.25358), so that
any goal can be judged on any frame of any episode: the same recording also says how little it did
of every other instruction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .facts import Facts
from .spec import SceneSpec

REACH_SCALE = 0.30
"""Distance at which approaching begins to count, metres."""
HELD_STEPS = 3
"""Steps in a row for which ``success`` must hold to count: passing over a pad is no success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is to be done.

    Attributes:
        family: Name of the task family.
        target: Index of the object, drawer, button or lever.
        place: Index of the pad, of the object below, or the side of a lever; -1 where none.
    """

    family: str
    target: int
    place: int = -1


class Family(ABC):
    """A task family: which scenes it needs, which goals they allow, and how far one has come."""

    name: ClassVar[str]
    fixture: ClassVar[str] = "none"
    max_steps: ClassVar[int] = 60

    @abstractmethod
    def goals(self, spec: SceneSpec) -> list[Goal]:
        """Every goal of this family that the scene allows at its start."""

    @abstractmethod
    def progress(self, facts: Facts, spec: SceneSpec, goal: Goal) -> float:
        """Share of the task done, [0, 1]; 1 exactly where ``success`` holds."""

    @abstractmethod
    def success(self, facts: Facts, spec: SceneSpec, goal: Goal) -> bool:
        """Whether the goal holds now."""

    @abstractmethod
    def anchors(
        self, facts: Facts, spec: SceneSpec, goal: Goal
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where to act and where it should end up, two ``(3,)`` points in metres."""


def vector(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Return a point or an offset, ``(3,)`` metres."""
    return np.array([x, y, z], np.float64)


def near(
    first: NDArray[np.float64], second: NDArray[np.float64], scale: float = REACH_SCALE
) -> float:
    """Return 1 at distance 0, falling linearly to 0 at ``scale`` metres."""
    return 1.0 - min(float(np.linalg.norm(first - second)) / scale, 1.0)


def ramp(value: float, start: float, end: float) -> float:
    """Return 0 at ``start``, 1 at ``end``, linear between and flat outside."""
    return min(max((value - start) / (end - start), 0.0), 1.0)


def pad_point(spec: SceneSpec, index: int) -> NDArray[np.float64]:
    """Centre of a pad, ``(3,)`` metres, on the table's surface."""
    return vector(*spec.pads[index].position, 0.0)
