"""A page over a labelled dataset: its spread, its best and worst episodes, what looks wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.datasets.labels import EpisodeLabels, LabelTable
from robo_reward.datasets.recorded import Dataset, Recorded
from robo_reward.errors import DatasetError
from robo_reward.report import Figure, Report, Section, write_report
from robo_reward.report.charts import Curves, episode_curves, legend
from robo_reward.report.filmstrip import strip_html
from robo_reward.report.html_page import Cell, cards, grid, number, table

from .joined import joined
from .quality import Quality, judge_episodes, ranked

PAGE = "report.html"
SHOWN = 6
"""Episodes shown at either end, and of those that look wrong."""
STRIP = 8
"""Pictures of a film strip."""


def write_page(
    dataset: Dataset, labels: LabelTable, folder: Path, *, truth: Mapping[str, Any] | None = None
) -> Path:
    """Write ``report.html``; only the episodes that are shown are decoded.

    Args:
        dataset: What was labelled.
        labels: Its table.
        folder: Of the run.
        truth: What ``compare_with_truth`` found.
    """
    episodes = judge_episodes(labels)
    order = ranked(episodes)
    odd = [episode for episode in order if episode.suspicious][:SHOWN]
    best = order[: min(SHOWN, (len(order) + 1) // 2)]
    worst = order[len(best) :][-SHOWN:][::-1]
    drawn = _draw(dataset, labels, {e.index: e for e in (*best, *worst, *odd)})
    head = labels.head
    sections = [
        Section(title="", body=_cards(episodes)),
        Section(title="How far episodes get", body=_spread(episodes)),
        *_truth(truth or {}),
        *_skipped(head.skipped),
        _shown("Best episodes", best, drawn),
        _shown("Worst episodes", worst, drawn),
        _shown("Episodes that look wrong", odd, drawn),
    ]
    report = Report(
        title=f"Labels of {dataset.path.name}",
        subtitle=f"{len(episodes)} episodes ({head.kind}), {head.model}",
        sections=tuple(section for section in sections if section.body),
        command=f"robo-reward relabel {dataset.path} --write report",
        config={
            "dataset": head.dataset,
            "model": head.model,
            "prompt": head.prompt,
            "calibration": head.calibration,
            "every": head.every,
        },
    )
    return write_report(folder / PAGE, report)


def _cards(episodes: Sequence[Quality]) -> str:
    done = [float(episode.done_at >= 0) for episode in episodes]
    frames = sum(episode.frames for episode in episodes)
    missing = sum(episode.missing for episode in episodes)
    return cards(
        [
            ("episodes", Figure(value=len(episodes)), f"{frames:,} labelled frames"),
            ("quality", Figure(value=_mean([e.quality for e in episodes])), "P² over its path"),
            ("done", Figure(value=_mean(done)), "share in which the gate opens"),
            ("no score", Figure(value=missing / max(1, frames)), "share of frames"),
        ]
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _spread(episodes: Sequence[Quality]) -> str:
    final = np.array([episode.final_progress for episode in episodes])
    counts, edges = np.histogram(final[np.isfinite(final)], bins=10, range=(0.0, 1.0))
    rows: list[list[Cell | Figure]] = [
        [f"{low:.1f}–{high:.1f}", int(count), "█" * round(40 * count / max(1, counts.max()))]
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return table(["progress in the last frame", "episodes", ""], rows)


def _truth(truth: Mapping[str, Any]) -> list[Section]:
    if not truth:
        return []
    rows: list[list[Cell | Figure]] = [
        ["agree", truth["agree"], ""],
        [
            "done, recorded as failure",
            truth["done_but_recorded_as_failure"],
            ", ".join(truth["done_but_failure"]),
        ],
        [
            "not done, recorded as success",
            truth["not_done_but_recorded_as_success"],
            ", ".join(truth["not_done_but_success"]),
        ],
    ]
    note = "What the recording itself says is never written over; this is where the two differ."
    body = table(["", "episodes", "the first ones"], rows, words=[2])
    return [Section(title="Against the recorded success", body=body, note=note)]


def _skipped(skipped: Mapping[str, str]) -> list[Section]:
    if not skipped:
        return []
    rows: list[list[Cell | Figure]] = [[name, why] for name, why in skipped.items()]
    return [Section(title="Not read", body=table(["episode", "why"], rows, words=[1]))]


def _shown(title: str, episodes: Sequence[Quality], drawn: Mapping[int, str]) -> Section:
    body = grid([drawn[episode.index] for episode in episodes if episode.index in drawn])
    if not episodes:
        return Section(title="", body="")
    return Section(title=title, body=legend({"progress": "progress", "done": "done"}) + body)


def _draw(dataset: Dataset, labels: LabelTable, wanted: Mapping[int, Quality]) -> dict[int, str]:
    drawn = {}
    for recorded, rows in joined(dataset, labels):
        if rows.index in wanted:
            drawn[rows.index] = _episode(recorded, rows, wanted[rows.index])
    return drawn


def _episode(recorded: Recorded, labels: EpisodeLabels, quality: Quality) -> str:
    words = [f"quality {number(quality.quality)}", f"{quality.frames} frames"]
    if quality.failed_at >= 0:
        seconds = quality.failed_at_s
        at = f" ({seconds:.1f} s)" if math.isfinite(seconds) else ""
        words.append(f"fails at frame {quality.failed_at}{at}")
    if quality.duplicate_of:
        words.append(f"same pictures as {quality.duplicate_of}")
    fired = np.flatnonzero(labels.frames == quality.done_at)
    curves = Curves(
        progress=labels.signals["progress"],
        done=labels.signals["done"],
        fired=int(fired[0]) if len(fired) else None,
    )
    tag = quality.suspicious or ("done" if quality.done_at >= 0 else "not done")
    colour = "wrong" if quality.suspicious else "done" if quality.done_at >= 0 else "truth"
    return (
        f'<div class="episode"><h3><span>{escape(labels.instructions[-1])}</span>'
        f'<span class="tag {colour}">{escape(tag)}</span></h3>'
        f"<p>{escape(' · '.join([labels.id, *words]))}</p>"
        f"{_strip(recorded, labels)}{episode_curves(curves)}</div>"
    )


def _strip(recorded: Recorded, labels: EpisodeLabels) -> str:
    places = np.unique(np.linspace(0, len(labels) - 1, min(STRIP, len(labels))).round().astype(int))
    wanted = set(labels.frames[places].tolist())
    images = []
    try:
        for instant in recorded.instants(recorded.cameras[:1]):
            if instant.index in wanted:
                images.append(instant.frames[0].image)
            if len(images) == len(wanted):
                break
    except DatasetError as error:
        return f"<p>{escape(str(error))}</p>"
    return strip_html(np.stack(images), frames=sorted(wanted))
