"""What a run has done so far, kept so that a kill at any moment costs one batch at the most.

A file of framed records: length, CRC-32, msgpack. A record that is torn or damaged ends the file;
everything before it counts. Several workers write a file each; a later run reads all of them.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from robo_reward.closing import Closing
from robo_reward.datasets.labels import LabelRow

PATTERN = "journal-*.bin"
SYNC_EVERY_S = 1.0
"""A power cut costs what was written since the last sync; a kill costs nothing that was written."""
_HEAD = struct.Struct("<II")
_LONGEST = 256 * 1024 * 1024


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The rows of the ``number``-th batch of an episode."""

    episode: int
    number: int
    rows: list[LabelRow]


class End(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An episode is finished: with ``batches`` batches, or skipped for a reason."""

    episode: int
    batches: int
    skipped: str = ""


Record = Batch | End
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


@dataclass(slots=True)
class Progress:
    """What the journals of a folder hold.

    Attributes:
        ends: Episode → how it ended.
        batches: Episode → where its batches stand, by their number.
        rows: Number of rows in them.
    """

    ends: dict[int, End] = field(default_factory=dict)
    batches: dict[int, dict[int, tuple[Path, int]]] = field(default_factory=dict)
    rows: int = 0

    def next_batch(self, episode: int) -> int:
        """Return the number of the first batch that is not there."""
        known = self.batches.get(episode, {})
        return next(number for number in range(len(known) + 1) if number not in known)

    def read(self, episode: int) -> list[LabelRow]:
        """Return the rows of a finished episode in order; none of one that was skipped."""
        end = self.ends[episode]
        if end.skipped:
            return []
        places = self.batches.get(episode, {})
        rows: list[LabelRow] = []
        for number in range(end.batches):
            path, offset = places[number]
            with path.open("rb") as file:
                file.seek(offset)
                record = _next(file.read(_HEAD.size), file)
            assert isinstance(record, Batch)
            rows.extend(record.rows)
        return rows


def read_journals(folder: Path) -> Progress:
    """Read every journal of a folder; a torn tail is left out."""
    found = Progress()
    for path in sorted(folder.glob(PATTERN)):
        for offset, _, record in _records(path):
            if isinstance(record, End):
                found.ends.setdefault(record.episode, record)
            elif record.number not in found.batches.setdefault(record.episode, {}):
                found.batches[record.episode][record.number] = (path, offset)
                found.rows += len(record.rows)
    return found


class Journal(Closing):
    """Appends to one file; what a crash left unfinished at its end is cut off first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        end = 0
        if path.exists():
            for _, end, _ in _records(path):  # noqa: B007 - the last one is what is wanted
                pass
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by ``close``
        self._file.truncate(end)
        self._size = end
        self._synced_s = time.monotonic()

    def add(self, record: Record) -> None:
        """Append a record; it survives a kill of this process from now on.

        Raises:
            OSError: The disk is full; the file ends with the record before this one.
        """
        data = msgspec.msgpack.encode(record)
        whole = _HEAD.pack(len(data), zlib.crc32(data)) + data
        left = memoryview(whole)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(whole)
        if time.monotonic() - self._synced_s > SYNC_EVERY_S:
            self.sync()

    def sync(self) -> None:
        """Make everything survive a power cut too."""
        os.fsync(self._file.fileno())
        self._synced_s = time.monotonic()

    def close(self) -> None:
        """Sync and close; may be called twice."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()


def _records(path: Path) -> Iterator[tuple[int, int, Record]]:
    """Yield begin, end and content of every whole record up to the first that is not."""
    with path.open("rb") as file:
        while True:
            offset = file.tell()
            try:
                record = _next(file.read(_HEAD.size), file)
            except ValueError:
                return
            yield offset, file.tell(), record


def _next(head: bytes, file: object) -> Record:
    """Decode one record; ``ValueError`` where there is no whole one."""
    if len(head) < _HEAD.size:
        raise ValueError("no record")
    size, checksum = _HEAD.unpack(head)
    data: bytes = file.read(size) if size <= _LONGEST else b""  # type: ignore[attr-defined]
    if len(data) != size or zlib.crc32(data) != checksum:
        raise ValueError("a torn record")
    return _decoder.decode(data)
