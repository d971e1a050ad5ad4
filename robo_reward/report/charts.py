"""The diagrams of a report: curves of one episode, ROC, reliability, confusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .palette import MODELS
from .svg import Chart

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """What is drawn of one episode of T frames.

    Attributes:
        progress: Predicted progress ``(T,)``.
        done: Predicted done ``(T,)``.
        truth: True progress ``(T,)``, or ``None``.
        wrong: False instruction → (frames, progress at them).
        fired: Frame at which the gate decided "done", or ``None``.
    """

    progress: ArrayLike
    done: ArrayLike
    truth: ArrayLike | None = None
    wrong: Mapping[str, tuple[ArrayLike, ArrayLike]] = field(default_factory=dict)
    fired: int | None = None


def episode_curves(curves: Curves) -> str:
    """Draw an episode's curves; frame t stands below the middle of its picture in a film strip.

    The side margins are half a picture of an eight-picture strip of the same width.
    """
    progress = _floats(curves.progress)
    last = max(1, len(progress) - 1)
    frames = list(range(len(progress)))
    chart = Chart("signals over the frames of the episode", x=(0, last), y=(0, 1), height=170)
    chart.y_ticks([0, 0.5, 1], ["0", "½", "1"])
    chart.x_ticks([0, last], ["frame 0", str(last)])
    done = _floats(curves.done)
    chart.area(frames, done, kind="done")
    chart.line(frames, done, kind="done", style="thin")
    if curves.truth is not None:
        chart.line(frames, _floats(curves.truth), kind="truth", style="dash")
    for xs, ys in curves.wrong.values():
        chart.line(_floats(xs), _floats(ys), kind="wrong", style="thin")
    chart.line(frames, progress, kind="progress")
    if curves.fired is not None:
        chart.upright(min(curves.fired, last), kind="done", label="gate")
    return chart.svg()


def legend(names: Mapping[str, str]) -> str:
    """Return a line of coloured words: class of the colour → word."""
    words = [f'<span class="key {kind}">{escape(word)}</span>' for kind, word in names.items()]
    return f'<p class="legend">{"".join(words)}</p>'


def roc_chart(curves: Mapping[str, tuple[Floats, Floats]]) -> str:
    """Draw ROC curves: name → (false positive rate, true positive rate)."""
    chart = _square("ROC curve: true against false positives")
    chart.line([0, 1], [0, 1], kind="truth", style="dash")
    for kind, (false, true) in zip(MODELS, curves.values(), strict=False):
        chart.line(_floats(false), _floats(true), kind=kind)
    _axis_words(chart, "false positive rate", "true positive rate")
    return chart.svg()


def reliability_chart(counts: Mapping[str, Floats]) -> str:
    """Draw reliability diagrams: name → ``(bins, 3)`` frames, sum of probabilities, sum of truths.

    The area of a dot grows with the number of frames behind it.
    """
    chart = _square("reliability diagram: share of truths against predicted done")
    chart.line([0, 1], [0, 1], kind="truth", style="dash")
    for kind, bins in zip(MODELS, counts.values(), strict=False):
        filled = bins[bins[:, 0] > 0]
        if not len(filled):
            continue
        weight = filled[:, 0] / filled[:, 0].sum()
        confidence = _floats(filled[:, 1] / filled[:, 0])
        share = _floats(filled[:, 2] / filled[:, 0])
        chart.line(confidence, share, kind=kind, style="thin")
        chart.dots(confidence, share, kind=kind, radii=[2 + 12 * math.sqrt(w) for w in weight])
    _axis_words(chart, "predicted done", "share truly done")
    return chart.svg()


def confusion(
    cells: Sequence[Sequence[int]], *, rows: Sequence[str], columns: Sequence[str]
) -> str:
    """Return a table of counts, shaded by the share of its row.

    Args:
        cells: Counts, one inner sequence per row.
        rows: Names of the truth.
        columns: Names of the decision.
    """
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in columns)
    lines = []
    for name, counts in zip(rows, cells, strict=True):
        total = max(1, sum(counts))
        body = "".join(f'<td style="--share:{count / total:.3f}">{count}</td>' for count in counts)
        lines.append(f"<tr><th scope=row>{escape(name)}</th>{body}</tr>")
    return f'<table class="confusion"><tr><td></td>{head}</tr>{"".join(lines)}</table>'


def heat_map(values: Floats, *, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Return a table of numbers in [0, 1], each shaded by its value; NaN is a dash on no shade.

    Args:
        values: ``(rows, columns)``.
        rows: Names at the left.
        columns: Names on top.
    """
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in columns)
    lines = []
    for name, line in zip(rows, values.tolist(), strict=True):
        body = "".join(
            f'<td style="--share:{value:.3f}">{value:.2f}</td>'
            if math.isfinite(value)
            else '<td style="--share:0">–</td>'
            for value in line
        )
        lines.append(f"<tr><th scope=row>{escape(name)}</th>{body}</tr>")
    return (
        '<div class="scroll"><table class="confusion heat">'
        f"<tr><td></td>{head}</tr>{''.join(lines)}</table></div>"
    )


def _square(title: str) -> Chart:
    chart = Chart(title, x=(0, 1), y=(0, 1), width=330, height=310, margins=(38, 12, 14, 42))
    chart.y_ticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "½", "", "1"])
    chart.x_ticks([0, 0.5, 1], ["0", "½", "1"])
    return chart


def _axis_words(chart: Chart, below: str, beside: str) -> None:
    chart.text(below, x=chart.width / 2 + 12, y=chart.height - 8, anchor="middle")
    chart.text(beside, x=44, y=9)


def _floats(values: ArrayLike) -> list[float]:
    floats: list[float] = np.asarray(values, np.float64).tolist()
    return floats
