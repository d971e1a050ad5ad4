"""Joins marks and frames: which frames show the end of a step, and which show its beginning."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from robo_reward.frames import Frame
from robo_reward.query import Mark
from robo_reward.transport.stream import Arrival

RING_S = 4.0
RING_BYTES = 64 * 1024 * 1024
FROZEN_AFTER = 30
SILENT_PERIODS = 3.0
SILENT_AT_LEAST_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The frames of a mark.

    Attributes:
        newest: One frame per camera of the mark, captured at or after the end of the step.
        reference: One frame per camera for the end of the previous scored step; empty without one.
        misalignment_s: How long after the end of the step the latest of them was captured, seconds.
        age_s: Age of the oldest newest frame now, seconds.
        uncertainty_s: How wrong the misalignment may be (clocks of two machines), seconds.
    """

    newest: tuple[Frame, ...]
    reference: tuple[Frame, ...]
    misalignment_s: float
    age_s: float
    uncertainty_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Why there are no frames for a mark.

    Attributes:
        reason: ``NO_FRAME`` or ``STALE``, as in ``signals.REASONS``.
        detail: One sentence.
        final: Whether no frame that is still to come can change it.
    """

    reason: Literal["NO_FRAME", "STALE"]
    detail: str
    final: bool


class FrameJoiner:
    """Keeps the last frames of each camera and answers marks; thread-safe.

    A camera's own stream is joined by capture time: the first frame at or after the mark's time,
    not later than ``max_age_s`` after it. A rendered scene is joined by the transition that its
    frames are tagged with, because there the frame of a step exists and is exactly one.

    Args:
        ring_s: How long frames are kept, seconds; tagged frames are bounded by bytes alone.
        ring_bytes: How much is kept per camera.
        frozen_after: Equal frames in a row after which a camera counts as frozen; 0 for never.

    Example:
        >>> joiner = FrameJoiner()
        >>> joiner.cameras()
        ()
    """

    def __init__(
        self,
        *,
        ring_s: float = RING_S,
        ring_bytes: int = RING_BYTES,
        frozen_after: int = FROZEN_AFTER,
    ) -> None:
        self._ring_s = ring_s
        self._ring_bytes = ring_bytes
        self._frozen_after = frozen_after
        self._rings: dict[str, _Ring] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._changed = threading.Condition()

    def put(self, arrival: Arrival) -> None:
        """Keep a frame and wake whoever waits. This is an ``on_frame`` of a subscriber."""
        camera = arrival.frame.header.camera
        with self._changed:
            ring = self._rings.get(camera)
            if ring is None:
                ring = self._rings[camera] = _Ring(self._ring_s, self._ring_bytes)
            ring.put(arrival)
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener(camera)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(camera)`` after every frame, in the thread that brought it."""
        with self._changed:
            self._listeners.append(listener)

    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras seen so far."""
        with self._changed:
            return tuple(sorted(self._rings))

    def latest(self, camera: str) -> Arrival | None:
        """Return the newest frame of a camera, or ``None``."""
        with self._changed:
            ring = self._rings.get(camera)
            return ring.items[-1] if ring is not None and ring.items else None

    def join(self, mark: Mark, *, offset_ns: int = 0) -> Joined | Missing:
        """Look for the frames of a mark without waiting.

        Args:
            mark: Its times are on the asker's wall clock.
            offset_ns: The asker's wall clock minus ours, nanoseconds.
        """
        with self._changed:
            return self._join(mark, offset_ns)

    def wait(self, mark: Mark, *, timeout_s: float, offset_ns: int = 0) -> Joined | Missing:
        """Look for the frames of a mark and wait for those that may still come."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                result = self._join(mark, offset_ns)
                left = deadline - time.monotonic()
                if isinstance(result, Joined) or result.final or left <= 0:
                    return result
                self._changed.wait(timeout=left)

    def _join(self, mark: Mark, offset_ns: int) -> Joined | Missing:
        newest: list[Arrival] = []
        reference: list[Arrival] = []
        for camera in mark.cameras:
            ring = self._rings.get(camera)
            if ring is None or not ring.items:
                return _no_frame(f"camera {camera!r} has sent nothing yet")
            found = ring.find(mark, offset_ns)
            if isinstance(found, Missing):
                return ring.silence(camera) or found
            if self._frozen_after and found.tag is None and ring.repeats >= self._frozen_after:
                text = f"camera {camera!r} is frozen: {ring.repeats} equal frames in a row"
                return Missing(reason="STALE", detail=text, final=True)
            newest.append(found)
            if mark.t_from_ns:
                before = ring.find_reference(mark, found, offset_ns)
                if isinstance(before, Missing):
                    return before
                reference.append(before)
        return _joined(mark, newest, reference, offset_ns)


