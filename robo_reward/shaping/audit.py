"""Trajectory audit: how a progress curve got where it ends, after PRM-as-a-Judge.

The four figures need no labels, so the same function audits a model's curve, the true one, and an
episode that is being played. Definitions: ``eval/calculate_all_metrics.py`` of PRM-as-a-Judge, as
read in ``field.md`` §3.1.10. Rules: NaN frames are left out and the curve is closed over the gap;
a curve without a finite value gives NaN throughout.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

AUDIT = ("max_progress", "path_efficiency", "regret", "stagnation")
"""Names of the figures, in the order of ``audit``."""

STANDSTILL = 0.005
"""Changes of progress smaller than this are no change."""

NO_PATH = 1e-9
"""A path shorter than this has gone nowhere: its efficiency is 0."""


def audit(progress: ArrayLike) -> Floats:
    """Return the four figures of a curve, ``(4,)``, in the order of ``AUDIT``; all in [0, 1].

    Args:
        progress: ``(T,)`` in [0, 1], in the order in which the frames were played.

    Example:
        >>> audit([0.0, 1.0, 0.5]).round(3).tolist()
        [1.0, 0.167, 0.167, 0.0]
    """
    curve = np.asarray(progress, np.float64)
    curve = curve[np.isfinite(curve)]
    if not len(curve):
        return np.full(len(AUDIT), math.nan)
    figures = (max_progress(curve), path_efficiency(curve), regret(curve), stagnation(curve))
    return np.array(figures)


def max_progress(curve: Floats) -> float:
    """Return the highest progress of the episode (MaxP): how far it ever got."""
    return float(curve.max())


def path_efficiency(curve: Floats) -> float:
    """Progress-weighted path length (PPL): P_T · P_T / L, with L = Σ|ΔP|.

    The path starts at P₀ = 0 before the first frame, so that L ≥ P_T and the figure is at most 1:
    1 where progress only rises, to 1. A path of no length scores 0.
    """
    length = float(np.abs(np.diff(curve, prepend=0.0)).sum())
    return float(curve[-1] ** 2 / length) if length > NO_PATH else 0.0


def regret(curve: Floats) -> float:
    """Return cumulative regret (CRA): mean over frames of how far below its best the curve is."""
    return float((np.maximum.accumulate(curve) - curve).mean())


def stagnation(curve: Floats) -> float:
    """Return the share of steps that change progress by less than ``STANDSTILL``.

    Only steps between recorded frames count, not the one from P₀; a single frame gives NaN.
    """
    return float((np.abs(np.diff(curve)) < STANDSTILL).mean()) if len(curve) > 1 else math.nan
