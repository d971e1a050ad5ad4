"""The scripted arm: follows the legs of a plan by what it knows of the scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..tabletop.facts import Facts
from .plan import Leg

STEP = 0.035
"""Metres that the arm's tool point moves at action 1."""
GAIN = 0.75
"""Share of the remaining way asked for: the arm lags by a part of a step, and 1 overshoots."""


class PlanFollower:
    """Turns a plan into actions, one leg after the other.

    Args:
        legs: The plan.
        rng: Source of the noise.
        noise: Standard deviation of the action noise.
        pace: Share of full speed; a slow one wastes steps, which makes an episode suboptimal.
    """

    def __init__(
        self,
        legs: Sequence[Leg],
        *,
        rng: np.random.Generator,
        noise: float = 0.0,
        pace: float = 1.0,
    ) -> None:
        self._legs = list(legs)
        self._rng = rng
        self._noise = noise
        self._pace = pace
        self._index = 0
        self._steps = 0
        self._there = 0

    @property
    def finished(self) -> bool:
        """Whether every leg is done."""
        return self._index >= len(self._legs)

    def act(self, facts: Facts) -> NDArray[np.float32]:
        """Return the next action, ``(4,)`` in [-1, 1]; stands still once finished."""
        self._advance(facts)
        if self.finished:
            still = self._legs[-1].gripper if self._legs else -1.0
            return np.array([0.0, 0.0, 0.0, still], np.float32)
        leg = self._legs[self._index]
        self._steps += 1
        way = GAIN * (leg.target(facts) - facts.grip) / STEP
        limit = leg.speed * self._pace
        size = float(np.abs(way).max())
        if size > limit:
            way *= limit / size
        way = way + self._rng.normal(0.0, self._noise, 3) if self._noise else way
        return np.append(np.clip(way, -1.0, 1.0), leg.gripper).astype(np.float32)

    def _advance(self, facts: Facts) -> None:
        while not self.finished:
            leg = self._legs[self._index]
            # A leg is there for its first time only after it has been acted on once: the gripper
            # command of a leg that starts at its target would otherwise never be sent.
            close = float(np.linalg.norm(leg.target(facts) - facts.grip)) <= leg.tolerance
            if close and self._steps:
                self._there += 1
            patience = leg.patience if self._pace == 1.0 else int(leg.patience / self._pace)
            if self._there <= leg.dwell and self._steps < patience:
                return
            self._index += 1
            self._steps = self._there = 0