class _Ring:
    """The last frames of one camera, oldest first."""

    def __init__(self, ring_s: float, ring_bytes: int) -> None:
        self._ring_ns = int(ring_s * 1e9)
        self._ring_bytes = ring_bytes
        self.items: deque[Arrival] = deque()
        self.nbytes = 0
        self.repeats = 0
        self._period_s = 0.0

    def put(self, arrival: Arrival) -> None:
        if self.items:
            last = self.items[-1]
            self.repeats = self.repeats + 1 if last.frame.id == arrival.frame.id else 0
            gap_s = (arrival.received_mono_ns - last.received_mono_ns) / 1e9
            self._period_s = gap_s if not self._period_s else 0.9 * self._period_s + 0.1 * gap_s
        self.items.append(arrival)
        self.nbytes += len(arrival.frame.data)
        while len(self.items) > 1 and self._too_much():
            self.nbytes -= len(self.items.popleft().frame.data)

    def find(self, mark: Mark, offset_ns: int) -> Arrival | Missing:
        """Return the newest frame of a mark."""
        if self.items[-1].tag is not None:
            return self._find_tagged(mark)
        return self._find_at(mark.t_to_ns - offset_ns, mark)

    def find_reference(self, mark: Mark, newest: Arrival, offset_ns: int) -> Arrival | Missing:
        """Return the frame that ended the previous scored step; ``newest`` ends this one."""
        if newest.tag is None:
            return self._find_at(mark.t_from_ns - offset_ns, mark)
        for arrival in reversed(self.items):
            tag = arrival.tag
            if tag is None or (tag.env, tag.episode) != (mark.env, mark.episode):
                continue
            # Stamps and marks are of one clock here, that of the simulator.
            if tag.step < mark.step and arrival.frame.header.wall_ns <= mark.t_from_ns:
                return arrival
        return _no_frame(f"no frame before step {mark.step} is kept any more", final=True)

    def silence(self, camera: str) -> Missing | None:
        """Say so where nothing has come for three periods."""
        if self.items[-1].tag is not None:
            return None  # a simulator gives frames when it steps and not by the clock
        silent_s = (time.monotonic_ns() - self.items[-1].received_mono_ns) / 1e9
        if silent_s <= max(SILENT_AT_LEAST_S, SILENT_PERIODS * self._period_s):
            return None
        text = f"camera {camera!r} has sent nothing for {silent_s:.1f} s"
        return Missing(reason="STALE", detail=text, final=False)

    def _find_tagged(self, mark: Mark) -> Arrival | Missing:
        want = (mark.env, mark.episode, mark.step)
        for arrival in reversed(self.items):
            tag = arrival.tag
            if tag is not None and (tag.env, tag.episode, tag.step) == want:
                return arrival
        return _no_frame(f"no frame of env {want[0]}, episode {want[1]}, step {want[2]} yet")

    def _find_at(self, t_ns: int, mark: Mark) -> Arrival | Missing:
        found: Arrival | None = None
        for arrival in reversed(self.items):
            if arrival.local_wall_ns < t_ns:
                break
            found = arrival
        if found is None:
            return _no_frame("no frame captured since the end of the step yet")
        if found.uncertainty_ns > mark.max_age_s * 1e9:
            text = f"clock: offset known to {found.uncertainty_ns / 1e9:.3f} s only"
            return _no_frame(text)
        late_s = (found.local_wall_ns - t_ns) / 1e9
        if late_s > mark.max_age_s:
            text = f"first frame came {late_s:.3f} s after the step (at most {mark.max_age_s:g} s)"
            return _no_frame(text, final=True)
        return found

    def _too_much(self) -> bool:
        if self.nbytes > self._ring_bytes:
            return True
        newest, oldest = self.items[-1], self.items[0]
        return oldest.tag is None and (newest.local_wall_ns - oldest.local_wall_ns > self._ring_ns)


def _no_frame(detail: str, *, final: bool = False) -> Missing:
    return Missing(reason="NO_FRAME", detail=detail, final=final)


def _joined(
    mark: Mark, newest: Sequence[Arrival], reference: Sequence[Arrival], offset_ns: int
) -> Joined:
    late_ns = [
        0 if each.tag is not None else each.local_wall_ns - (mark.t_to_ns - offset_ns)
        for each in newest
    ]
    return Joined(
        newest=tuple(each.frame for each in newest),
        reference=tuple(each.frame for each in reference),
        misalignment_s=max(late_ns, default=0) / 1e9,
        age_s=max((each.age_s() for each in newest), default=0.0),
        uncertainty_s=max((each.uncertainty_ns for each in newest), default=0) / 1e9,
    )
