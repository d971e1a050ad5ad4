"""Open-loop metrics of a reward model: what each one is, and its rules for ties, NaN and constants.

Definitions follow ``field.md`` §3.1; every docstring names the system whose form is used. Shared
rules stand in ``ranks``: NaN pairs are left out, a constant prediction scores 0, a constant truth
gives NaN. ``summary`` turns per-episode values into the tables.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .ranks import pearson, roc_auc, spearman

DEAD_BAND = 0.05
"""True changes of progress smaller than this are neither rising nor falling."""


def voc(predicted: ArrayLike) -> float:
    """Value-order correlation: Spearman of predicted progress with the frame index.

    Meant for successful episodes (GVL, arXiv 2411.04549; VLAC, TOPReward). Ties in the prediction
    share their mean rank. NaN frames are left out; fewer than two frames give NaN. A constant
    prediction scores 0, as in OpenGVL and GRM (VLAC gives NaN); ``evaluate`` counts and reports it.

    Args:
        predicted: ``(T,)`` progress, in the order in which the frames were played.

    Example:
        >>> voc([0.0, 0.2, 0.9])
        1.0
    """
    values = np.asarray(predicted, np.float64)
    return spearman(values, np.arange(len(values)))


def vroc(predicted_reversed: ArrayLike) -> float:
    """VOC of the clip played backwards with the sign flipped, so that 1 is ideal (GRM's VOC-).

    Progress must *fall* when the recording runs backwards; a model that counts frames gets -1.
    Rules as in ``voc``.

    Args:
        predicted_reversed: ``(T,)`` progress in playing order: last frame of the recording first.
    """
    # 0.0 - x, not -x: a constant prediction stays 0 and does not become -0.
    return 0.0 - voc(predicted_reversed)


def voc_f1(forward: float, backward: float) -> float:
    """Harmonic mean of VOC and VROC, both clamped to at least 0 (VLAC, arXiv 2509.15937).

    0 where either is 0 or negative; NaN where either is NaN.
    """
    if math.isnan(forward) or math.isnan(backward):
        return math.nan
    a, b = max(forward, 0.0), max(backward, 0.0)
    return 2.0 * a * b / (a + b) if a + b > 0 else 0.0


def success_auc(final: ArrayLike, success: ArrayLike) -> float:
    """ROC-AUC of the final score of an episode against its true success (LRM, 2603.16065).

    Ties count one half; NaN scores and unknown outcomes are left out; one class only gives NaN.

    Args:
        final: ``(n,)`` ``done`` (headline) or ``progress`` (variant) of each last frame.
        success: ``(n,)`` truth, NaN where nobody knows.
    """
    return roc_auc(final, success)


def mismatch_drop(right: float, wrong: ArrayLike) -> float:
    """Final progress with the right instruction minus the mean over instructions that are false.

    Same successful video in both. NaN answers to a false instruction are left out; none left, or
    a NaN for the right one, gives NaN. Range [-1, 1]; 0 means that language is ignored.

    Args:
        right: Final progress under the instruction that was carried out.
        wrong: ``(k,)`` final progress under k instructions that the video does not fulfil.
    """
    values = np.asarray(wrong, np.float64)
    values = values[np.isfinite(values)]
    return float(right - values.mean()) if len(values) else math.nan


def alignment(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Reward alignment: Pearson of predicted with true progress in one episode (Robometer).

    Robometer takes successes only; ``evaluate`` reports that and all episodes with a known truth.
    An episode in which nothing truly changes gives NaN, a constant prediction 0.

    Args:
        predicted: ``(T,)``.
        truth: ``(T,)``.
    """
    return pearson(predicted, truth)


def pairwise_counts(final: ArrayLike, success: ArrayLike) -> tuple[int, int]:
    """Count the (success, failure) pairs in which the success scores *strictly* higher.

    As in LRM and RoboValue's SA: a tie is wrong. NaN scores are left out with their pairs.

    Args:
        final: ``(n,)`` final progress of episodes of one task family.
        success: ``(n,)`` truth, NaN where nobody knows.

    Returns:
        Pairs that are right, and all pairs.
    """
    score, truth = np.asarray(final, np.float64), np.asarray(success, np.float64)
    good = score[np.isfinite(score) & (truth > 0.5)]
    bad = score[np.isfinite(score) & (truth <= 0.5)]
    return int((good[:, None] > bad[None, :]).sum()), len(good) * len(bad)


def direction_counts(contrastive: ArrayLike, change: ArrayLike) -> tuple[float, int]:
    """Count pairs of frames whose sign of ``contrastive`` is that of the true change (LRM).

    Pairs with a true change below ``DEAD_BAND`` are not asked; an answer of exactly 0 counts one
    half; NaN answers are left out.

    Args:
        contrastive: ``(n,)`` answers in [-1, 1].
        change: ``(n,)`` true progress of the newest frame minus that of the reference.

    Returns:
        Pairs that are right (ties one half), and all pairs that were judged.
    """
    answer, truth = np.asarray(contrastive, np.float64), np.asarray(change, np.float64)
    judged = (np.abs(truth) >= DEAD_BAND) & np.isfinite(answer)
    agree = np.sign(answer[judged]) * np.sign(truth[judged])
    return float((agree > 0).sum() + 0.5 * (agree == 0).sum()), int(judged.sum())


def trend_counts(delta: ArrayLike, change: ArrayLike) -> tuple[int, int, int, int, int, int]:
    """Count rising and falling segments for the F1 of each direction (RoboPulse++).

    A segment truly rises or falls where progress changes by at least ``DEAD_BAND``; segments that
    stand still are not judged. The prediction rises where ``delta`` > 0 and falls where it is < 0;
    exactly 0 is neither, hence a miss. NaN answers are left out.

    Args:
        delta: ``(n,)`` predicted change over each segment, chronological.
        change: ``(n,)`` true change over each segment.

    Returns:
        True positives, false positives, false negatives of *rising*, then the same of *falling*.
    """
    answer, truth = np.asarray(delta, np.float64), np.asarray(change, np.float64)
    judged = (np.abs(truth) >= DEAD_BAND) & np.isfinite(answer)
    answer, truth = answer[judged], truth[judged]
    up, down = truth > 0, truth < 0
    says_up, says_down = answer > 0, answer < 0
    return (
        int((says_up & up).sum()),
        int((says_up & ~up).sum()),
        int((~says_up & up).sum()),
        int((says_down & down).sum()),
        int((says_down & ~down).sum()),
        int((~says_down & down).sum()),
    )


def f1(true_positive: float, false_positive: float, false_negative: float) -> float:
    """2TP / (2TP + FP + FN); NaN where there is no truth and no claim."""
    total = 2 * true_positive + false_positive + false_negative
    return 2 * true_positive / total if total else math.nan
