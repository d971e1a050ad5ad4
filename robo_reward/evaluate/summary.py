"""From episodes to tables: the columns every episode gives, and the metrics computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.episode import Episode
from robo_reward.report.bootstrap import Statistic, Table
from robo_reward.shaping.outcome import (
    gate_false_dones,
    gate_outcome,
    gate_precision,
    gate_recall,
)
from robo_reward.shaping.reliability import BINS, ece, reliability

from . import metrics
from .ranks import Floats, is_constant, kendall_tau_a, tau_a_ceiling
from .scoring import EpisodeScores

QUALITY = {"failure": 0.0, "suboptimal": 1.0, "success": 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of the table.

    Attributes:
        name: Key in JSON.
        title: Words for the report.
        better: Which way is good; ``"none"`` for figures that only describe.
        definition: One line for the report; the full rules are in ``metrics`` and ``ranks``.
        compute: From a table of episodes to the figure.
    """

    name: str
    title: str
    better: Literal["higher", "lower", "none"]
    definition: str
    compute: Statistic


def episode_row(
    episode: Episode, scores: EpisodeScores, *, fired: int | None, group: float
) -> dict[str, NDArray[np.float64]]:
    """Return what the metrics need of one episode: column → scalar or fixed-size array.

    Args:
        episode: The recording with its truth.
        scores: What the model said.
        fired: Frame at which the done gate decided, or ``None``.
        group: Number of the episode's task family.
    """
    success = math.nan if episode.success is None else float(episode.success)
    progress = scores.forward.progress
    won = success == 1.0
    row: dict[str, object] = {
        "success": success,
        "group": group,
        "quality": math.nan if episode.quality is None else QUALITY[episode.quality],
        "voc": metrics.voc(progress) if won else math.nan,
        "vroc": metrics.vroc(scores.backward) if won and len(scores.backward) else math.nan,
        "constant": float(is_constant(progress)),
        "final_progress": progress[-1],
        "final_done": scores.forward.done[-1],
        "drop": _drop(scores) if won else math.nan,
        "voc_truth": metrics.voc(episode.progress)
        if won and episode.progress is not None
        else math.nan,
        **_against_truth(episode, scores),
        **_gate(episode, scores, fired),
    }
    return {name: np.asarray(value, np.float64) for name, value in row.items()}


def _drop(scores: EpisodeScores) -> float:
    finals = [curve[-1] for curve in scores.wrong.values()]
    return metrics.mismatch_drop(float(scores.forward.progress[-1]), finals)


def _against_truth(episode: Episode, scores: EpisodeScores) -> dict[str, object]:
    truth = episode.progress
    swapped = scores.pair_contrastive + scores.swapped_contrastive
    row: dict[str, object] = {
        "pearson": math.nan,
        "mae": math.nan,
        "direction": np.zeros(2),
        "trend": np.zeros(6),
        "antisymmetry": float(np.abs(swapped).mean()) if len(swapped) else math.nan,
    }
    if truth is None:
        return row
    change = truth[scores.pair_ends] - truth[scores.pair_starts]
    asked = np.concatenate([scores.pair_contrastive, scores.swapped_contrastive])
    row["pearson"] = metrics.alignment(scores.forward.progress, truth)
    error = np.abs(scores.forward.progress - truth)
    row["mae"] = float(error[np.isfinite(error)].mean()) if np.isfinite(error).any() else math.nan
    row["direction"] = np.array(metrics.direction_counts(asked, np.concatenate([change, -change])))
    row["trend"] = np.array(metrics.trend_counts(scores.pair_delta, change))
    return row


def _gate(episode: Episode, scores: EpisodeScores, fired: int | None) -> dict[str, object]:
    truth, done = episode.done, scores.forward.done
    if truth is None:
        empty = np.zeros((BINS, 3))
        return {"gate": np.zeros(4), "delay": math.nan, "reliability": empty, "fired": math.nan}
    outcome = gate_outcome(fired, truth)
    return {
        "gate": outcome.counts,
        "delay": outcome.delay,
        "reliability": reliability(done, truth),
        "fired": float(outcome.fired is not None),
    }


