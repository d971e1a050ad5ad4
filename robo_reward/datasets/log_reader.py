"""Reads recordings made by the recorder node, one episode at a time."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, DatasetError, require
from robo_reward.frames import Encoding, Frame, FrameHeader
from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.payload import check_frame

from .episode import Episode, Quality
from .log import PART, ActionRecord, EpisodeRecord, FrameRecord, TruthRecord
from .mcap_images import COMPRESSED_IMAGE, IMAGE, octets_of

log = logging.getLogger(__name__)

Scalar = TypeVar("Scalar", bound=np.generic)
MAX_MESSAGE_BYTES = 32 * 1024 * 1024


@dataclass(slots=True)
class Recording:
    """One log file as it was written.

    Attributes:
        path: Where it is.
        frames: Camera name → frames with their records, in the order of the file.
        actions: By step.
        scores: As ``Score.as_dict`` gives them; ``null`` where there is no number.
        start: Begin of the episode.
        end: End of the episode; ``None`` where the recording was cut short.
        truth: What a simulator knew of the episode, where one did.
        complete: Whether the file was finished.
    """

    path: Path
    frames: dict[str, list[tuple[FrameRecord, Frame]]] = field(default_factory=dict)
    actions: dict[int, ActionRecord] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    start: EpisodeRecord | None = None
    end: EpisodeRecord | None = None
    truth: TruthRecord | None = None
    complete: bool = True


class LogReader:
    """The episodes of a folder of recordings and its sub-folders, in the order of their names.

    Iterating reads one file at a time. A file without a single frame, or one that is no recording,
    is skipped, counted and logged.

    Args:
        path: Folder of recordings, or one file.
        instruction: For recordings that were made without one.

    Raises:
        DatasetError: There is nothing of the kind.
    """

    def __init__(self, path: Path, *, instruction: str = "") -> None:
        self._instruction = instruction
        self.skipped = 0
        if path.is_file():
            self.paths = [path]
        else:
            found = [*path.rglob("*.mcap"), *path.rglob(f"*.mcap{PART}")]
            self.paths = sorted(found, key=lambda each: (each.parent, each.name))
        if not self.paths:
            raise DatasetError(f"no recordings (*.mcap) in {path}; robo-reward record makes them")

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Episode]:
        """Yield one episode per readable file."""
        for path in self.paths:
            try:
                yield to_episode(read_recording(path), instruction=self._instruction)
            except DatasetError as error:
                self.skipped += 1
                log.warning("skipped: %s", error)


def is_recording(path: Path) -> bool | None:
    """Whether a file was written by the recorder; ``None`` where it cannot be read at all."""
    reader: Any = require("mcap.stream_reader", extra="data")
    records: Any = require("mcap.records", extra="data")
    errors: Any = require("mcap.exceptions", extra="data")
    try:
        with path.open("rb") as file:
            for record in reader.StreamReader(file, record_size_limit=MAX_MESSAGE_BYTES).records:
                # Its first message is the begin of the episode, or the header of a frame.
                if isinstance(record, records.Channel):
                    return bool(record.topic == "/episode" or record.topic.endswith("/header"))
    except (errors.McapError, struct.error, EOFError, OSError):
        return None
    return None


def instruction_of(path: Path) -> str:
    """Return what was asked, from the begin of a file; empty where nothing was.

    Raises:
        DatasetError: It is not there or not a recording.
    """
    start = read_recording(path, only_start=True).start
    return start.instruction if start is not None else ""


def read_recording(path: Path, *, only_start: bool = False) -> Recording:
    """Read one file as far as it goes.

    Args:
        path: The file.
        only_start: Stop as soon as the begin of the episode is known.

    Raises:
        DatasetError: It is not there or not a recording.
    """
    reader: Any = require("mcap.stream_reader", extra="data")
    records: Any = require("mcap.records", extra="data")
    errors: Any = require("mcap.exceptions", extra="data")
    found = Recording(path)
    topics: dict[int, str] = {}
    pending: dict[str, FrameRecord] = {}
    try:
        with path.open("rb") as file:
            stream = reader.StreamReader(
                file, record_size_limit=MAX_MESSAGE_BYTES, validate_crcs=True
            )
            for record in stream.records:
                if isinstance(record, records.Channel):
                    topics[record.id] = record.topic
                elif isinstance(record, records.Message):
                    _take(found, topics.get(record.channel_id, ""), record.data, pending)
                    if only_start and found.start is not None:
                        break
    except (errors.McapError, reader.CRCValidationError, struct.error, EOFError) as error:
        # The tail that a crash left unfinished: everything before it is good.
        found.complete = False
        if not found.frames and found.start is None:
            raise DatasetError(f"{path} is not a recording: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise DatasetError(f"{path} holds what the recorder does not write: {error}") from error
    return found


def to_episode(recording: Recording, *, instruction: str = "") -> Episode:
    """Line up frames and actions.

    The frame of a state is the one that is tagged with it; else the one that the score of that step
    names; else the last one captured before the next action was sent. Without actions
    every frame of the first camera is a state.

    Raises:
        DatasetError: There is no frame, or cameras change their size.
    """
    if not recording.frames:
        raise DatasetError(f"{recording.path} holds no frames")
    states = states_of(recording)
    length = min(len(rows) for rows in states.values())
    if not length:
        raise DatasetError(f"{recording.path}: a camera has no frame for the first state")
    states = {camera: rows[:length] for camera, rows in states.items()}
    start, end = recording.start, recording.end
    success = end.success if end is not None else None
    truth = recording.truth or TruthRecord()
    quality: Quality | None = truth.quality
    if quality is None and success is not None:
        quality = "success" if success else "failure"
    return Episode(
        id=recording.path.name.split(".mcap")[0],
        instruction=(start.instruction if start is not None else "") or instruction,
        images={camera: _pixels(recording.path, rows) for camera, rows in states.items()},
        progress=_up_to(length, truth.progress, np.float32),
        done=_up_to(length, truth.done, np.bool_),
        actions=_actions(recording, length),
        success=success,
        quality=quality,
        meta=_meta(recording, states),
    )


def _take(found: Recording, topic: str, data: bytes, pending: dict[str, FrameRecord]) -> None:
    root, _, leaf = topic.rpartition("/")
    if topic == "/action":
        action = msgspec.json.decode(data, type=ActionRecord)
        found.actions[action.step] = action
    elif topic == "/truth":
        found.truth = msgspec.json.decode(data, type=TruthRecord)
    elif topic == "/score":
        found.scores.append(msgspec.json.decode(data, type=dict[str, Any]))
    elif topic == "/episode":
        record = msgspec.json.decode(data, type=EpisodeRecord)
        if record.what == "start":
            found.start = record
        else:
            found.end = record
    elif leaf == "header":
        pending[root] = msgspec.json.decode(data, type=FrameRecord)
    elif leaf in ("compressed", "image") and root in pending:
        kind = COMPRESSED_IMAGE if leaf == "compressed" else IMAGE
        header = pending.pop(root)
        frame = _frame(header, octets_of(data, kind=kind))
        found.frames.setdefault(header.camera, []).append((header, frame))


def _frame(record: FrameRecord, data: bytes) -> Frame:
    encoding: Encoding = "jpeg" if record.encoding == "jpeg" else "rgb8"
    header = FrameHeader(
        camera=record.camera,
        sequence=record.sequence,
        mono_ns=record.mono_ns,
        wall_ns=record.wall_ns,
        id=record.id,
        encoding=encoding,
        shape=record.shape,
    )
    return Frame(header, data)


Rows = list[tuple[FrameRecord, Frame]]


def states_of(recording: Recording) -> dict[str, Rows]:
    """Choose one frame per state and camera; a list ends where a state has none."""
    if not recording.actions:
        return _by_first_camera(recording)
    last = max(recording.actions)
    used = _used_by_scores(recording)
    chosen: dict[str, Rows] = {}
    for camera, rows in recording.frames.items():
        tagged = {record.tag.step: (record, frame) for record, frame in rows if record.tag}
        by_id = {record.id: (record, frame) for record, frame in rows}
        chosen[camera] = []
        for step in range(last + 1):
            row = tagged.get(step) if tagged else None
            if row is None and not tagged:
                named = next((by_id[name] for name in used.get(step, ()) if name in by_id), None)
                row = named or _last_before(rows, _end_of(recording, step))
            if row is None:
                break
            chosen[camera].append(row)
    return chosen


def _by_first_camera(recording: Recording) -> dict[str, Rows]:
    names = sorted(recording.frames)
    chosen = {names[0]: recording.frames[names[0]]}
    times = [record.local_ns for record, _ in chosen[names[0]]]
    for camera in names[1:]:
        rows = recording.frames[camera]
        chosen[camera] = [min(rows, key=lambda row: abs(row[0].local_ns - t)) for t in times]
    return chosen


def _used_by_scores(recording: Recording) -> dict[int, list[str]]:
    used: dict[int, list[str]] = {}
    for score in recording.scores:
        identity = score.get("identity") or {}
        if score.get("status") == "ok":
            used[int(identity.get("step", -1))] = list(identity.get("frames") or ())
    return used


def _end_of(recording: Recording, step: int) -> int:
    """When a state was over: the next action was sent, or the episode ended."""
    following = recording.actions.get(step + 1)
    if following is not None:
        return following.local_ns
    return recording.end.local_ns if recording.end is not None else 2**63


def _last_before(rows: Rows, t_ns: int) -> tuple[FrameRecord, Frame] | None:
    before = [row for row in rows if row[0].local_ns <= t_ns]
    return max(before, key=lambda row: row[0].local_ns) if before else None


def _actions(recording: Recording, length: int) -> NDArray[np.float32] | None:
    steps = range(1, length)
    if not recording.actions or any(step not in recording.actions for step in steps):
        return None
    rows = [recording.actions[step].values for step in steps]
    if len({len(row) for row in rows}) > 1:
        raise DatasetError(f"{recording.path}: actions of different lengths")
    return np.asarray(rows, np.float32) if rows else None


def _up_to(
    length: int, values: Sequence[Any] | None, dtype: type[Scalar]
) -> NDArray[Scalar] | None:
    """Truth of the states that are there: a log that was cut short may have lost the others."""
    return None if values is None else np.asarray(values[:length], dtype)


def _pixels(path: Path, rows: Rows) -> NDArray[np.uint8]:
    shapes = {frame.header.shape for _, frame in rows}
    if len(shapes) > 1:
        raise DatasetError(f"{path}: a camera changed its size: {sorted(shapes)}")
    try:
        for _, frame in rows:
            check_frame(frame.header.shape, frame.header.encoding, frame.data)
        return np.stack([frame.image for _, frame in rows])
    except (ConfigError, Refusal) as error:
        raise DatasetError(f"{path}: {error}") from error


def _meta(recording: Recording, states: dict[str, Rows]) -> dict[str, Any]:
    start, end = recording.start, recording.end
    first = next(iter(states.values()))
    return {
        **(start.meta if start is not None else {}),
        **(recording.truth.meta if recording.truth is not None else {}),
        "file": recording.path.name,
        "env": start.env if start is not None else 0,
        "episode": start.episode if start is not None else 0,
        "reason": end.reason if end is not None else "",
        "complete": recording.complete and end is not None,
        "frames": {camera: [frame.id for _, frame in rows] for camera, rows in states.items()},
        "wall_ns": [record.local_ns for record, _ in first],
        "scores": recording.scores,
    }
