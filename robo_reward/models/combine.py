"""How several models' answers become one: means, the worst of them, and how far they disagree.

A row is NaN for a member that does not give the signal, and such a member has no say in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .base import ScoreArrays

Rows = NDArray[np.float32]
JUDGED = ("progress", "done")
"""Signals whose disagreement is uncertainty."""


def weighted_mean(parts: Sequence[ScoreArrays], signal: str, weights: Sequence[float]) -> Rows:
    """Return the mean of a signal over those members that give it, ``(n,)``; NaN where none does.

    Args:
        parts: Answers of the members to the same n queries.
        signal: Name from ``SIGNALS``.
        weights: One per member; 0 leaves a member out.
    """
    values, shares = _table(parts, signal, weights)
    with np.errstate(invalid="ignore"):
        mean: Rows = (np.nan_to_num(values) * shares).sum(0) / shares.sum(0)
    return mean.astype(np.float32)


def worst(parts: Sequence[ScoreArrays], signal: str) -> Rows:
    """Return the most pessimistic answer, ``(n,)``.

    Of ``progress`` and ``done`` the least. ``progress_delta`` is the difference of the least
    progress now and the least progress then, so that it stays antisymmetric and telescopes.
    ``contrastive`` is the opinion that is held most weakly, and 0 where the members disagree on its
    direction.
    """
    values = _stacked(parts, signal)
    if signal == "progress_delta":
        now = _stacked(parts, "progress")
        return _least(now) - _least(now - values)
    if signal == "contrastive":
        low, high = _least(values), -_least(-values)
        weakest = np.sign(low) * _least(np.abs(values))
        return np.where(np.sign(low) * np.sign(high) > 0, weakest, 0.0).astype(np.float32)
    return _least(values)


def doubt(parts: Sequence[ScoreArrays], weights: Mapping[str, Sequence[float]]) -> Rows:
    """Return the uncertainty of several members together, ``(n,)`` in [0, 1].

    A member is taken for a distribution over [0, 1] with its answer as mean and its uncertainty as
    standard deviation in units of the greatest there is, ½. The mixture's variance is the mean of
    theirs plus the variance of their answers; the greater of that of ``progress`` and of ``done``
    counts. A member that gives no uncertainty counts as sure of itself.

    Args:
        parts: Answers of the members to the same n queries.
        weights: Signal → one weight per member.
    """
    found = np.zeros(len(parts[0]))
    own = np.nan_to_num(np.stack([part.uncertainty for part in parts])) / 2.0
    for signal in JUDGED:
        values, shares = _table(parts, signal, weights[signal])
        total = shares.sum(0)
        if not total.any():
            continue
        shares = shares / np.maximum(total, 1e-12)
        values = np.nan_to_num(values)
        middle = (values * shares).sum(0)
        variance = (((values - middle) ** 2 + own**2) * shares).sum(0)
        found = np.maximum(found, 2.0 * np.sqrt(variance))
    return np.minimum(found, 1.0).astype(np.float32)


def _stacked(parts: Sequence[ScoreArrays], signal: str) -> Rows:
    return np.stack([getattr(part, signal) for part in parts])


def _least(values: Rows) -> Rows:
    """Return the least of each column, NaN where there is none; numpy's own warns of those."""
    least = np.where(np.isnan(values), np.inf, values).min(0)
    return np.where(np.isinf(least), np.nan, least).astype(np.float32)


def _table(
    parts: Sequence[ScoreArrays], signal: str, weights: Sequence[float]
) -> tuple[Rows, NDArray[np.float64]]:
    """Return answers and weights, ``(members, n)`` each; weight 0 where there is no answer."""
    values = _stacked(parts, signal)
    shares = np.where(np.isnan(values), 0.0, np.array(weights, np.float64)[:, None])
    return values, shares
