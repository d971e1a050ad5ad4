"""What an adaptation leaves behind beside the weights: the model card and the report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from robo_reward.report.charts import Curves, episode_curves, legend
from robo_reward.report.filmstrip import strip_html
from robo_reward.report.html_page import (
    Figure,
    Report,
    Section,
    cards,
    figure,
    grid,
    write_report,
)
from robo_reward.report.palette import MODELS
from robo_reward.report.svg import Chart

from .adapt import Adapted
from .card import git_revision
from .hold_out import Judged

TITLES = {
    "own_error": "progress error, own instruction",
    "order_error": "frames in the wrong order",
    "false_error": "progress error, false instructions",
    "done_error": "done error",
    "total": "total",
}
SHOWN = 6
STRIP = 8

_CARD = """\
---
library_name: robo-reward
license: apache-2.0
tags: [robotics, reward-model, reinforcement-learning]
---
# {name}

A compact reward model of robo-reward, adapted to a task by `robo-reward adapt`.

| | |
|---|---|
| model | `{model}` |
| adapted from | `{base}` |
| demonstrations | {episodes} episodes, {frames:,} frames |
| data hash | `{data}` |
| instructions | {instructions} |
| held out | {held_out} |
| steps | {steps}, weights of step {step} kept |
| git revision | `{revision}` |
| command | `{command}` |

## The check on what was held out

| mean error | before | after |
|---|---|---|
{rows}

{verdict}

A calibration of the base model does not fit this one: run `robo-reward calibrate` again.
"""


def verdict(result: Adapted) -> str:
    """Say in one sentence what came of it."""
    if result.improved:
        return f"Better on what was held out: {result.held_out}."
    return (
        "No step was better than the model as it was, so its weights were kept as they are; "
        "more demonstrations, or other ones, may help."
    )


def write_adapt_card(folder: Path, result: Adapted, *, command: str) -> Path:
    """Write ``README.md`` beside the weights; returns its path."""
    rows = "\n".join(
        f"| {title} | {result.before[name]:.4f} | {result.after[name]:.4f} |"
        for name, title in TITLES.items()
    )
    texts = sorted({one.clip.instruction for one in result.examples})
    path = folder / "README.md"
    path.write_text(
        _CARD.format(
            name=folder.name,
            model=result.model,
            base=result.base,
            episodes=result.episodes,
            frames=result.frames,
            data=result.data,
            instructions="; ".join(texts),
            held_out=result.held_out,
            steps=result.steps,
            step=result.step,
            revision=git_revision(),
            command=command,
            rows=rows,
            verdict=verdict(result),
        )
    )
    return path


def write_adapt_report(
    path: Path,
    result: Adapted,
    *,
    command: str,
    config: Mapping[str, object],
    environment: Mapping[str, object],
) -> Path:
    """Write the HTML report: figures and curves before and after."""
    figures = cards(
        [
            (title, Figure(value=result.after[n]), f"before: {result.before[n]:.3f}")
            for n, title in TITLES.items()
        ]
    )
    sections = (
        Section(title="Held out", body=figures, note=f"{verdict(result)} {result.held_out}."),
        Section(title="Steps", body=_steps(result)),
        Section(title="Episodes", body=_episodes(result), note="Left before, right after."),
    )
    report = Report(
        title=f"Adaptation of {result.base}",
        subtitle=f"{result.model}: {result.episodes} episodes, {result.frames} frames, "
        f"{result.steps} steps in {result.seconds:.0f} s",
        sections=sections,
        command=command,
        config=config,
        environment=environment,
    )
    return write_report(path, report)


def _steps(result: Adapted) -> str:
    steps = list(result.checks)
    top = max(1e-3, *(row[name] for row in result.checks.values() for name in TITLES))
    chart = Chart("held-out errors over the steps", x=(0, max(steps[-1], 1)), y=(0, top))
    chart.y_ticks([0, top], ["0", f"{top:.2f}"])
    chart.x_ticks([0, steps[-1]], ["step 0", str(steps[-1])])
    names = dict(zip(MODELS, TITLES, strict=False))
    for kind, name in names.items():
        chart.line(steps, [result.checks[step][name] for step in steps], kind=kind)
    chart.upright(result.step, kind="done", label="kept")
    return legend({kind: TITLES[name] for kind, name in names.items()}) + figure(chart.svg())


def _episodes(result: Adapted) -> str:
    key = {"progress": "progress", "truth": "label", "done": "done", "wrong": "false instruction"}
    parts = [legend(key)]
    shown = zip(result.examples, result.said_before, result.said_after, strict=True)
    for example, before, after in list(shown)[:SHOWN]:
        step = max(1, -(-len(example.images) // STRIP))
        places = range(0, len(example.images), step)
        strip = strip_html(example.images[::step], frames=places)
        parts.append(f"<h3>{escape(example.clip.instruction)}</h3>")
        parts.append(
            grid([figure(strip + _curves(said, example.clip.progress)) for said in (before, after)])
        )
    return "".join(parts)


def _curves(said: Judged, truth: object) -> str:
    frames = list(range(len(said.progress)))
    return episode_curves(
        Curves(
            progress=said.progress,
            done=said.done,
            truth=truth,  # type: ignore[arg-type]
            wrong={"mean": (frames, said.false.mean(1))},
        )
    )
