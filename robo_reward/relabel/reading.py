"""Decodes ahead of the model: threads read the next episodes while this one is being scored.

What is held is bounded in bytes, whatever the dataset or an episode holds.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from robo_reward.closing import Closing
from robo_reward.datasets.recorded import Instant, Recorded
from robo_reward.errors import ConfigError, DatasetError, RoboRewardError

WAIT_S = 0.2
"""How often a thread that waits looks whether it should stop."""
AHEAD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One episode to be read.

    Attributes:
        episode: The recording.
        cameras: Names; the first ``max_views`` ones where empty.
        max_views: Number of cameras that one query may hold.
        every: Stride.
        first: Number of the first batch to give.
        batch: Instants in a batch.
        last_too: Give the last instant of the episode before all others.
    """

    episode: Recorded
    cameras: tuple[str, ...]
    max_views: int
    every: int
    first: int
    batch: int
    last_too: bool = False


class EpisodeStream:
    """The batches of one episode, as far as they are decoded.

    Attributes:
        wanted: What was asked for.
        cameras: The cameras in use, once the first batch is there.
    """

    def __init__(self, wanted: Wanted, *, limit_bytes: int) -> None:
        self.wanted = wanted
        self.cameras: tuple[str, ...] = ()
        self.last: Instant | None = None
        self._limit = limit_bytes
        self._held = 0
        self._ready: deque[list[Instant]] = deque()
        self._ended = False
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def batches(self, stopped: threading.Event) -> Iterator[list[Instant]]:
        """Yield the batches in order.

        Raises:
            DatasetError: The recording is broken here.
        """
        while True:
            with self._changed:
                while not self._ready and not self._ended:
                    if stopped.is_set():
                        return
                    self._changed.wait(WAIT_S)
                if not self._ready:
                    if self._error is not None:
                        raise self._error
                    return
                batch = self._ready.popleft()
                self._held -= _bytes(batch)
                self._changed.notify_all()
            yield batch

    def fill(self, stopped: threading.Event) -> None:
        """Decode everything; called by a reading thread."""
        try:
            for batch in self._decoded():
                if not self._put(batch, stopped):
                    return
        except Exception as error:  # the formats' libraries raise what they like on broken files
            self._error = error if isinstance(error, RoboRewardError) else _as_ours(self, error)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _decoded(self) -> Iterator[list[Instant]]:
        wanted = self.wanted
        self.cameras = wanted.episode.choose(wanted.cameras, limit=wanted.max_views)
        if wanted.last_too:
            self.last = self._find_last()
        # One batch earlier: its last frame is what the first one is compared with.
        start = max(0, wanted.first - 1) * wanted.batch * wanted.every
        instants = wanted.episode.instants(self.cameras, every=wanted.every, start=start)
        size: tuple[tuple[int, ...], ...] | None = None
        while batch := list(itertools.islice(instants, wanted.batch)):
            for instant in batch:
                shapes = tuple(frame.header.shape for frame in instant.frames)
                if size is not None and shapes != size:
                    raise DatasetError(f"{wanted.episode.id} holds images of different sizes")
                size = shapes
                for frame in instant.frames:
                    _ = frame.image  # decoded here and not in the model's thread
            yield batch
        if size is None:
            raise DatasetError(f"episode {wanted.episode.id} holds no frames")

    def _find_last(self) -> Instant:
        episode, every = self.wanted.episode, self.wanted.every
        start = 0 if episode.length is None else (episode.length - 1) // every * every
        last = None
        for instant in episode.instants(self.cameras, every=every, start=start):
            last = instant
        if last is None:
            raise DatasetError(f"episode {episode.id} holds no frames")
        return last

    def _put(self, batch: list[Instant], stopped: threading.Event) -> bool:
        with self._changed:
            while self._ready and self._held >= self._limit:
                if stopped.is_set():
                    return False
                self._changed.wait(WAIT_S)
            self._ready.append(batch)
            self._held += _bytes(batch)
            self._changed.notify_all()
        return not stopped.is_set()


@dataclass(slots=True)
class _Shared:
    """What the reading threads have in common."""

    wanted: Iterator[Wanted]
    streams: deque[EpisodeStream] = field(default_factory=deque)
    open: int = 0
    exhausted: bool = False
    error: BaseException | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)


class Ahead(Closing):
    """Gives episodes in order while threads decode the ones behind.

    Args:
        wanted: Which episodes; asked for by the reading threads, one at a time.
        threads: How many decode; as many episodes are open at once.
        limit_bytes: Decoded bytes that wait for the model at most, plus one batch a thread.
    """

    def __init__(
        self, wanted: Iterable[Wanted], *, threads: int = 2, limit_bytes: int = AHEAD_BYTES
    ) -> None:
        if threads < 1:
            raise ConfigError(f"decoding needs at least 1 thread, got {threads}")
        self.stopped = threading.Event()
        self._limit = limit_bytes // threads
        self._most = threads
        self._shared = _Shared(iter(wanted))
        self._threads = [
            threading.Thread(target=self._read, name=f"robo-reward-read-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[EpisodeStream]:
        """Yield the episodes in order; each must be read before the next one is asked for."""
        shared = self._shared
        while not self.stopped.is_set():
            with shared.changed:
                while not shared.streams and not shared.exhausted:
                    shared.changed.wait(WAIT_S)
                if shared.error is not None:
                    raise shared.error
                if not shared.streams:
                    return
                stream = shared.streams.popleft()
            yield stream
            with shared.changed:
                shared.open -= 1
                shared.changed.notify_all()

    def close(self) -> None:
        """Stop the threads; may be called twice."""
        self.stopped.set()
        for thread in self._threads:
            thread.join(timeout=30.0)

    def _read(self) -> None:
        while (stream := self._next()) is not None:
            stream.fill(self.stopped)

    def _next(self) -> EpisodeStream | None:
        shared = self._shared
        with shared.changed:
            while shared.open >= self._most and not self.stopped.is_set():
                shared.changed.wait(WAIT_S)
            if self.stopped.is_set() or shared.exhausted:
                return None
            try:
                wanted = next(shared.wanted, None)
            except Exception as error:
                shared.error, wanted = error, None
            if wanted is None:
                shared.exhausted = True
                shared.changed.notify_all()
                return None
            stream = EpisodeStream(wanted, limit_bytes=self._limit)
            shared.streams.append(stream)
            shared.open += 1
            shared.changed.notify_all()
            return stream


def _bytes(batch: list[Instant]) -> int:
    # A frame keeps its bytes as they came beside its pixels.
    frames = [frame for instant in batch for frame in instant.frames]
    return sum(frame.image.nbytes + memoryview(frame.data).nbytes for frame in frames)


def _as_ours(stream: EpisodeStream, error: Exception) -> DatasetError:
    made = DatasetError(f"{stream.wanted.episode.id}: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made
