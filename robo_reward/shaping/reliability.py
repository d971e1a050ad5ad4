"""How far a probability can be taken at its word: reliability diagrams and their summary."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15
"""Bins of equal width of the reliability diagram and the calibration error."""


def reliability(
    probability: ArrayLike, truth: ArrayLike, *, bins: int = BINS
) -> NDArray[np.float64]:
    """Return the counts behind a reliability diagram.

    Bins have equal width over [0, 1], closed on the right (the first one on both sides), as in
    Guo et al., arXiv 1706.04599. NaN probabilities are left out.

    Args:
        probability: ``(n,)`` predicted ``done``.
        truth: ``(n,)`` whether the goal held.
        bins: Number of bins.

    Returns:
        ``(bins, 3) float64``: frames, sum of probabilities, sum of truths.
    """
    p, y = np.asarray(probability, np.float64), np.asarray(truth, np.float64)
    keep = np.isfinite(p) & np.isfinite(y)
    p, y = p[keep], y[keep]
    place = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    sums = [np.bincount(place, weights=w, minlength=bins) for w in (np.ones_like(p), p, y)]
    return np.stack(sums, axis=1)


def ece(counts: NDArray[np.float64]) -> float:
    """Expected calibration error: mean over frames of |mean probability - share of truths|.

    Args:
        counts: ``(bins, 3)`` from ``reliability``; empty bins add nothing, no frames give NaN.
    """
    total = counts[:, 0].sum()
    return float(np.abs(counts[:, 1] - counts[:, 2]).sum() / total) if total else math.nan
