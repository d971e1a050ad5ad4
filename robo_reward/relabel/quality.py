"""What the labels say of whole episodes: a ranking, where they failed, and what looks wrong.

For choosing what to learn from, and for finding what to look at; no truth goes in.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from robo_reward.datasets.labels import EpisodeLabels, LabelHead, LabelTable
from robo_reward.shaping.audit import audit

from .rewards import gate_of

RANKING = "episodes.csv"
FALL = 0.3
"""A fall of progress by so much below its best, never made up for, is a failure."""
RISE = 0.1
"""Progress that never gets so far above where it began has not risen."""
FLICKERS = 3
"""A gate that changes its mind so often flickers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One episode.

    Attributes:
        episode: Id.
        index: Place in the dataset.
        frames: Number of rows.
        quality: Path efficiency of progress, P_T² over the length of its path (see
            ``shaping.audit``): 1 for straight to the goal, 0 for nowhere; NaN without progress.
        final_progress: Of the last frame.
        max_progress: How far it ever got.
        regret: Mean distance below the best so far.
        done_at: First frame in which the gate said done; -1 for never.
        failed_at: Frame behind the best one from which it fell and never recovered; -1 for none.
        failed_at_s: The same as seconds from the first frame; NaN without a clock.
        uncertainty: Mean.
        missing: Frames without a score.
        suspicious: ``never rises``, ``done flickers``, ``done without progress``; or empty.
        duplicate_of: An earlier episode with the same pictures, or empty.
    """

    episode: str
    index: int
    frames: int
    quality: float
    final_progress: float
    max_progress: float
    regret: float
    done_at: int
    failed_at: int
    failed_at_s: float
    uncertainty: float
    missing: int
    suspicious: str
    duplicate_of: str


def judge_episodes(table: LabelTable) -> list[Quality]:
    """Return every labelled episode, in the order of the dataset."""
    seen: dict[str, str] = {}
    found = []
    for labels in table:
        name = hashlib.sha256("".join(labels.frame_ids).encode()).hexdigest()
        found.append(_judge(labels, table.head, duplicate_of=seen.get(name, "")))
        seen.setdefault(name, labels.id)
    return found


def ranked(episodes: Iterable[Quality]) -> list[Quality]:
    """Return the best first; those without a figure last, ties in the order of the dataset."""
    return sorted(episodes, key=lambda e: (math.isnan(e.quality), -e.quality, e.index))


def write_ranking(table: LabelTable, folder: Path) -> Path:
    """Write ``episodes.csv``, the best episode first."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[field.name for field in fields(Quality)])
    writer.writeheader()
    writer.writerows(asdict(episode) for episode in ranked(judge_episodes(table)))
    path = folder / RANKING
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text.getvalue(), encoding="utf-8", newline="")
    return draft.replace(path)


def _judge(labels: EpisodeLabels, head: LabelHead, *, duplicate_of: str) -> Quality:
    progress = labels.signals["progress"].astype(np.float64)
    known = np.flatnonzero(np.isfinite(progress))
    best, efficiency, regret, _ = audit(progress)
    is_done = gate_of(labels, head)
    done_at = int(labels.frames[np.argmax(is_done)]) if is_done.any() else -1
    fell = _fell(progress[known])
    row = -1 if fell < 0 else int(known[fell])
    unsure = labels.signals["uncertainty"]
    return Quality(
        episode=labels.id,
        index=labels.index,
        frames=len(labels),
        quality=float(efficiency),
        final_progress=float(progress[known[-1]]) if len(known) else math.nan,
        max_progress=float(best),
        regret=float(regret),
        done_at=done_at,
        failed_at=-1 if row < 0 else int(labels.frames[row]),
        failed_at_s=_seconds(labels, row),
        uncertainty=float(np.nanmean(unsure)) if np.isfinite(unsure).any() else math.nan,
        missing=sum(status != "ok" for status in labels.status),
        suspicious=_suspicious(progress[known], is_done),
        duplicate_of=duplicate_of,
    )


def _fell(progress: np.ndarray) -> int:
    """Return the row at which progress was ``FALL`` below its best for good, or -1."""
    if not len(progress):
        return -1
    below = np.maximum.accumulate(progress) - progress >= FALL
    if not below[-1]:
        return -1
    up = np.flatnonzero(~below)
    return int(up[-1]) + 1 if len(up) else 0


def _seconds(labels: EpisodeLabels, row: int) -> float:
    if row < 0 or labels.stamps_ns[row] < 0:
        return math.nan
    return float(labels.stamps_ns[row] - labels.stamps_ns[0]) / 1e9


def _suspicious(progress: np.ndarray, is_done: np.ndarray) -> str:
    found = []
    if len(progress) and progress.max() - progress[0] < RISE and progress[0] < 1.0 - RISE:
        found.append("never rises")
    if int(np.count_nonzero(np.diff(is_done.astype(int)))) >= FLICKERS:
        found.append("done flickers")
    if is_done.any() and len(progress) and progress.max() < 0.5:
        found.append("done without progress")
    return "; ".join(found)
