"""Open-loop metrics of a reward model: what each one is, and its rules for ties, NaN and constants.

Definitions follow ``field.md`` §3.1; every docstring names the system whose form is used. Shared
rules stand in ``ranks``: NaN pairs are left out, a constant prediction scores 0, a constant truth
gives NaN. ``summary`` turns per-episode values into the tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .ranks import average_precision, pearson, roc_auc, spearman

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


def success_auprc(final: ArrayLike, success: ArrayLike) -> float:
    """Area under the precision-recall curve of the final score (Robometer); rules as above.

    Unlike the ROC it feels rare false successes where failures outnumber successes; without any
    skill it is the share of successes.
    """
    return average_precision(final, success)


def claim_counts(final: ArrayLike, success: ArrayLike, enter: ArrayLike) -> tuple[int, int, int]:
    """Count episodes whose last frame is called done, for the F1 of success.

    The threshold is the one at which the gate opens, fixed beforehand: no threshold is searched
    for on the episodes that are being judged. NaN scores and unknown outcomes are left out; a
    score equal to the threshold counts as done, as it does for the gate.

    Args:
        final: ``(n,)`` ``done`` of each last frame.
        success: ``(n,)`` truth, NaN where nobody knows.
        enter: ``(n,)`` the gate's ``enter`` for each instruction.

    Returns:
        True positives, false positives, false negatives.
    """
    score, truth = np.asarray(final, np.float64), np.asarray(success, np.float64)
    known = np.isfinite(score) & np.isfinite(truth)
    says, won = (score >= np.asarray(enter, np.float64))[known], truth[known] > 0.5
    return int((says & won).sum()), int((says & ~won).sum()), int((~says & won).sum())


def mean_finite(values: ArrayLike) -> float:
    """Return the mean of the values that are not NaN; NaN where there is none."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return float(array.mean()) if len(array) else math.nan


def curve_summary(progress: ArrayLike) -> NDArray[np.float64]:
    """Return what ``trajectory_value`` needs of a curve: (mean, last, length), ``(3,)``.

    Args:
        progress: ``(T,)``; NaN frames are left out of the mean.
    """
    values = np.asarray(progress, np.float64)
    return np.array([mean_finite(values), values[-1], len(values)])


def trajectory_value(curves: ArrayLike) -> NDArray[np.float64]:
    """Mean progress of each trajectory up to the length of the longest, its last value held.

    What ranks trajectories of one task: failure < suboptimal < success. Final progress, which
    Robometer takes, cannot tell a slow or clumsy success from a direct one, because both end at 1;
    here an earlier success is worth more, and a lost one less, as in the return of a policy.

    Args:
        curves: ``(n, 3)`` of ``curve_summary``, trajectories of one task.

    Returns:
        ``(n,)`` in [0, 1]; NaN where the last frame has no score.
    """
    mean, last, length = np.asarray(curves, np.float64).reshape(-1, 3).T
    horizon = length.max(initial=1.0)
    held: NDArray[np.float64] = (mean * length + last * (horizon - length)) / horizon
    return held


def mismatch_drop(right: float, wrong: ArrayLike) -> float:
    """Final progress with the right instruction minus the mean over instructions that are false.

    Same successful video in both. NaN answers to a false instruction are left out; none left, or
    a NaN for the right one, gives NaN. Range [-1, 1]; 0 means that language is ignored.

    Args:
        right: Final progress under the instruction that was carried out.
        wrong: ``(k,)`` final progress under k instructions that the video does not fulfil.
    """
    return float(right - mean_finite(wrong))


def diagonal_margin(right: float, wrong: Mapping[str, float]) -> float:
    """Diagonal of the task × video matrix minus the rest of its column, for one video.

    The matrix holds the final progress of every video under every instruction (Robometer, ReWiND);
    a margin is taken per column, since a video is what a model can mistake for another task, and
    the mean over the videos is reported. Every false instruction weighs the same, whatever family
    it is of. Only pairs that are *known* to be false count: an instruction may well hold in a
    video that was recorded for another one. So ``mismatch_drop`` asks about other things of the
    same scene, this about tasks of other scenes.

    Args:
        right: Final progress under the instruction that was carried out, of a successful video.
        wrong: Task → final progress under an instruction of it that is false; NaN is left out.

    Returns:
        In [-1, 1]; 0 where language is ignored, NaN where no false instruction is known.
    """
    return float(right - mean_finite(list(wrong.values())))


def wording_spread(finals: ArrayLike) -> float:
    """Population standard deviation of final progress over wordings of one goal, in [0, 0.5].

    Same video, same goal; the episode's own sentence is one of the wordings. NaN answers are left
    out; fewer than two answers give NaN, a model that reads no words 0.

    Args:
        finals: ``(k,)`` final progress under each wording.
    """
    values = np.asarray(finals, np.float64)
    values = values[np.isfinite(values)]
    return float(values.std()) if len(values) > 1 else math.nan


def rubric(progress: float, *, success: bool | None = None) -> float:
    """Return progress on the scale of RoboReward: 1 none, 2 minimal, 3 partial, 4 near, 5 perfect.

    The bins are those of {0, ¼, ½, ¾, 1}, the nearest one; halves go up. Where the outcome is
    known, as for the truth, only a success is perfect: a failure that came nearer than ⅞ is 4.

    Args:
        progress: In [0, 1]; NaN stays NaN.
        success: True outcome of the episode; ``None`` for a prediction.
    """
    if math.isnan(progress):
        return math.nan
    score = 1.0 + math.floor(4.0 * progress + 0.5)
    return min(score, 4.0) if success is False else score


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


def preference_counts(final: ArrayLike, quality: ArrayLike) -> tuple[int, int]:
    """Count pairs of whole episodes of unlike quality whose better one scores *strictly* higher.

    Failure < suboptimal < success, by final progress, as Robometer's fallback; a tie in the score
    is wrong, pairs of equal quality are not asked. NaN scores and labels are left out.

    Args:
        final: ``(n,)`` final progress of episodes of one task family.
        quality: ``(n,)`` label, higher is better, NaN where nobody knows.

    Returns:
        Pairs that are right, and all pairs that were asked.
    """
    score, label = np.asarray(final, np.float64), np.asarray(quality, np.float64)
    known = np.isfinite(score) & np.isfinite(label)
    score, label = score[known], label[known]
    better = label[:, None] > label[None, :]
    return int((better & (score[:, None] > score[None, :])).sum()), int(better.sum())


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
