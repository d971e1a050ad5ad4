"""Small charts as inline SVG: sharp at any size, a few kilobytes, dark mode for nothing.

Colours come from the CSS classes of the page (``style.STYLE``), so that one drawing serves both
schemes. Text keeps its size relative to the chart; charts are drawn narrow enough for a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Point = tuple[float, float]


class Chart:
    """A plot area with axes; everything is given in data units.

    Args:
        title: What a screen reader says.
        x: Range of the horizontal axis.
        y: Range of the vertical axis.
        width: Of the whole drawing, pixels.
        height: Of the whole drawing, pixels.
        margins: Left, top, right, bottom, pixels.

    Example:
        >>> chart = Chart("a line", x=(0, 1), y=(0, 1))
        >>> chart.line([0, 1], [0, 1], kind="progress")
        >>> chart.svg().startswith("<svg")
        True
    """

    def __init__(
        self,
        title: str,
        *,
        x: Point,
        y: Point,
        width: int = 480,
        height: int = 190,
        margins: tuple[int, int, int, int] = (30, 10, 30, 22),
    ) -> None:
        self.title = title
        self.width = width
        self.height = height
        self._x, self._y = x, y
        self._left, self._top = margins[0], margins[1]
        self._right, self._bottom = width - margins[2], height - margins[3]
        self._parts: list[str] = []

    def at(self, x: float, y: float) -> Point:
        """Return where a data point stands, in pixels."""
        (x0, x1), (y0, y1) = self._x, self._y
        across = (x - x0) / (x1 - x0) if x1 != x0 else 0.5
        up = (y - y0) / (y1 - y0) if y1 != y0 else 0.5
        return (
            self._left + across * (self._right - self._left),
            self._bottom - up * (self._bottom - self._top),
        )

    def y_ticks(self, ticks: Sequence[float], labels: Sequence[str] | None = None) -> None:
        """Draw horizontal grid lines with their values at the left."""
        for tick, label in zip(ticks, labels or [f"{t:g}" for t in ticks], strict=True):
            _, y = self.at(self._x[0], tick)
            ends = f'x1="{self._left}" x2="{self._right}" y1="{y:.1f}" y2="{y:.1f}"'
            self._parts.append(f'<line class="grid" {ends}/>')
            self.text(label, x=self._left - 5, y=y + 4, anchor="end")

    def x_ticks(self, ticks: Sequence[float], labels: Sequence[str] | None = None) -> None:
        """Write values below the plot area."""
        for tick, label in zip(ticks, labels or [f"{t:g}" for t in ticks], strict=True):
            x, _ = self.at(tick, self._y[0])
            self.text(label, x=x, y=self._bottom + 15, anchor="middle")

    def line(self, xs: Sequence[float], ys: Sequence[float], *, kind: str, style: str = "") -> None:
        """Draw a line; it is broken where a value is NaN.

        Args:
            xs: Data.
            ys: Data.
            kind: Name of the colour: a signal, ``"wrong"`` or ``"truth"``.
            style: More classes: ``"dash"``, ``"thin"``, ``"step"``.
        """
        for run in _runs(xs, ys):
            points = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in run)
            self._parts.append(f'<polyline class="l {kind} {style}" points="{points}"/>')

    def area(self, xs: Sequence[float], ys: Sequence[float], *, kind: str) -> None:
        """Fill between a line and the bottom."""
        for run in _runs(xs, ys):
            inside = [self.at(x, y) for x, y in run]
            shape = [(inside[0][0], self._bottom), *inside, (inside[-1][0], self._bottom)]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape)
            self._parts.append(f'<polygon class="a {kind}" points="{points}"/>')

    def dots(
        self, xs: Sequence[float], ys: Sequence[float], *, kind: str, radii: Sequence[float] = ()
    ) -> None:
        """Draw points, ``radii`` in pixels."""
        for index, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if math.isfinite(x) and math.isfinite(y):
                cx, cy = self.at(x, y)
                radius = radii[index] if radii else 3.0
                self._parts.append(
                    f'<circle class="d {kind}" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}"/>'
                )

    def upright(self, x: float, *, kind: str, label: str = "") -> None:
        """Draw a vertical mark with a word at its foot."""
        px, _ = self.at(x, self._y[0])
        self._parts.append(
            f'<line class="l {kind} thin" x1="{px:.1f}" x2="{px:.1f}" '
            f'y1="{self._top}" y2="{self._bottom}"/>'
        )
        if label:
            left = px > (self._left + self._right) / 2
            place = px - 4 if left else px + 4
            anchor = "end" if left else "start"
            self.text(label, x=place, y=self._bottom - 6, anchor=anchor, kind=kind)

    def text(self, text: str, *, x: float, y: float, anchor: str = "start", kind: str = "") -> None:
        """Write at a place in pixels."""
        self._parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def svg(self) -> str:
        """Return the drawing."""
        return (
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(self.title)}">' + "".join(self._parts) + "</svg>"
        )


def _runs(xs: Sequence[float], ys: Sequence[float]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append((float(x), float(y)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
