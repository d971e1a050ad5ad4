"""Diagnostics in the manner of ROS ``diagnostic_updater``: a level, a sentence and numbers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum


class Level(IntEnum):
    """How bad it is; the numbers are those of ``diagnostic_msgs/DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding.

    Attributes:
        name: What was looked at, for example ``"camera/front: frequency"``.
        level: OK, WARN, ERROR or STALE.
        message: One sentence.
        values: The numbers behind it.
    """

    name: str
    level: Level
    message: str
    values: dict[str, float | int | str] = field(default_factory=dict)


def worst(findings: Sequence[Diagnostic], *, name: str) -> Diagnostic:
    """Return the first finding of the highest level; OK when there is none."""
    if not findings:
        return Diagnostic(name=name, level=Level.OK, message="nothing to report")
    return max(findings, key=lambda finding: finding.level)


SETTLE_S = 2.0
"""A rate is not judged before this."""


class FrequencyCheck:
    """Whether events come as often as they should (``FrequencyStatus`` of ROS).

    Args:
        name: Name of the finding.
        min_hz: Slowest rate that is right.
        max_hz: Fastest rate that is right; 0 for no limit.
        tolerance: Share by which the rate may leave that range before it is a warning.
        window_s: Time over which the rate is taken, seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        min_hz: float,
        max_hz: float = 0.0,
        tolerance: float = 0.1,
        window_s: float = 5.0,
    ) -> None:
        self.name = name
        self._min_hz = min_hz * (1.0 - tolerance)
        self._max_hz = max_hz * (1.0 + tolerance) if max_hz else float("inf")
        self._window_s = window_s
        self._ticks: deque[float] = deque()
        self._started_s = time.monotonic()
        self.count = 0

    def tick(self, *, now_s: float | None = None) -> None:
        """Count one event."""
        now = time.monotonic() if now_s is None else now_s
        self.count += 1
        self._ticks.append(now)
        self._forget(now)

    def rate_hz(self, *, now_s: float | None = None) -> float:
        """Return events a second over the window (or since the start, where that is shorter)."""
        now = time.monotonic() if now_s is None else now_s
        self._forget(now)
        span = min(self._window_s, max(now - self._started_s, 1e-9))
        return len(self._ticks) / span

    def finding(self, *, now_s: float | None = None) -> Diagnostic:
        """Say whether the rate is right."""
        now = time.monotonic() if now_s is None else now_s
        rate = self.rate_hz(now_s=now)
        values: dict[str, float | int | str] = {"rate_hz": round(rate, 2), "events": self.count}
        if self.count == 0:
            return Diagnostic(
                name=self.name, level=Level.ERROR, message="no event yet", values=values
            )
        if not self._ticks:
            text = f"no event for {self._window_s:g} s"
            return Diagnostic(name=self.name, level=Level.STALE, message=text, values=values)
        if now - self._started_s < SETTLE_S:
            return Diagnostic(name=self.name, level=Level.OK, message="started", values=values)
        if rate < self._min_hz:
            text = f"{rate:.1f} Hz, too slow (at least {self._min_hz:.1f} Hz)"
            return Diagnostic(name=self.name, level=Level.WARN, message=text, values=values)
        if rate > self._max_hz:
            text = f"{rate:.1f} Hz, too fast (at most {self._max_hz:.1f} Hz)"
            return Diagnostic(name=self.name, level=Level.WARN, message=text, values=values)
        return Diagnostic(name=self.name, level=Level.OK, message=f"{rate:.1f} Hz", values=values)

    def _forget(self, now_s: float) -> None:
        while self._ticks and now_s - self._ticks[0] > self._window_s:
            self._ticks.popleft()


class StampCheck:
    """Whether stamps are neither from the future nor old (``TimeStampStatus`` of ROS).

    Args:
        name: Name of the finding.
        max_age_s: Oldest stamp that is right when it arrives, seconds.
        max_ahead_s: How far a stamp may lie in the future, seconds.
        stale_after_s: Silence after which the stream is stale, seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        max_age_s: float = 1.0,
        max_ahead_s: float = 0.05,
        stale_after_s: float = 3.0,
    ) -> None:
        self.name = name
        self._max_age_s = max_age_s
        self._max_ahead_s = max_ahead_s
        self._stale_after_s = stale_after_s
        self._last_s: float | None = None
        self._oldest_s = -float("inf")
        self._newest_s = float("inf")

    def tick(self, age_s: float, *, now_s: float | None = None) -> None:
        """Note the age of one stamp, seconds."""
        self._last_s = time.monotonic() if now_s is None else now_s
        self._oldest_s = max(self._oldest_s, age_s)
        self._newest_s = min(self._newest_s, age_s)

    def finding(self, *, now_s: float | None = None) -> Diagnostic:
        """Say whether the stamps since the last finding were right; starts over."""
        now = time.monotonic() if now_s is None else now_s
        oldest, newest = self._oldest_s, self._newest_s
        self._oldest_s, self._newest_s = -float("inf"), float("inf")
        if self._last_s is None:
            return Diagnostic(name=self.name, level=Level.STALE, message="no stamp yet")
        silent = now - self._last_s
        values: dict[str, float | int | str] = {"silent_s": round(silent, 3)}
        if silent > self._stale_after_s:
            text = f"nothing new for {silent:.1f} s"
            return Diagnostic(name=self.name, level=Level.STALE, message=text, values=values)
        if newest < -self._max_ahead_s:
            text = f"a stamp lies {-newest:.3f} s in the future; are the clocks set?"
            return Diagnostic(name=self.name, level=Level.ERROR, message=text, values=values)
        if oldest > self._max_age_s:
            text = f"a stamp was {oldest:.3f} s old (at most {self._max_age_s:g} s)"
            return Diagnostic(name=self.name, level=Level.WARN, message=text, values=values)
        return Diagnostic(name=self.name, level=Level.OK, message="stamps are right", values=values)
