"""The training plot: true success above, what the model paid below, so that hacking shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import require

from .palette import ON_LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, LINE = "#15191f", "#59626e", "#d9dde3"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """What one run measured at one iteration.

    Attributes:
        iteration: Number of the iteration; 0 is before training.
        seed: Seed of the run.
        true_success: Share of evaluation episodes that truly succeed, [0, 1].
        model_return: Mean return of an episode under the model's reward.
        model_success: Share of episodes that the model's own done ended; NaN where not measured.
    """

    iteration: int
    seed: int
    true_success: float
    model_return: float
    model_success: float = float("nan")


Pick = Callable[[TrainingRow], float]


def plot_training(path: Path, rows: Sequence[TrainingRow], *, title: str = "") -> Path:
    """Draw true success and model return per iteration, one line per seed and their mean.

    Args:
        path: The ``.png`` (or ``.svg``, ``.pdf``) to write.
        rows: Any order; the mean is taken at iterations that every seed has.
        title: Above the upper panel; empty for none.

    Raises:
        MissingDependency: Matplotlib is not installed.
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("plot_training needs at least one row")
    require("matplotlib", extra="viz")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        # No pyplot: nothing global is touched, and a notebook's back end stays as it is.
        figure = Figure(figsize=(7.2, 5.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        upper, lower = figure.subplots(2, 1, sharex=True)
        _panel(upper, rows, lambda row: 100 * row.true_success, ON_LIGHT["done"], "true success, %")
        _model_success(upper, rows)
        upper.set_ylim(-3, 103)
        upper.set_yticks([0, 25, 50, 75, 100])
        _panel(lower, rows, lambda row: row.model_return, ON_LIGHT["progress"], "model return")
        lower.set_xlabel("iteration", color=SOFT)
        lower.margins(x=0.02)
        if title:
            upper.set_title(title, loc="left", color=INK, pad=26)
        figure.savefig(path)
    return path


_STYLE: Any = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "white",
}


def _panel(axes: Axes, rows: Sequence[TrainingRow], pick: Pick, colour: str, name: str) -> None:
    seeds, iterations, values = _matrix(rows, pick)
    mean = values.mean(axis=0)
    if len(seeds) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(iterations, low, high, color=colour, alpha=0.13, linewidth=0)
        for line in values:
            axes.plot(iterations, line, color=colour, alpha=0.35, linewidth=0.9)
    axes.plot(iterations, mean, color=colour, linewidth=2.4, solid_capstyle="round")
    axes.plot(iterations[-1], mean[-1], "o", color=colour, markersize=6)
    axes.annotate(
        f"{mean[-1]:.0f}" if abs(mean[-1]) >= 10 else f"{mean[-1]:.2f}",
        (iterations[-1], mean[-1]),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontweight="bold",
    )
    many = f"mean of {len(seeds)} seeds; band: lowest to highest" if len(seeds) > 1 else ""
    axes.text(0, 1.04, name, transform=axes.transAxes, color=colour, fontweight="bold")
    axes.text(1, 1.04, many, transform=axes.transAxes, color=SOFT, ha="right", fontsize=9)


def _model_success(axes: Axes, rows: Sequence[TrainingRow]) -> None:
    _, iterations, values = _matrix(rows, lambda row: 100 * row.model_success)
    if np.isnan(values).all():
        return
    axes.plot(iterations, values.mean(axis=0), color=SOFT, linewidth=1.4, linestyle=(0, (3, 2)))
    words = "- - as the model's own done sees it"
    axes.text(0.225, 1.04, words, transform=axes.transAxes, color=SOFT, fontsize=9)


def _matrix(
    rows: Sequence[TrainingRow], pick: Pick
) -> tuple[list[int], list[int], NDArray[np.float64]]:
    found = {(row.seed, row.iteration): pick(row) for row in rows}
    seeds = sorted({seed for seed, _ in found})
    everywhere = set.intersection(*({i for s, i in found if s == seed} for seed in seeds))
    # Seeds that have got to different places have at least their common beginning.
    iterations = sorted(everywhere) or sorted({i for _, i in found})
    values = [[found.get((seed, i), np.nan) for i in iterations] for seed in seeds]
    return seeds, iterations, np.array(values)
