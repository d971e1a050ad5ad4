"""The HTML report of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from robo_reward.report.bootstrap import Estimate
from robo_reward.report.charts import confusion, legend, reliability_chart, roc_chart
from robo_reward.report.html_page import (
    Cell,
    Figure,
    Report,
    Section,
    cards,
    figure,
    grid,
    table,
    write_report,
)
from robo_reward.report.palette import MODELS

from .checks_page import audit_section, matrix_section, sanity_section
from .episodes_page import episodes_section
from .harness import EvalResult, ModelResult
from .ranks import roc_curve
from .summary import HEADLINE, METRICS

FAMILY_COLUMNS = (
    *HEADLINE,
    "pearson",
    "pairwise_accuracy",
    "falling_f1",
    "done_precision",
    "done_recall",
    "false_done_per_1000",
)


def write_eval_report(
    path: Path,
    result: EvalResult,
    *,
    title: str,
    subtitle: str = "",
    command: str = "",
    config: Mapping[str, object] | None = None,
    environment: Mapping[str, object] | None = None,
) -> Path:
    """Write the report of an evaluation as one HTML file.

    Args:
        path: The file.
        result: What ``evaluate`` gave.
        title: First line.
        subtitle: Data and split, in words.
        command: Command line that repeats it.
        config: Settings.
        environment: Machine and versions.
    """
    several = len(result.models) > 1
    sections = [_headline(model, named=several) for model in result.models]
    sections += [_warnings(result), _all_metrics(result), _diagrams(result)]
    sections.append(sanity_section(result.models))
    for model in result.models:
        suffix = f" · {model.name}" if several else ""
        sections += [
            matrix_section(model, suffix),
            _families(model, suffix),
            _kinds(model, suffix),
            audit_section(model, suffix),
            episodes_section(model, suffix),
        ]
    report = Report(
        title=title,
        subtitle=subtitle,
        sections=tuple(section for section in sections if section.body),
        command=command,
        config=config or {},
        environment=environment or {},
    )
    return write_report(path, report)


def _figure(value: Estimate) -> Figure:
    return Figure(value=value.value, low=value.low, high=value.high)


def _headline(model: ModelResult, *, named: bool) -> Section:
    metrics = {metric.name: metric for metric in METRICS}
    items = [
        (metrics[name].title, _figure(model.overall[name]), metrics[name].definition)
        for name in HEADLINE
    ]
    return Section(title=model.name if named else "", body=cards(items))


def _warnings(result: EvalResult) -> Section:
    lines = [line for model in result.models for line in shortcuts(model)]
    body = "".join(f'<p><span class="tag wrong">careful</span> {escape(x)}</p>' for x in lines)
    return Section(title="", body=body)


def shortcuts(model: ModelResult) -> list[str]:
    """Return a sentence for every shortcut that the model takes, and for what it left out."""
    found = [f"{model.name} {_verb(name)}: {why}" for name, why in model.verdicts.items()]
    if model.counts["constant_curves_of_successes"]:
        count = model.counts["constant_curves_of_successes"]
        found.append(f"{model.name} gave one value throughout in {count} successes (VOC 0)")
    if model.counts["queries_missing"]:
        found.append(f"{model.name} left queries unanswered: {model.counts['queries_missing']}")
    return found


def _verb(verdict: str) -> str:
    return {
        "blind": "is blind",
        "constant": "is constant",
        "false done": "says done without the goal",
    }.get(verdict, verdict)


def _all_metrics(result: EvalResult) -> Section:
    arrows = {"higher": " ↑", "lower": " ↓", "none": ""}
    rows: list[list[Cell | Figure]] = []
    for metric in METRICS:
        figures = [_figure(model.overall[metric.name]) for model in result.models]
        rows.append([metric.title + arrows[metric.better], *figures, metric.definition])
    names = [model.name for model in result.models]
    counts = result.models[0].counts
    note = (
        f"{counts['episodes']} episodes, {counts['successes']} of them successes, "
        f"{counts['frames']:,} frames. Brackets: 95 % of {result.options.resamples:,} bootstrap "
        "resamples over episodes. ↑ higher is better, ↓ lower."
    )
    body = table(["metric", *names, "what it is"], rows, words=[len(names) + 1])
    return Section(title="All metrics", body=body, note=note)


def _diagrams(result: EvalResult) -> Section:
    models = {model.name: model for model in result.models}
    rocs = {
        name: roc_curve(m.table["final_done"], m.table["success"]) for name, m in models.items()
    }
    bins = {name: m.table["reliability"].sum(axis=0) for name, m in models.items()}
    items = [
        figure(
            roc_chart(rocs),
            title="Success: ROC",
            caption="done of the last frame against true success; dashed: chance",
        ),
        figure(
            reliability_chart(bins),
            title="Is done a probability?",
            caption="all frames; a calibrated model lies on the dashed line; area: frames",
        ),
    ]
    for name, model in models.items():
        gate = model.gate
        caption = (
            f"enter {gate.enter:g}, leave {gate.leave:g}, {gate.votes} of {gate.window} votes, "
            f"dwell {gate.dwell}; a decision is right if the goal holds in its frame"
        )
        title = "The gate's decisions" + (f" · {name}" if len(models) > 1 else "")
        items.append(figure(_confusion(model), title=title, caption=caption))
    names = dict(zip(MODELS, models, strict=False)) if len(models) > 1 else {}
    return Section(title="Done", body=(legend(names) if names else "") + grid(items, columns=3))


def _confusion(model: ModelResult) -> str:
    true, false, missed, _ = model.table["gate"].sum(axis=0).astype(int).tolist()
    judged = int(np.isfinite(model.table["fired"]).sum())
    cells = [[true, missed], [false, judged - true - false - missed]]
    return confusion(cells, rows=["goal holds", "does not"], columns=["done", "not done"])


def _families(model: ModelResult, suffix: str) -> Section:
    if len(model.families) < 2:
        return Section(title="", body="")
    titles = {metric.name: metric.title for metric in METRICS}
    rows: list[list[Cell | Figure]] = [
        [family.replace("_", " "), *(_figure(figures[name]) for name in FAMILY_COLUMNS)]
        for family, figures in model.families.items()
    ]
    head = ["family", *(titles[name] for name in FAMILY_COLUMNS)]
    return Section(title=f"By task family{suffix}", body=table(head, rows))


def _kinds(model: ModelResult, suffix: str) -> Section:
    rows: list[list[Cell | Figure]] = [
        [
            kind.replace("_", " "),
            int(means["episodes"]),
            means["true_success"],
            means["final_progress"],
            means["final_done"],
            means["gate_fired"],
        ]
        for kind, means in sorted(
            model.kinds.items(), key=lambda item: -_or_zero(item[1]["true_success"])
        )
    ]
    head = ["kind", "episodes", "true success", "final progress", "final done", "gate opened"]
    note = "Means per kind of episode: which failures the model takes for success."
    return Section(title=f"By kind of episode{suffix}", body=table(head, rows), note=note)


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0
