"""The columns of the table: what the metrics need of one episode as one model saw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.episode import QUALITY_RANK, Episode
from robo_reward.gate_config import GateConfig
from robo_reward.report.bootstrap import Table
from robo_reward.shaping.audit import AUDIT, audit
from robo_reward.shaping.outcome import fire_frame, gate_outcome
from robo_reward.shaping.reliability import BINS, reliability

from . import metrics
from .ranks import is_constant
from .scoring import EpisodeScores, never_true


def episode_row(
    episode: Episode,
    scores: EpisodeScores,
    *,
    gate: Callable[[str], GateConfig],
    fired: int | None,
    group: float,
    gives_done: bool = True,
) -> dict[str, NDArray[np.float64]]:
    """Return what the metrics need of one episode: column → scalar or fixed-size array.

    Args:
        episode: The recording with its truth.
        scores: What the model said.
        gate: Operating point of the done gate for an instruction.
        fired: Frame at which the done gate decided, or ``None``.
        group: Number of the episode's task family.
        gives_done: Whether the model judges ``done`` at all: who does not is no gate that missed.
    """
    success = math.nan if episode.success is None else float(episode.success)
    progress = scores.forward.progress
    won = success == 1.0
    row: dict[str, object] = {
        "success": success,
        "group": group,
        "quality": math.nan if episode.quality is None else float(QUALITY_RANK[episode.quality]),
        "voc": metrics.voc(progress) if won else math.nan,
        "vroc": metrics.vroc(scores.backward) if won and len(scores.backward) else math.nan,
        # Who gives no progress has no curve that could be flat.
        "constant": float(is_constant(progress)) if np.isfinite(progress).any() else math.nan,
        "final_progress": progress[-1],
        "curve": metrics.curve_summary(progress),
        "final_done": scores.forward.done[-1],
        "gate_enter": gate(episode.instruction).enter,
        "drop": _drop(scores) if won else math.nan,
        "margin": metrics.diagonal_margin(float(progress[-1]), scores.other_tasks)
        if won
        else math.nan,
        "spread": _spread(scores, "grammar"),
        "spread_held_out": _spread(scores, "held_out"),
        "rejected": _rejected(episode, scores, gate),
        "audit": audit(progress),
        "voc_truth": metrics.voc(episode.progress)
        if won and episode.progress is not None
        else math.nan,
        **_against_truth(episode, scores),
        **_gate(episode, scores, fired, gives_done=gives_done),
    }
    return {name: np.asarray(value, np.float64) for name, value in row.items()}


def _drop(scores: EpisodeScores) -> float:
    finals = [curves.progress[-1] for curves in scores.wrong.values()]
    return metrics.mismatch_drop(float(scores.forward.progress[-1]), finals)


def _spread(scores: EpisodeScores, kind: str) -> float:
    return metrics.wording_spread(scores.wordings.get(kind, ()))


def _rejected(
    episode: Episode, scores: EpisodeScores, gate: Callable[[str], GateConfig]
) -> NDArray[np.float64]:
    """Return how many never-true instructions the gate let be, and how many were asked, ``(2,)``.

    A curve without any score is not counted: nothing was rejected there.
    """
    never = never_true(episode)
    asked = [
        (text, curves.done)
        for text, curves in scores.wrong.items()
        if text in never and np.isfinite(curves.done).any()
    ]
    closed = [fire_frame(done, gate=gate(text)) is None for text, done in asked]
    return np.array([sum(closed), len(asked)], np.float64)


def _against_truth(episode: Episode, scores: EpisodeScores) -> dict[str, object]:
    truth = episode.progress
    swapped = scores.pair_contrastive + scores.swapped_contrastive
    row: dict[str, object] = {
        "pearson": math.nan,
        "mae": math.nan,
        "rubric_error": math.nan,
        "curve_truth": np.full(3, math.nan),
        "audit_truth": np.full(len(AUDIT), math.nan),
        "direction": np.zeros(2),
        "trend": np.zeros(6),
        "antisymmetry": float(np.abs(swapped).mean()) if len(swapped) else math.nan,
    }
    if truth is None:
        return row
    change = truth[scores.pair_ends] - truth[scores.pair_starts]
    asked = np.concatenate([scores.pair_contrastive, scores.swapped_contrastive])
    row["pearson"] = metrics.alignment(scores.forward.progress, truth)
    row["curve_truth"] = metrics.curve_summary(truth)
    row["mae"] = metrics.mean_finite(np.abs(scores.forward.progress - truth))
    said = metrics.rubric(float(scores.forward.progress[-1]))
    row["rubric_error"] = abs(said - metrics.rubric(float(truth[-1]), success=episode.success))
    row["audit_truth"] = audit(truth)
    row["direction"] = np.array(metrics.direction_counts(asked, np.concatenate([change, -change])))
    row["trend"] = np.array(metrics.trend_counts(scores.pair_delta, change))
    return row


def _gate(
    episode: Episode, scores: EpisodeScores, fired: int | None, *, gives_done: bool
) -> dict[str, object]:
    truth, done = episode.done, scores.forward.done
    if truth is None or not gives_done:
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
