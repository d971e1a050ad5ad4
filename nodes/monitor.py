"""The monitor: a table of camera streams in the terminal. It never makes a camera wait."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from typing import Any

from robo_reward.transport.keys import Keys
from robo_reward.transport.stream import Arrival, FrameSubscriber

from .diagnostics import FrequencyCheck
from .node import Node
from .parameters import NodeParameters

REDRAW_S = 0.5
COLUMNS = ("stream", "rate_hz", "age_ms", "dropped", "size", "encoding", "kB", "clock_ms", "state")
STALE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class MonitorParameters(NodeParameters):
    """Settings of a monitor."""

    cameras: tuple[str, ...] = ("camera/front/frame",)
    """Topics or addresses of the cameras."""
    duration_s: float = 0.0
    """Stop after this many seconds; 0 for when told to."""


class MonitorNode(Node):
    """Watches streams; sees what a slow consumer would see, the newest frame of each.

    Args:
        parameters: Frozen settings.
    """

    kind = "monitor"

    def __init__(self, parameters: MonitorParameters) -> None:
        super().__init__(parameters)
        self.parameters = parameters
        self._streams: list[_Stream] = []
        self._started_s = time.monotonic()
        self._drawn_s = 0.0
        self._lines = 0

    def on_configure(self) -> None:
        """Connect to all."""
        self._streams = [
            _Stream(topic, self.address(topic), self.name, self.keys)
            for topic in self.parameters.cameras
        ]
        self._started_s = time.monotonic()

    def on_step(self) -> None:
        """Redraw twice a second."""
        self.stopping.wait(0.1)
        now = time.monotonic()
        if self.parameters.duration_s and now - self._started_s > self.parameters.duration_s:
            self.stop()
        if now - self._drawn_s >= REDRAW_S and sys.stderr.isatty():
            self._drawn_s = now
            self._draw()

    def on_cleanup(self) -> None:
        """Disconnect; the last table stays."""
        for stream in self._streams:
            stream.subscriber.close()

    def status_line(self) -> str:
        """Return nothing on a terminal, where the table is; else one stream after the other."""
        if sys.stderr.isatty():
            return ""
        return "  ".join(
            f"{row['stream']} {row['rate_hz']} Hz {row['state']}" for row in self.rows()
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per stream, by the names in ``COLUMNS``."""
        return [stream.row() for stream in self._streams]

    def _draw(self) -> None:
        rows = [[str(row[name]) for name in COLUMNS] for row in self.rows()]
        widths = [max(len(cell) for cell in column) for column in zip(COLUMNS, *rows, strict=True)]
        width = shutil.get_terminal_size().columns - 1
        lines = [
            "  ".join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True))[:width]
            for cells in (list(COLUMNS), *rows)
        ]
        up = f"\x1b[{self._lines}F" if self._lines else ""
        sys.stderr.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        sys.stderr.flush()
        self._lines = len(lines)


class _Stream:
    def __init__(self, topic: str, address: str, name: str, keys: Keys | None) -> None:
        self.topic = topic
        self.last: Arrival | None = None
        self.rate = FrequencyCheck(topic, min_hz=0.0)
        self.subscriber = FrameSubscriber(
            address, name=name, mode="newest", on_frame=self._note, keys=keys
        )

    def row(self) -> dict[str, Any]:
        stats, last = self.subscriber.stats(), self.last
        age_s = last.age_s() if last is not None else float("nan")
        state = "ok" if stats.connected and age_s < STALE_S else "STALE"
        if not stats.connected:
            state = stats.why or "nobody answers"
        height, width = last.frame.header.shape[:2] if last is not None else (0, 0)
        return {
            "stream": stats.topic or self.topic,
            "rate_hz": round(self.rate.rate_hz(), 1),
            "age_ms": round(1e3 * age_s, 1) if last is not None else None,
            "dropped": stats.dropped,
            "size": f"{width}x{height}",
            "encoding": last.frame.header.encoding if last is not None else "",
            "kB": round(len(last.frame.data) / 1e3, 1) if last is not None else 0.0,
            "clock_ms": round(1e3 * stats.offset_s, 3),
            "state": state,
        }

    def _note(self, arrival: Arrival) -> None:
        self.last = arrival
        self.rate.tick()
