"""Rank statistics in numpy: Spearman, Pearson, Kendall τ-a, ROC and precision-recall areas.

Shared rules. A pair with a NaN in it is left out. A series whose values span at most ``CONSTANT``
counts as constant, so that rounding noise has no rank order. A constant *prediction* correlates 0
with anything (it was asked and said nothing); a constant *truth* gives NaN (there was no question).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CONSTANT = 1e-6
"""Widest span of values, in the signal's own unit, that still counts as constant."""


def is_constant(values: ArrayLike) -> bool:
    """Whether the finite values span at most ``CONSTANT`` (an empty series is constant)."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    return not len(finite) or float(np.ptp(finite)) <= CONSTANT


def ranks(values: ArrayLike) -> Floats:
    """Return ranks from 1, ties sharing the mean of their places.

    Args:
        values: ``(n,)`` without NaN.

    Returns:
        ``(n,) float64``.

    Example:
        >>> ranks([10, 30, 10]).tolist()
        [1.5, 3.0, 1.5]
    """
    _, inverse, counts = np.unique(
        np.asarray(values, np.float64), return_inverse=True, return_counts=True
    )
    last = np.cumsum(counts)
    mean: Floats = (last - (counts - 1) / 2.0)[inverse]
    return mean


def pearson(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return Pearson's r of a prediction with the truth, in [-1, 1].

    NaN pairs are left out; fewer than two pairs or a constant truth give NaN; a constant
    prediction gives 0 (Robometer, ``evals/eval_metrics_utils.py``, maps its NaN to 0 likewise).

    Args:
        predicted: ``(n,)``.
        truth: ``(n,)``.
    """
    x, y = _pairs(predicted, truth)
    if len(x) < 2 or is_constant(y):
        return math.nan
    if is_constant(x):
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def spearman(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return Spearman's correlation: Pearson's r of ranks, ties sharing their mean rank.

    Rules for NaN and constants as in ``pearson``, judged before the values become ranks.

    Args:
        predicted: ``(n,)``.
        truth: ``(n,)``.
    """
    x, y = _pairs(predicted, truth)
    if len(x) < 2 or is_constant(y):
        return math.nan
    if is_constant(x):
        return 0.0
    return pearson(ranks(x), ranks(y))


def kendall_tau_a(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Return Kendall's τ-a: (concordant - discordant) / (n(n-1)/2).

    Ties on either side add nothing above the line and stay in the count below it, so a tie in the
    prediction costs, and ties in the truth cap τ-a below 1 (``tau_a_ceiling``). This is what
    Robometer computes (``field.md`` §3.1.4), although its docstring says τ-b. NaN pairs are left
    out; fewer than two items give NaN.

    Args:
        predicted: ``(n,)``.
        truth: ``(n,)``.
    """
    x, y = _pairs(predicted, truth)
    if len(x) < 2:
        return math.nan
    agree = _signs(x) * _signs(y)
    return float(agree.sum() / 2.0 / (len(x) * (len(x) - 1) / 2.0))


def tau_a_ceiling(truth: ArrayLike) -> float:
    """Return the highest τ-a that the ties in the truth allow; NaN below two items."""
    return kendall_tau_a(truth, truth)


def roc_auc(score: ArrayLike, positive: ArrayLike) -> float:
    """Return the area under the ROC curve: P(score of a positive > that of a negative).

    Ties count one half (Mann-Whitney). NaN scores are left out. One class only gives NaN; a
    constant score gives 0.5.

    Args:
        score: ``(n,)``.
        positive: ``(n,)`` truth; values above 0.5 are positive, NaN is left out.
    """
    x, y = _pairs(score, positive)
    hit = y > 0.5
    count = int(hit.sum())
    others = len(hit) - count
    if not count or not others:
        return math.nan
    return float((ranks(x)[hit].sum() - count * (count + 1) / 2.0) / (count * others))


def average_precision(score: ArrayLike, positive: ArrayLike) -> float:
    """Return the area under the precision-recall curve: Σ (R_n - R_n-1) · P_n over thresholds.

    Steps, not trapezes, which would flatter (Davis & Goadrich 2006; scikit-learn's definition).
    Equal scores are one threshold. NaN scores are left out. One class only gives NaN; a constant
    score gives the share of positives.

    Args:
        score: ``(n,)``.
        positive: ``(n,)`` truth; values above 0.5 are positive, NaN is left out.
    """
    x, y = _pairs(score, positive)
    hit = y > 0.5
    if not hit.any() or hit.all():
        return math.nan
    order = np.argsort(-x, kind="stable")
    last_of_tie = np.append(np.diff(x[order]) != 0, True)
    true = np.cumsum(hit[order])[last_of_tie]
    precision = true / (np.flatnonzero(last_of_tie) + 1)
    gained = np.diff(true, prepend=0) / hit.sum()
    return float(gained @ precision)


def roc_curve(score: ArrayLike, positive: ArrayLike) -> tuple[Floats, Floats]:
    """Return the ROC curve as (false positive rate, true positive rate), both from 0 to 1.

    Equal scores are one step, so that the area under the straight lines is ``roc_auc``. Empty
    arrays where there is only one class.

    Args:
        score: ``(n,)``.
        positive: ``(n,)`` truth; values above 0.5 are positive.
    """
    x, y = _pairs(score, positive)
    hit = y > 0.5
    if not hit.any() or hit.all():
        return np.empty(0), np.empty(0)
    order = np.argsort(-x, kind="stable")
    last_of_tie = np.append(np.diff(x[order]) != 0, True)
    true = np.cumsum(hit[order])[last_of_tie] / hit.sum()
    false = np.cumsum(~hit[order])[last_of_tie] / (~hit).sum()
    return np.insert(false, 0, 0.0), np.insert(true, 0, 0.0)


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"two series of equal length are needed, got {x.shape} and {y.shape}")
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _signs(values: Floats) -> Floats:
    signs: Floats = np.sign(values[:, None] - values[None, :])
    return signs
