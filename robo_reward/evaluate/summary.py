"""The metrics of a report, each computed from a table with one row per episode."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robo_reward.report.bootstrap import Statistic, Table, take
from robo_reward.shaping.outcome import gate_false_dones, gate_precision, gate_recall
from robo_reward.shaping.reliability import ece

from . import metrics
from .ranks import Floats, kendall_tau_a, tau_a_ceiling


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


def mean(column: str, *, won: bool = False) -> Statistic:
    """Make the statistic "mean of a column without its NaN", over successes only if ``won``."""

    def compute(table: Table) -> float:
        values = table[column][table["success"] == 1.0] if won else table[column]
        return metrics.mean_finite(values)

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


def _auprc(table: Table) -> float:
    return metrics.success_auprc(table["final_done"], table["success"])


def _success_f1(table: Table) -> float:
    return metrics.f1(
        *metrics.claim_counts(table["final_done"], table["success"], table["gate_enter"])
    )


def _pairwise(table: Table) -> float:
    return _pooled(table, metrics.pairwise_counts, "success")


def _preference(table: Table) -> float:
    return _pooled(table, metrics.preference_counts, "quality")


def _pooled(table: Table, count: Callable[..., tuple[int, int]], column: str) -> float:
    """Share of right pairs, counted within families and added up."""
    counts = [count(table["final_progress"][rows], table[column][rows]) for rows in _groups(table)]
    return _ratio(sum(right for right, _ in counts), sum(seen for _, seen in counts))


def _rubric(table: Table) -> float:
    errors = table["rubric_error"]
    return metrics.mean_finite([metrics.mean_finite(errors[rows]) for rows in _groups(table)])


def _rejection(table: Table) -> float:
    return _ratio(*table["rejected"].sum(axis=0))


def _audit_error(place: int) -> Statistic:
    return lambda table: metrics.mean_finite(
        np.abs(table["audit"][:, place] - table["audit_truth"][:, place])
    )


def _tau(values: Callable[[Table], Floats]) -> Statistic:
    """Make τ-a of some value of trajectories against their quality, mean over families."""

    def compute(table: Table) -> float:
        found = []
        for rows in _groups(table):
            family = take(table, rows)
            found.append(kendall_tau_a(values(family), family["quality"]))
        return metrics.mean_finite(found)

    return compute


_tau_value = _tau(lambda table: metrics.trajectory_value(table["curve"]))
_tau_truth = _tau(lambda table: metrics.trajectory_value(table["curve_truth"]))
_tau_final = _tau(lambda table: table["final_progress"])


def _tau_ceiling(table: Table) -> float:
    return metrics.mean_finite([tau_a_ceiling(table["quality"][rows]) for rows in _groups(table)])


def _tau_share(table: Table) -> float:
    return _ratio(_tau_value(table), _tau_ceiling(table))


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


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


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
        name="success_auprc",
        title="Success AUPRC",
        better="higher",
        definition="area under precision-recall of the last frame's done, in steps",
        compute=_auprc,
    ),
    Metric(
        name="success_f1",
        title="Success F1",
        better="higher",
        definition="last frame's done at the gate's enter threshold against true success",
        compute=_success_f1,
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
        name="mismatch_rejection",
        title="Mismatch rejection",
        better="higher",
        definition="false instructions, true in no frame, whose done never opens the gate",
        compute=_rejection,
    ),
    Metric(
        name="diagonal_margin",
        title="Diagonal margin",
        better="higher",
        definition="task × video matrix: final progress, right minus false tasks, of successes",
        compute=mean("margin"),
    ),
    Metric(
        name="paraphrase_spread",
        title="Paraphrase spread",
        better="lower",
        definition="standard deviation of final progress over wordings of the grammar",
        compute=mean("spread"),
    ),
    Metric(
        name="paraphrase_spread_held_out",
        title="Paraphrase spread, held out",
        better="lower",
        definition="the same over wordings that no training sentence has",
        compute=mean("spread_held_out"),
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
        name="rubric_mae",
        title="1–5 error",
        better="lower",
        definition="final progress and truth on RoboReward's 1–5 scale, mean over families",
        compute=_rubric,
    ),
    Metric(
        name="pairwise_accuracy",
        title="Pairwise accuracy",
        better="higher",
        definition="success above failure of the same family by final progress; ties are wrong",
        compute=_pairwise,
    ),
    Metric(
        name="preference_accuracy",
        title="Preference accuracy",
        better="higher",
        definition="failure < suboptimal < success of a family, by final progress; ties are wrong",
        compute=_preference,
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
        definition="failure < suboptimal < success by mean progress, the last value held to the "
        "length of the family's longest episode; mean over families",
        compute=_tau_value,
    ),
    Metric(
        name="tau_a_of_ceiling",
        title="τ-a of its ceiling",
        better="higher",
        definition="τ-a divided by the highest that ties between labels allow",
        compute=_tau_share,
    ),
    Metric(
        name="tau_a_of_truth",
        title="τ-a of the truth",
        better="none",
        definition="what true progress itself would score",
        compute=_tau_truth,
    ),
    Metric(
        name="tau_a_final",
        title="τ-a by final progress",
        better="higher",
        definition="Robometer's form: blind to how a success was reached",
        compute=_tau_final,
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
        name="max_progress_error",
        title="Max progress error",
        better="lower",
        definition="audit: |highest progress - that of the truth|, mean over episodes",
        compute=_audit_error(0),
    ),
    Metric(
        name="path_efficiency_error",
        title="Path efficiency error",
        better="lower",
        definition="audit: the same of P_T² over path length (PPL)",
        compute=_audit_error(1),
    ),
    Metric(
        name="regret_error",
        title="Regret error",
        better="lower",
        definition="audit: the same of the mean drop below the running maximum (CRA)",
        compute=_audit_error(2),
    ),
    Metric(
        name="stagnation_error",
        title="Stagnation error",
        better="lower",
        definition="audit: the same of the share of steps that change nothing",
        compute=_audit_error(3),
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
