"""What a batch costs: a running fit of a + c·b seconds, and how long the slowest ones take."""

from __future__ import annotations

from collections import deque

FORGET = 0.98
RECENT = 256


class CostModel:
    """Learns the time of a batch from those that were run; old ones fade.

    Example:
        >>> cost = CostModel()
        >>> for rows in (1, 2, 4, 8):
        ...     cost.add(rows, 0.040 + 0.006 * rows)
        >>> round(cost.predict(16), 3)
        0.136
    """

    def __init__(self) -> None:
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self.fixed_s = 0.0
        self.each_s = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """Take one batch into the fit."""
        n, b, bb, t, bt = (value * FORGET for value in self._sums)
        n, b, bb, t, bt = n + 1, b + rows, bb + rows * rows, t + seconds, bt + rows * seconds
        self._sums = (n, b, bb, t, bt)
        self._recent.append(seconds)
        spread = n * bb - b * b
        # Batches of one size say nothing of the slope: all the cost then counts as fixed.
        slope = max(0.0, (n * bt - b * t) / spread) if spread > 1e-6 * n * bb else 0.0
        if slope * b > t:
            slope = t / b
        self.each_s = slope
        self.fixed_s = max(0.0, (t - slope * b) / n)

    def predict(self, rows: int) -> float:
        """Return the expected seconds of a batch; 0 before the first one."""
        return self.fixed_s + self.each_s * rows

    def p99_s(self) -> float:
        """Return the 99th percentile of the last batches, seconds; 0 before the first one."""
        ordered = sorted(self._recent)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0
