"""The recorder node: frames, actions and scores into one log file per episode.

    python -m robo_reward.nodes.record --cameras camera/front/frame --events episode/events

With ``events`` (an ``EventPublisher`` in the learner) an episode lasts from its start to its end;
without them everything is recorded, in pieces of ``rotate_s``.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robo_reward.datasets.log import LogWriter
from robo_reward.errors import DatasetError
from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.stream import ActionEvent, EndEvent, ScoreEvent, StartEvent
from robo_reward.transport.stream import Arrival, EventSubscriber, FrameSubscriber, Happening

from .diagnostics import Diagnostic, Level
from .measurements import Histogram, Measurement
from .node import Node, node_main
from .parameters import NodeParameters

WINDOW = 64
EARLY_FRAMES = 256
EARLY_BYTES = 32 * 1024 * 1024
"""The last frames are kept: the account of an episode's start may come after its first ones."""
LINGER_S = 0.5
"""How long after its end an episode's frames may still arrive."""
TAGGED_LINGER_S = 5.0
IDLE_S = 0.01
SPARE_BYTES = 64 * 1024 * 1024

Key = tuple[int, int]
"""Environment and episode."""


@dataclass(frozen=True, kw_only=True)
class RecordParameters(NodeParameters):
    """Settings of a recorder."""

    out: Path = Path("recordings")
    """Folder of the recordings; files in it are never written over."""
    cameras: tuple[str, ...] = ("camera/front/frame",)
    """Topics or addresses of the cameras."""
    events: tuple[str, ...] = ()
    """Topics or addresses of the learners that say when episodes begin and end."""
    rotate_s: float = 600.0
    """Without events: length of a file, seconds."""

    def problems(self) -> list[str]:
        """Return everything that is wrong."""
        found = super().problems()
        if not self.cameras and not self.events:
            found.append("cameras or events must be given; there is nothing to record")
        if self.rotate_s <= 0:
            found.append(f"rotate_s must be > 0, got {self.rotate_s:g}")
        return found


@dataclass(slots=True)
class _Open:
    """An episode that is being written."""

    writer: LogWriter
    start_ns: int
    end_ns: int = 2**63
    last_step: int = -1
    seen: dict[str, int] = field(default_factory=dict)

    def covers(self, arrival: Arrival, key: Key) -> bool:
        if arrival.tag is not None:
            return (arrival.tag.env, arrival.tag.episode) == key
        return self.start_ns <= arrival.local_wall_ns <= self.end_ns + int(LINGER_S * 1e9)

    def over(self, now_ns: int) -> bool:
        if now_ns < self.end_ns + int(LINGER_S * 1e9):
            return False
        behind = any(step < self.last_step for step in self.seen.values())
        return not behind or now_ns > self.end_ns + int(TAGGED_LINGER_S * 1e9)

    def write(self, arrival: Arrival) -> None:
        self.writer.frame(
            arrival.frame,
            local_ns=arrival.local_wall_ns,
            tag=arrival.tag,
            dropped=arrival.dropped,
        )
        if arrival.tag is not None:
            self.seen[arrival.frame.header.camera] = arrival.tag.step


