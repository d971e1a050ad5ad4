"""A report: one HTML file with everything inside, to be opened from a cluster by scp."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from robo_reward.errors import ConfigError

from .style import STYLE

MIME = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}

Cell = str | float | int | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its interval, as it stands in a table.

    Attributes:
        value: NaN is shown as a dash.
        low: Lower end of the interval; NaN hides it.
        high: Upper end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading and what stands below it.

    Attributes:
        title: Plain text; empty for none.
        body: HTML, made by the functions of this folder.
        note: Plain text below the title.
    """

    title: str
    body: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page.

    Attributes:
        title: First line.
        subtitle: What was measured, in one line.
        sections: In order.
        command: The command line that gives this result again; empty for none.
        config: Settings, plain values.
        environment: Machine and versions, plain values.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    command: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)


def write_report(path: Path, report: Report) -> Path:
    """Write a report, whole or not at all.

    Args:
        path: The ``.html`` file.
        report: What to say.

    Returns:
        The path.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(render(report), encoding="utf-8")
    draft.replace(path)
    return path


def render(report: Report) -> str:
    """Return the page as HTML."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body>",
        f'<h1>{escape(report.title)}</h1><p class="soft">{escape(report.subtitle)}</p>',
        *(_section(section) for section in report.sections),
        _origin(report),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def cards(items: Sequence[tuple[str, Figure, str]]) -> str:
    """Return large numbers: (title, figure, one line of explanation)."""
    body = "".join(
        f'<div class="card"><span>{escape(title)}</span><b>{number(figure.value)}</b>'
        f"<small>{interval(figure)}</small><small>{escape(words)}</small></div>"
        for title, figure, words in items
    )
    return f'<div class="cards">{body}</div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell | Figure]], *, words: Sequence[int] = ()
) -> str:
    """Return a table that scrolls sideways on a narrow screen.

    Args:
        head: Names of the columns.
        rows: Text, numbers, or figures with intervals; the first cell names the row.
        words: Indices of columns with sentences in them.
    """
    top = "".join(
        f"<th scope=col{_words(index, words)}>{escape(name)}</th>"
        for index, name in enumerate(head)
    )
    lines = []
    for row in rows:
        cells = [f"<th scope=row>{_cell(row[0])}</th>"]
        for index, value in enumerate(row[1:], start=1):
            cells.append(f"<td{_words(index, words)}>{_cell(value)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def figure(content: str, *, title: str = "", caption: str = "") -> str:
    """Return a chart or picture on a card, with a title and a caption."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    foot = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{head}{content}{foot}</figure>"


def grid(items: Sequence[str], *, columns: int = 2) -> str:
    """Return items side by side where there is room: 2 or 3 columns, 1 on a phone."""
    return f'<div class="grid{columns}">{"".join(items)}</div>'


def picture(path: Path, *, alt: str) -> str:
    """Return an image file as ``<img>`` with its bytes inside.

    Raises:
        ConfigError: The suffix is not that of an image.
    """
    mime = MIME.get(path.suffix.lower())
    if mime is None:
        raise ConfigError(f"{path.name} is no picture; known: {', '.join(MIME)}")
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(alt)}" src="data:{mime};base64,{data}">'


def number(value: float) -> str:
    """Return three digits, or a dash for NaN."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.2f}"
    # Plus 0.0, so that what rounds to nothing has no sign.
    return f"{round(value, 3) + 0.0:.3f}"


def interval(figure: Figure) -> str:
    """Return the interval in brackets, or nothing where there is none."""
    if not (math.isfinite(figure.low) and math.isfinite(figure.high)):
        return ""
    return f"[{number(figure.low)}, {number(figure.high)}]"


def _words(index: int, words: Sequence[int]) -> str:
    return ' class="words"' if index in words else ""


def _cell(value: Cell | Figure) -> str:
    if isinstance(value, Figure):
        ends = interval(value)
        return number(value.value) + (f'<small class="soft">{ends}</small>' if ends else "")
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    return escape(f"{value:,}" if isinstance(value, int) else value)


def _section(section: Section) -> str:
    title = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    note = f'<p class="soft">{escape(section.note)}</p>' if section.note else ""
    return f"<section>{title}{note}{section.body}</section>"


def _origin(report: Report) -> str:
    parts = []
    if report.command:
        parts.append(f"<h2>To repeat it</h2><pre>{escape(report.command)}</pre>")
    for name, values in (("Settings", report.config), ("Machine", report.environment)):
        if values:
            text = json.dumps(values, indent=2, default=str, ensure_ascii=False)
            parts.append(f"<details><summary>{name}</summary><pre>{escape(text)}</pre></details>")
    return "".join(parts)
