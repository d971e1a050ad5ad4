"""What every kind of capture gives: images with the stamps of their capture."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

from robo_reward.frames import Image
from robo_reward.protocol.stream import Tag
from robo_reward.transport.clock import clock_name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """One image as it was captured.

    Attributes:
        image: ``(H, W, 3) uint8 RGB``.
        mono_ns: Monotonic clock at capture.
        wall_ns: Wall clock at capture.
        clock: The machine whose clocks these are.
        tag: The transition, where a simulator said so.
    """

    image: Image
    mono_ns: int = field(default_factory=time.monotonic_ns)
    wall_ns: int = field(default_factory=time.time_ns)
    clock: str = field(default_factory=clock_name)
    tag: Tag | None = None


def stamps() -> tuple[int, int]:
    """Return the monotonic and the wall clock now, nanoseconds."""
    return time.monotonic_ns(), time.time_ns()


class Capture(Protocol):
    """A source of images. ``close`` may be called twice."""

    lossless: bool
    """Whether every image belongs to a transition and none may be skipped."""
    ended: bool
    """Whether no image will come any more, and that is right so."""

    def read(self, *, timeout_s: float) -> Shot | None:
        """Return the next image, or ``None`` where there is none yet.

        Raises:
            DeviceError: The source is gone; opening it again may help.
            DatasetError: The source cannot be read and never will be.
        """
        ...

    def close(self) -> None:
        """Free the source."""
        ...


class Pace:
    """Keeps a rate without drifting: says when the next turn is due.

    Args:
        rate_hz: Turns a second; 0 for as fast as it goes.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz if rate_hz > 0 else 0.0
        self._due_s = time.monotonic()

    def wait(self, *, timeout_s: float, stop: threading.Event | None = None) -> bool:
        """Wait for the next turn; ``False`` where it is not due within the time-out."""
        delay = self._due_s - time.monotonic()
        if delay > timeout_s:
            time.sleep(timeout_s) if stop is None else stop.wait(timeout_s)
            return False
        if delay > 0:
            time.sleep(delay) if stop is None else stop.wait(delay)
        self.count()
        return True

    def due(self) -> bool:
        """Whether the turn has come; counts it if so."""
        if time.monotonic() < self._due_s:
            return False
        self.count()
        return True

    def count(self) -> None:
        """Set the next turn; after a stall the missed ones are not made up for."""
        self._due_s = max(self._due_s + self._period_s, time.monotonic() - self._period_s)