class RecordNode(Node):
    """Writes what it is sent; stops writing, and says so, when the disk is full.

    Args:
        parameters: Frozen settings.
    """

    kind = "record"

    def __init__(self, parameters: RecordParameters) -> None:
        super().__init__(parameters)
        self.parameters = parameters
        self.episodes = 0
        self.frames = 0
        self.failed = ""
        self._cameras: list[FrameSubscriber] = []
        self._events: list[EventSubscriber] = []
        self._open: dict[Key, _Open] = {}
        self._early: deque[Arrival] = deque()
        self._early_bytes = 0
        self._tagged: set[str] = set()

    def on_configure(self) -> None:
        """Try the folder, then connect."""
        out = self.parameters.out
        try:
            out.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(out).free
        except OSError as error:
            raise DatasetError(f"cannot record into {out}: {error.strerror}") from error
        if free < SPARE_BYTES:
            raise DatasetError(f"{out} has {free >> 20} MiB left; choose another disk")
        self._cameras = [
            FrameSubscriber(
                self.address(topic), name=self.name, mode="lossless", window=WINDOW, keys=self.keys
            )
            for topic in self.parameters.cameras
        ]
        self._events = [
            EventSubscriber(self.address(topic), name=self.name, keys=self.keys)
            for topic in self.parameters.events
        ]

    def on_step(self) -> None:
        """Write what has come; events first, because they open the files of the frames."""
        busy = [self._take_event(each) for each in self._events]
        busy += [self._take_frame(each) for each in self._cameras]
        self._close_those_over()
        if not any(busy):
            self.stopping.wait(IDLE_S)

    def on_drain(self) -> None:
        """Take what has arrived already."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            busy = [self._take_event(each) for each in self._events]
            busy += [self._take_frame(each) for each in self._cameras]
            if not any(busy):
                return

    def on_cleanup(self) -> None:
        """Disconnect and finish the files."""
        for each in (*self._cameras, *self._events):
            each.close()
        for key in list(self._open):
            self._finish_episode(key)

    def measurements(self) -> Sequence[Measurement | Histogram]:
        """Return what was written and what was dropped."""
        dropped = sum(each.stats().dropped for each in self._cameras)
        return [
            Measurement.counter("recorder_episodes", self.episodes, "Episodes written."),
            Measurement.counter("recorder_frames", self.frames, "Frames written."),
            Measurement.counter("recorder_dropped", dropped, "Frames dropped on the way here."),
        ]

    def status_line(self) -> str:
        """Return what was written so far."""
        if self.failed:
            return f"{self.name}  STOPPED  {self.failed}"
        dropped = sum(each.stats().dropped for each in self._cameras)
        return (
            f"{self.name}  episodes {self.episodes} (+{len(self._open)} open)  "
            f"frames {self.frames}  dropped {dropped}  -> {self.parameters.out}"
        )

    def diagnostics(self) -> list[Diagnostic]:
        """Return disk and streams."""
        if self.failed:
            return [Diagnostic(name="disk", level=Level.ERROR, message=self.failed)]
        found = []
        streams: list[FrameSubscriber | EventSubscriber] = [*self._cameras, *self._events]
        for stream in streams:
            stats = stream.stats()
            if not stats.connected:
                text = stats.why or "nobody answers"
                found.append(Diagnostic(name=stream.address, level=Level.STALE, message=text))
            elif stats.dropped:
                text = f"{stats.dropped} items were dropped; is the disk too slow?"
                found.append(Diagnostic(name=stats.topic, level=Level.WARN, message=text))
        return found

    def _take_event(self, stream: EventSubscriber) -> bool:
        try:
            happening = stream.receive(timeout_s=0.0)
        except Refusal as refusal:
            self.log.warning("%s", refusal)
            return True
        if happening is None:
            return False
        try:
            self._note(happening)
        except OSError as error:
            self._fail(error)
        return True

    def _note(self, happening: Happening) -> None:
        event, now_ns = happening.event, happening.local_wall_ns
        if isinstance(event, StartEvent):
            self._begin(event, now_ns)
            return
        if isinstance(event, ScoreEvent):
            identity = event.score.identity
            found = self._open.get((identity.env, identity.episode))
            if found is not None:
                found.writer.score(event.score, local_ns=now_ns)
            return
        found = self._open.get((event.tag.env, event.tag.episode))
        if found is None:
            return
        if isinstance(event, ActionEvent) and happening.values is not None:
            found.writer.action(happening.values, step=event.tag.step, local_ns=now_ns)
        elif isinstance(event, EndEvent):
            found.writer.end(event, local_ns=now_ns)
            found.end_ns = now_ns
            found.last_step = event.tag.step

    def _begin(self, event: StartEvent, now_ns: int) -> None:
        if self.failed:
            return
        key = (event.tag.env, event.tag.episode)
        if key in self._open:
            return  # told again after the learner's or our own reconnection
        writer = LogWriter(self.parameters.out, name=f"env{key[0]}_episode{key[1]:06d}")
        episode = _Open(writer, now_ns, seen=dict.fromkeys(self._tagged, -1))
        self._open[key] = episode
        writer.start(event, local_ns=now_ns)
        for arrival in self._early:
            if episode.covers(arrival, key):
                episode.write(arrival)
                self.frames += 1

    def _take_frame(self, stream: FrameSubscriber) -> bool:
        try:
            arrival = stream.receive(timeout_s=0.0)
        except Refusal as refusal:
            self.log.warning("%s", refusal)
            return True
        if arrival is None:
            return False
        if arrival.tag is not None:
            self._tagged.add(arrival.frame.header.camera)
        try:
            if not self._events:
                self._rotate(arrival)
            self._write(arrival)
        except OSError as error:
            self._fail(error)
        if self._events and not self.failed:
            self._keep(arrival)
        return True

    def _keep(self, arrival: Arrival) -> None:
        """Remember a frame for an episode whose start has not been heard of yet."""
        self._early.append(arrival)
        self._early_bytes += len(arrival.frame.data)
        while len(self._early) > EARLY_FRAMES or self._early_bytes > EARLY_BYTES:
            self._early_bytes -= len(self._early.popleft().frame.data)

    def _write(self, arrival: Arrival) -> None:
        """Write a frame into every open episode that it belongs to."""
        for key, episode in self._open.items():
            if episode.covers(arrival, key):
                episode.write(arrival)
                self.frames += 1

    def _rotate(self, arrival: Arrival) -> None:
        """Keep one file open where nobody says what an episode is."""
        if self.failed:
            return
        now_ns = arrival.local_wall_ns
        env = arrival.tag.env if arrival.tag is not None else 0
        number = arrival.tag.episode if arrival.tag is not None else self.episodes
        for key, episode in list(self._open.items()):
            old = now_ns - episode.start_ns > self.parameters.rotate_s * 1e9
            if old or (arrival.tag is not None and key[0] == env and key[1] != number):
                self._finish_episode(key)
                number = self.episodes if arrival.tag is None else number
        key = (env, number)
        if key not in self._open:
            writer = LogWriter(self.parameters.out, name=f"env{env}_piece{number:06d}")
            self._open[key] = _Open(writer, now_ns)

    def _close_those_over(self) -> None:
        now_ns = time.time_ns()
        for key in [key for key, each in self._open.items() if each.over(now_ns)]:
            self._finish_episode(key)

    def _finish_episode(self, key: Key) -> None:
        episode = self._open.pop(key)
        try:
            path = episode.writer.close()
        except OSError as error:
            self._fail(error)
            return
        self.episodes += 1
        self.log.info("%s: %d frames", path.name, episode.writer.frames)

    def _fail(self, error: OSError) -> None:
        """Stop recording and keep running: whoever watches the node shall see why."""
        self.failed = f"recording stopped: {error.strerror or error}"
        self.log.error("%s (%s)", self.failed, self.parameters.out)
        for episode in self._open.values():
            episode.writer.abandon()
        self._open.clear()
        self._early.clear()
        self._early_bytes = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return node_main(RecordParameters, RecordNode, argv)


if __name__ == "__main__":
    sys.exit(main())
