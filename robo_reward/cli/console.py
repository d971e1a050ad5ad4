"""What a command says while it runs: on stderr, never on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

LINE_EVERY_S = 15.0
REDRAW_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Lines, one progress bar, one status line.

    Attributes:
        quiet: Say nothing at all.
        progress: Show bars and status lines.
    """

    quiet: bool = False
    progress: bool = True

    def say(self, text: str) -> None:
        """Write one line."""
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def bar(self, name: str, *, total: int, unit: str = "it") -> Bar:
        """Start the progress bar of a long loop; a context manager."""
        return Bar(name, total=total, unit=unit, shown=self.progress and not self.quiet)

    def status(self, text: str) -> None:
        """Rewrite the status line of a node; without a terminal nothing is written."""
        if self.progress and not self.quiet and live():
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()


class Bar:
    """``relabel  412/2000 ep  38.2 ep/min  ETA 41 min  dropped 0``.

    On a terminal one line is rewritten; elsewhere a line is written every 15 seconds, so that a log
    file stays short.

    Args:
        name: First word of the line.
        total: Number of items.
        unit: What is counted.
        shown: Whether anything is written.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        total: int,
        unit: str = "it",
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.count = 0
        self.note = ""
        self._shown = shown
        self._live = live()
        self._clock = clock
        self._start = clock()
        self._drawn = self._start - LINE_EVERY_S

    def __enter__(self) -> Bar:
        """Start the clock."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw the last state and leave the line."""
        if self._shown and self.count:
            self._write(last=True)

    def update(self, count: int = 1, *, note: str | None = None) -> None:
        """Count items; ``note`` stands at the end of the line."""
        self.update_to(self.count + count, note=note)

    def update_to(self, count: int, *, note: str | None = None) -> None:
        """Say how many items are done in all."""
        self.count = count
        if note is not None:
            self.note = note
        period = REDRAW_EVERY_S if self._live else LINE_EVERY_S
        if self._shown and self._clock() - self._drawn >= period:
            self._write(last=False)

    def text(self) -> str:
        """Return the line as it would be drawn now."""
        elapsed = self._clock() - self._start
        parts = [f"{self.name}  {self.count}/{self.total} {self.unit}"]
        if self.count and elapsed > 0:
            rate = self.count / elapsed
            per_minute = rate < 1
            parts.append(
                f"{rate * 60:.1f} {self.unit}/min" if per_minute else f"{rate:.1f} {self.unit}/s"
            )
            left = max(0, self.total - self.count) / rate
            parts.append(f"ETA {duration(left)}" if left else f"took {duration(elapsed)}")
        return "  ".join([*parts, self.note] if self.note else parts)

    def _write(self, *, last: bool) -> None:
        self._drawn = self._clock()
        if self._live:
            sys.stderr.write(f"\r\x1b[2K{self.text()}" + ("\n" if last else ""))
        else:
            sys.stderr.write(self.text() + "\n")
        sys.stderr.flush()


def live() -> bool:
    """Whether stderr is a terminal that may be rewritten."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def duration(seconds: float) -> str:
    """Return ``41 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def table(rows: Iterable[Mapping[str, object]], *, markdown: bool = False) -> str:
    """Return rows of the same keys as an aligned table, or as Markdown."""
    lines = list(rows)
    if not lines:
        return ""
    head = list(lines[0])
    cells = [head, *([_cell(row.get(key)) for key in head] for row in lines)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head))]
    if markdown:
        rule = ["-" * width for width in widths]
        return "\n".join(
            f"| {' | '.join(_padded(row, widths))} |" for row in [cells[0], rule, *cells[1:]]
        )
    return "\n".join("  ".join(_padded(row, widths)).rstrip() for row in cells)


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [text.ljust(width) for text, width in zip(row, widths, strict=True)]


def _cell(value: object) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value).replace("\n", " ")