def stack(rows: Sequence[dict[str, NDArray[np.float64]]]) -> Table:
    """Turn rows into a table: column → ``(n, …)``."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}


def mean(column: str, *, won: bool = False) -> Statistic:
    """Make the statistic "mean of a column without its NaN", over successes only if ``won``."""

    def compute(table: Table) -> float:
        values = table[column][table["success"] == 1.0] if won else table[column]
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else math.nan

    return compute


def _drop_quantile(share: float) -> Statistic:
    def compute(table: Table) -> float:
        values = table["drop"][np.isfinite(table["drop"])]
        return float(np.quantile(values, share)) if len(values) else math.nan

    return compute


def _voc_f1(table: Table) -> float:
    return metrics.voc_f1(mean("voc")(table), mean("vroc")(table))


def _auc(column: str) -> Statistic:
    return lambda table: metrics.success_auc(table[column], table["success"])


def _pairwise(table: Table) -> float:
    counts = [
        metrics.pairwise_counts(table["final_progress"][rows], table["success"][rows])
        for rows in _groups(table)
    ]
    return _ratio(sum(right for right, _ in counts), sum(seen for _, seen in counts))


def _tau(table: Table) -> float:
    return _nanmean([kendall_tau_a(*_ranking(table, rows)) for rows in _groups(table)])


def _tau_ceiling(table: Table) -> float:
    return _nanmean([tau_a_ceiling(_ranking(table, rows)[1]) for rows in _groups(table)])


def _tau_share(table: Table) -> float:
    return _ratio(_tau(table), _tau_ceiling(table))


def _direction(table: Table) -> float:
    right, seen = table["direction"].sum(axis=0)
    return _ratio(right, seen)


def _trend(first: int) -> Statistic:
    return lambda table: metrics.f1(*table["trend"].sum(axis=0)[first : first + 3])


def _trend_macro(table: Table) -> float:
    return (_trend(0)(table) + _trend(3)(table)) / 2


def _ece(table: Table) -> float:
    return ece(table["reliability"].sum(axis=0))


def _groups(table: Table) -> list[NDArray[np.bool_]]:
    return [table["group"] == group for group in np.unique(table["group"])]


def _ranking(table: Table, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    quality = table["quality"][rows]
    final = table["final_progress"][rows]
    known = np.isfinite(quality) & np.isfinite(final)
    return final[known], quality[known]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _nanmean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


METRICS: tuple[Metric, ...] = (
    Metric(
        name="voc",
        title="VOC",
        better="higher",
        definition="Spearman of progress with the frame index, mean over successes",
        compute=mean("voc"),
    ),
    Metric(
        name="voc_of_truth",
        title="VOC of the truth",
        better="none",
        definition="what true progress itself would score: the ceiling that the data allow",
        compute=mean("voc_truth"),
    ),
    Metric(
        name="vroc",
        title="VROC",
        better="higher",
        definition="the same on the clip played backwards, sign flipped: 1 = it falls",
        compute=mean("vroc"),
    ),
    Metric(
        name="voc_f1",
        title="VOC-F1",
        better="higher",
        definition="harmonic mean of VOC and VROC, both at least 0",
        compute=_voc_f1,
    ),
    Metric(
        name="success_auc",
        title="Success AUC",
        better="higher",
        definition="ROC-AUC of the last frame's done against true success",
        compute=_auc("final_done"),
    ),
    Metric(
        name="success_auc_progress",
        title="Success AUC (progress)",
        better="higher",
        definition="the same with the last frame's progress",
        compute=_auc("final_progress"),
    ),
    Metric(
        name="mismatch_drop",
        title="Mismatch drop",
        better="higher",
        definition="final progress minus that under a false instruction, mean over successes",
        compute=mean("drop"),
    ),
    Metric(
        name="mismatch_drop_p10",
        title="Mismatch drop, 10 %",
        better="higher",
        definition="a tenth of the successes drop by less than this",
        compute=_drop_quantile(0.1),
    ),
    Metric(
        name="mismatch_drop_p50",
        title="Mismatch drop, median",
        better="higher",
        definition="half of the successes drop by less than this",
        compute=_drop_quantile(0.5),
    ),
    Metric(
        name="pearson",
        title="Alignment",
        better="higher",
        definition="Pearson of predicted with true progress, mean over episodes",
        compute=mean("pearson"),
    ),
    Metric(
        name="pearson_success",
        title="Alignment (successes)",
        better="higher",
        definition="the same over successes only, as Robometer has it",
        compute=mean("pearson", won=True),
    ),
    Metric(
        name="progress_mae",
        title="Progress error",
        better="lower",
        definition="mean |predicted - true progress| over frames, then episodes",
        compute=mean("mae"),
    ),
    Metric(
        name="pairwise_accuracy",
        title="Pairwise accuracy",
        better="higher",
        definition="success above failure of the same family by final progress; ties are wrong",
        compute=_pairwise,
    ),
    Metric(
        name="direction_accuracy",
        title="Direction accuracy",
        better="higher",
        definition="sign of contrastive against the true change, both orders; 0 counts one half",
        compute=_direction,
    ),
    Metric(
        name="rising_f1",
        title="Rising F1",
        better="higher",
        definition="segments that truly rise, found by the sign of the delta",
        compute=_trend(0),
    ),
    Metric(
        name="falling_f1",
        title="Falling F1",
        better="higher",
        definition="segments that truly fall, found by the sign of the delta",
        compute=_trend(3),
    ),
    Metric(
        name="trend_macro_f1",
        title="Rising/falling F1",
        better="higher",
        definition="mean of the two",
        compute=_trend_macro,
    ),
    Metric(
        name="tau_a",
        title="Kendall τ-a",
        better="higher",
        definition="failure < suboptimal < success by final progress, mean over families",
        compute=_tau,
    ),
    Metric(
        name="tau_a_of_ceiling",
        title="τ-a of its ceiling",
        better="higher",
        definition="τ-a divided by the highest that ties between labels allow",
        compute=_tau_share,
    ),
    Metric(
        name="done_precision",
        title="Done precision",
        better="higher",
        definition="decisions of the gate that were right in their frame",
        compute=gate_precision,
    ),
    Metric(
        name="done_recall",
        title="Done recall",
        better="higher",
        definition="true dones over true and missed ones",
        compute=gate_recall,
    ),
    Metric(
        name="false_done_per_1000",
        title="False dones / 1,000 steps",
        better="lower",
        definition="episodes ended wrongly, per 1,000 frames played",
        compute=gate_false_dones,
    ),
    Metric(
        name="done_delay",
        title="Done delay",
        better="lower",
        definition="frames from the first true done to the gate's decision",
        compute=mean("delay"),
    ),
    Metric(
        name="ece",
        title="ECE of done",
        better="lower",
        definition="calibration error over all frames, 15 bins of equal width",
        compute=_ece,
    ),
    Metric(
        name="antisymmetry_error",
        title="Antisymmetry error",
        better="lower",
        definition="mean |contrastive + contrastive of the swapped pair|; 0 by contract",
        compute=mean("antisymmetry"),
    ),
)
"""All the figures of a report, in its order."""

HEADLINE = ("voc", "vroc", "success_auc", "mismatch_drop")
"""The four keys that every evaluation shows first."""
