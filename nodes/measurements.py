"""Numbers that a node shows of itself while it runs, for whoever watches many of them."""

from __future__ import annotations

import bisect
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

TIMES_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Bounds for times from half a millisecond to five seconds."""
ROWS = (1, 2, 4, 8, 16, 32, 64)
"""Bounds for rows of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number, or a family of them that differ in labels.

    Attributes:
        name: In the manner of Prometheus, unit at the end: ``queue_seconds``.
        about: One sentence.
        kind: ``counter`` never falls, ``gauge`` may.
        values: Labels (name and value) → number.
    """

    name: str
    about: str
    kind: Literal["counter", "gauge"]
    values: Mapping[tuple[tuple[str, str], ...], float]

    @classmethod
    def gauge(cls, name: str, value: float, about: str) -> Measurement:
        """Make a gauge without labels."""
        return cls(name=name, about=about, kind="gauge", values={(): value})

    @classmethod
    def counter(cls, name: str, value: float, about: str) -> Measurement:
        """Make a counter without labels."""
        return cls(name=name, about=about, kind="counter", values={(): value})

    @classmethod
    def by_label(
        cls, name: str, label: str, values: Mapping[str, float], about: str
    ) -> Measurement:
        """Make a family of counters, one per value of a label."""
        rows: dict[tuple[tuple[str, str], ...], float] = {
            ((label, key),): value for key, value in values.items()
        }
        return cls(name=name, about=about, kind="counter", values=rows)


@dataclass(slots=True, eq=False, kw_only=True)
class Histogram:
    """How often a quantity fell into each of some ranges. Any thread may observe.

    Attributes:
        name: In the manner of Prometheus, unit at the end.
        about: One sentence.
        bounds: Upper ends of the ranges, rising; one more range is beyond the last.
    """

    name: str
    about: str
    bounds: Sequence[float] = TIMES_S
    _counts: list[int] = field(default_factory=list)
    _sum: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one; what is not known (NaN) is not counted."""
        if math.isnan(value):
            return
        with self._lock:
            self._counts[bisect.bisect_left(self.bounds, value)] += 1
            self._sum += value

    def snapshot(self) -> tuple[list[tuple[str, float]], float]:
        """Return (upper bound, number up to it) of every range, and the sum of all."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        rows, seen = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], counts, strict=True):
            seen += count
            rows.append((bound, float(seen)))
        return rows, total
