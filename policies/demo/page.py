"""What the demo shows in the end: the plot and the report, with what they do not prove."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from robo_reward.report import (
    Figure,
    Report,
    Section,
    TrainingRow,
    plot_training,
    write_report,
)
from robo_reward.report.html_page import Cell, cards, figure, picture, table

from ..records import Improvement

TITLE = "True success is never shown to the learner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that the report tells.

    Attributes:
        result: What the learning gave.
        task: What the robot should do.
        seed: Of the run.
        watched: Evaluation episodes of one point of the plot.
        seconds: From the start of the nodes to the end of the film.
        gif: The film of the final policy.
        film_note: Which episode it shows.
        plot: The plot of the iterations.
        notes: What the numbers do not say by themselves, one sentence each.
        counts: Questions, answers and losses of the reward node.
        command: The command line that gives it again.
        config: Settings, plain values.
        environment: Machine and versions, plain values.
    """

    result: Improvement
    task: str
    seed: int
    watched: int
    seconds: float
    gif: Path
    film_note: str
    plot: Path
    notes: Sequence[str]
    counts: Mapping[str, int]
    command: str
    config: Mapping[str, object]
    environment: Mapping[str, object]


def draw_plot(path: Path, result: Improvement, *, seed: int) -> Path:
    """Draw true success and model return per iteration; iteration 0 is the base policy.

    Both ends of true success are the large evaluations; what lies between is a few episodes each.
    """
    rows = [
        TrainingRow(iteration=0, seed=seed, true_success=result.before.rate, model_return=math.nan)
    ]
    last = result.rows[-1].iteration if result.rows else 0
    rows += [
        TrainingRow(
            iteration=row.iteration,
            seed=seed,
            true_success=result.after.rate if row.iteration == last else row.true_success,
            model_return=row.model_return,
            model_success=row.model_done_rate,
        )
        for row in result.rows
    ]
    return plot_training(path, rows, title=TITLE)


def write_page(path: Path, story: Story) -> Path:
    """Write the report, one file with everything inside."""
    result = story.result
    return write_report(
        path,
        Report(
            title="robo-reward: the demo",
            subtitle=f"“{story.task}”, learned from a camera. Seed {story.seed}.",
            sections=(
                Section(title="", body=_numbers(story)),
                Section(
                    title="The final policy, and what the model saw",
                    body=figure(
                        picture(story.gif, alt="an episode beside its signals"),
                        caption=story.film_note,
                    ),
                ),
                Section(
                    title="The iterations",
                    note="True success, which the learner is never shown, above what it is paid. "
                    f"Its first and last points are {result.after.episodes} episodes each, "
                    f"those between {story.watched}.",
                    body=figure(picture(story.plot, alt="true success and model return")),
                ),
                Section(title="What this is, and what it is not", body=_list(story.notes)),
                Section(title="Iteration by iteration", body=_rows(result)),
                Section(title="The reward node's answers", body=_counts(story.counts)),
            ),
            command=story.command,
            config=story.config,
            environment=story.environment,
        ),
    )


def _numbers(story: Story) -> str:
    result = story.result
    before, after = result.before, result.after
    words = f"% of {after.episodes} episodes, 95 % interval"
    return cards(
        [
            ("true success before", _percent(before.rate, before.interval), words),
            ("true success after", _percent(after.rate, after.interval), words),
            ("iterations", Figure(value=len(result.rows)), _work(result)),
            ("seconds", Figure(value=story.seconds), "nodes and evaluations included"),
        ]
    )


def _percent(rate: float, ends: tuple[float, float]) -> Figure:
    return Figure(value=100 * rate, low=100 * ends[0], high=100 * ends[1])


def _work(result: Improvement) -> str:
    if not result.rows:
        return ""
    last = result.rows[-1]
    return f"{last.episodes} episodes, {last.steps:,} steps"


def _rows(result: Improvement) -> str:
    head = ("iteration", "model return", "done, as the model sees it", "true success", "steps", "s")
    rows: list[list[Cell | Figure]] = [["0", None, None, result.before.rate, 0, 0]]
    rows += [
        [
            str(row.iteration),
            row.model_return,
            row.model_done_rate,
            row.true_success,
            row.steps,
            round(row.seconds),
        ]
        for row in result.rows
    ]
    return table(head, rows)


def _counts(counts: Mapping[str, int]) -> str:
    return table(("what", "number"), [[name, value] for name, value in counts.items()])


def _list(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"
