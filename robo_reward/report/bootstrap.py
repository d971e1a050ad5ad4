"""Percentile bootstrap over episodes: how far a figure would move with other episodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Coverage of the intervals."""

Table = dict[str, NDArray[np.float64]]
"""Column → one row per episode; whatever a metric needs to be computed again from a resample."""

Statistic = Callable[[Table], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: From all the episodes; NaN where there was nothing to compute it from.
        low: Lower end of the 95 % interval, NaN without resamples.
        high: Upper end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


def take(table: Table, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Table:
    """Return the table with these rows."""
    return {name: column[rows] for name, column in table.items()}


def estimate(
    table: Table, statistics: Mapping[str, Statistic], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Compute statistics with 95 % percentile intervals, resampling episodes with replacement.

    All the statistics share the resamples, so that figures stay comparable. A resample in which a
    statistic is NaN (one class only, say) is left out of its interval; below ten that remain, or
    with a single episode, the ends are NaN rather than a guess.

    Args:
        table: One row per episode.
        statistics: Name → function of a table.
        resamples: Number of resamples; 0 gives no intervals.
        seed: Seed of the resampling.
    """
    values = {name: statistic(table) for name, statistic in statistics.items()}
    count = len(next(iter(table.values()))) if table else 0
    draws: dict[str, list[float]] = {name: [] for name in statistics}
    rng = np.random.default_rng(seed)
    for _ in range(resamples if count > 1 else 0):
        sample = take(table, rng.integers(0, count, count))
        for name, statistic in statistics.items():
            draws[name].append(statistic(sample))
    return {name: _interval(value, draws[name]) for name, value in values.items()}


def _interval(value: float, draws: list[float]) -> Estimate:
    finite = np.array([draw for draw in draws if math.isfinite(draw)])
    if len(finite) < 10 or not math.isfinite(value):
        return Estimate(value=value)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high))
