"""Per-task scale of the dense term: a running spread that travels in checkpoints."""

from __future__ import annotations

import math
from typing import Any

from robo_reward.errors import ConfigError


class TaskScale:
    """Running root mean square of the dense term, one per task (Welford's sums).

    Only the scale is changed, never the offset: taking a mean off a reward that is paid every step
    moves the best policy towards shorter or longer episodes. The scale of an episode is read once,
    at its beginning, so that shaping still telescopes within the episode.

    Args:
        min_count: Values a task must have shown before its scale leaves 1.
        floor: Smallest scale, so that a task that never moves is not blown up.

    Example:
        >>> scale = TaskScale(min_count=2)
        >>> for value in (3.0, 4.0):
        ...     scale.add("lift", value)
        >>> round(scale.of("lift"), 3), scale.of("never seen")
        (3.536, 1.0)
    """

    def __init__(self, *, min_count: int = 100, floor: float = 1e-3) -> None:
        self.min_count = min_count
        self.floor = floor
        self._sums: dict[str, tuple[int, float]] = {}

    def add(self, task: str, value: float) -> None:
        """Take one dense term of this task into account; NaN is left out."""
        if math.isfinite(value):
            count, squares = self._sums.get(task, (0, 0.0))
            self._sums[task] = (count + 1, squares + value * value)

    def of(self, task: str) -> float:
        """Return what to divide by: 1.0 until ``min_count`` values were seen."""
        count, squares = self._sums.get(task, (0, 0.0))
        if count < self.min_count:
            return 1.0
        return max(self.floor, math.sqrt(squares / count))

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {task: [count, squares] for task, (count, squares) in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: The values are not counts with sums of squares.
        """
        try:
            sums = {str(task): (int(n), float(squares)) for task, (n, squares) in state.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"state of the per-task scale cannot be read: {error}") from error
        self._sums = sums
