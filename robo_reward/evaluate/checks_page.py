"""Parts of the report that say what a model really looks at: sanity, task matrix, audit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from robo_reward.report.charts import heat_map
from robo_reward.report.html_page import Cell, Figure, Section, figure, number, table
from robo_reward.shaping.audit import AUDIT

from .harness import ModelResult
from .sanity import CLIPS, MAX_OPENED, ClipResult


def sanity_section(models: Sequence[ModelResult]) -> Section:
    """Return the table of sanity clips, models side by side; empty where none could be made."""
    asked = [model for model in models if model.sanity]
    if not asked:
        return Section(title="", body="")
    rows: list[list[Cell | Figure]] = [
        [
            clip.name.replace("_", " "),
            *(_answer(model.sanity[clip.name]) for model in asked),
            f"{'≥' if clip.at_least else '≤'} {clip.limit:g}",
            f"{clip.words}; {clip.expectation}",
        ]
        for clip in CLIPS
    ]
    said = "".join(
        f"<p><b>{escape(model.name)}</b>: "
        f"{escape(', '.join(model.verdicts) or 'no shortcut was seen')}</p>"
        for model in asked
    )
    head = ["clip", *(model.name for model in asked), "must be", "what is shown and asked"]
    note = (
        f"{max(result.episodes for result in asked[0].sanity.values())} successes, changed so that "
        "the right answer is known. Figures are means over clips; where the goal holds in no "
        f"frame, the gate may open in at most {MAX_OPENED:.0%} of them."
    )
    body = said + table(head, rows, words=[len(head) - 1])
    return Section(title="Sanity clips", body=body, note=note)


def _answer(result: ClipResult) -> str:
    mark = {True: "✓", False: "✗", None: "–"}[result.holds]
    gate = f" · gate {result.opened:.0%}" if result.opened > 0 else ""
    return f"{mark} {number(result.value)}{gate}"


def matrix_section(model: ModelResult, suffix: str) -> Section:
    """Return the heat map of final progress by task asked and task done."""
    matrix = model.matrix
    if len(matrix.videos) < 2 and not np.isfinite(matrix.other_things).any():
        return Section(title="", body="")
    rows = [*matrix.tasks, "own task, other things"]
    values = np.vstack([matrix.progress, matrix.other_things[None]])
    chart = heat_map(
        values,
        rows=[name.replace("_", " ") for name in rows],
        columns=[name.replace("_", " ") for name in matrix.videos],
    )
    margin = model.overall["diagonal_margin"]
    caption = (
        f"diagonal margin {number(margin.value)} [{number(margin.low)}, {number(margin.high)}] "
        f"over {int(matrix.counts.sum())} successful videos; a dash: no sentence known to be false"
    )
    note = (
        "Final progress. Columns: what was done in the video. Rows: the task of the sentence that "
        "was asked; off the diagonal it names things that are not there, so it is surely false."
    )
    body = figure(chart, caption=caption)
    return Section(title=f"Which task is it?{suffix}", body=body, note=note)


def audit_section(model: ModelResult, suffix: str) -> Section:
    """Return the trajectory audit by kind of episode, beside that of the truth."""
    rows: list[list[Cell | Figure]] = []
    for kind, means in model.kinds.items():
        cells = [_beside(means[name], means[f"{name}_true"]) for name in AUDIT]
        rows.append([kind.replace("_", " "), int(means["episodes"]), *cells])
    head = ["kind", "episodes", *(name.replace("_", " ") for name in AUDIT)]
    note = (
        "The model's curves, in brackets the true ones. Max progress: how far it ever got. Path "
        "efficiency: P_T² over the length of the path. Regret: mean distance below the best so "
        "far. Stagnation: share of steps that change progress by less than 0.005."
    )
    return Section(title=f"Trajectory audit{suffix}", body=table(head, rows), note=note)


def _beside(said: float, true: float) -> str:
    return number(said) + (f" ({number(true)})" if math.isfinite(true) else "")
