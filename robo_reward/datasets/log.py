"""Recordings: one MCAP file per episode, readable by any MCAP viewer and by ``relabel``.

Topics: ``/camera/<name>/compressed`` or ``…/image`` (ROS 2 messages, the bytes as they came),
``/camera/<name>/header`` (what our frame header holds beside them), ``/action``, ``/score``,
``/episode`` and, where a simulator knows it, ``/truth`` (JSON). A file is called ``….mcap.part``
while it is written and is never written over; one that was cut short by a crash is read as far as
it goes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError, require
from robo_reward.frames import Frame
from robo_reward.protocol.stream import EndEvent, StartEvent, Tag
from robo_reward.signals import Score

from .mcap_images import (
    COMPRESSED_IMAGE,
    COMPRESSED_IMAGE_TEXT,
    IMAGE,
    IMAGE_TEXT,
    compressed_image,
    raw_image,
)

SCHEMA_VERSION = 1
CHUNK_BYTES = 64 * 1024
"""A crash costs this and one message at the most; a finished chunk goes to the system at once."""
PART = ".part"


class FrameRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a log keeps of a frame's header beside the ROS message.

    Attributes:
        camera: Name of the camera.
        sequence: Number of the frame in the camera's stream.
        mono_ns: Capture time, monotonic clock of the camera's machine.
        wall_ns: Capture time, wall clock of the camera's machine.
        local_ns: Capture time on the recorder's wall clock; all times of a log compare by it.
        id: Content hash.
        encoding: ``"rgb8"`` or ``"jpeg"``.
        shape: ``(height, width, 3)``.
        dropped: Frames that the recorder was not sent before this one.
        tag: Its transition, where a simulator said so.
    """

    camera: str
    sequence: int
    mono_ns: int
    wall_ns: int
    local_ns: int
    id: str
    encoding: str
    shape: tuple[int, int, int]
    dropped: int = 0
    tag: Tag | None = None


class ActionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An action: sent at ``local_ns``, led to the state ``step``; ``values`` are float32."""

    step: int
    local_ns: int
    values: list[float]


class EpisodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A begin or an end.

    Attributes:
        what: ``"start"`` or ``"end"``.
        env: Index of the environment.
        episode: Number of the episode.
        step: Last state, at the end.
        local_ns: When, on the recorder's wall clock.
        instruction: At the start.
        meta: At the start: plain values.
        success: At the end: the truth, where somebody knows it.
        reason: At the end.
    """

    what: str
    env: int
    episode: int
    step: int
    local_ns: int
    instruction: str = ""
    meta: dict[str, Any] = {}
    success: bool | None = None
    reason: str = ""


class TruthRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulator knows of an episode; never shown to a model.

    Attributes:
        progress: Of every state, [0, 1].
        done: Whether the goal holds in every state.
        quality: ``"failure"``, ``"suboptimal"`` or ``"success"``.
        meta: What the recorder knows beyond plain values, such as sentences that are false here.
    """

    progress: list[float] | None = None
    done: list[bool] | None = None
    quality: Literal["failure", "suboptimal", "success"] | None = None
    meta: dict[str, Any] = {}


class LogWriter:
    """Writes the log of one episode.

    Args:
        folder: Made if need be.
        name: File name without ending; a number is added where it is taken.

    Raises:
        DatasetError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self._mcap: Any = require("mcap.writer", extra="data")
        self.frames = 0
        self.size_bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path, self._file = _create(folder, name)
        except OSError as error:
            raise DatasetError(f"cannot record into {folder}: {error.strerror}") from error
        self._writer = self._mcap.Writer(
            _Direct(self._file), chunk_size=CHUNK_BYTES, compression=self._mcap.CompressionType.NONE
        )
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._writer.start(profile="", library="robo-reward")
        self._writer.add_metadata("robo_reward", {"schema_version": str(SCHEMA_VERSION)})

    def frame(
        self, frame: Frame, *, local_ns: int, tag: Tag | None = None, dropped: int = 0
    ) -> None:
        """Append a frame, its bytes untouched.

        Args:
            frame: Raw or JPEG.
            local_ns: Capture time on this machine's wall clock.
            tag: Its transition.
            dropped: Frames missed before it.

        Raises:
            OSError: The disk is full or gone.
        """
        header = frame.header
        record = FrameRecord(
            camera=header.camera,
            sequence=header.sequence,
            mono_ns=header.mono_ns,
            wall_ns=header.wall_ns,
            local_ns=local_ns,
            id=header.id,
            encoding=header.encoding,
            shape=header.shape,
            dropped=dropped,
            tag=tag,
        )
        root = f"/camera/{header.camera}"
        self._json(f"{root}/header", record, local_ns, sequence=header.sequence)
        if header.encoding == "jpeg":
            message = compressed_image(frame.data, stamp_ns=header.wall_ns, frame_id=header.camera)
            topic, kind, text = f"{root}/compressed", COMPRESSED_IMAGE, COMPRESSED_IMAGE_TEXT
        else:
            message = raw_image(
                frame.data, shape=header.shape, stamp_ns=header.wall_ns, frame_id=header.camera
            )
            topic, kind, text = f"{root}/image", IMAGE, IMAGE_TEXT
        channel = self._channel(topic, kind, "cdr", "ros2msg", text)
        self._add(channel, message, local_ns, header.sequence)
        self.frames += 1

    def action(self, values: NDArray[np.float32], *, step: int, local_ns: int) -> None:
        """Append an action ``(A,) float32`` that led to the state ``step``."""
        record = ActionRecord(step=step, local_ns=local_ns, values=[float(v) for v in values])
        self._json("/action", record, local_ns)

    def score(self, score: Score, *, local_ns: int) -> None:
        """Append what the reward model answered."""
        self._json("/score", score, local_ns)

    def truth(self, truth: TruthRecord, *, local_ns: int) -> None:
        """Append what the simulator knows of the whole episode."""
        self._json("/truth", truth, local_ns)

    def start(self, event: StartEvent, *, local_ns: int) -> None:
        """Append the begin of the episode."""
        record = EpisodeRecord(
            what="start",
            env=event.tag.env,
            episode=event.tag.episode,
            step=event.tag.step,
            local_ns=local_ns,
            instruction=event.instruction,
            meta=dict(event.meta),
        )
        self._json("/episode", record, local_ns)

    def end(self, event: EndEvent, *, local_ns: int) -> None:
        """Append the end of the episode."""
        record = EpisodeRecord(
            what="end",
            env=event.tag.env,
            episode=event.tag.episode,
            step=event.tag.step,
            local_ns=local_ns,
            success=event.success,
            reason=event.reason,
        )
        self._json("/episode", record, local_ns)

    def close(self) -> Path:
        """Finish the file and give it its name.

        Raises:
            OSError: The disk is full; what was written stays, under the name with ``.part``.
        """
        if self._file.closed:
            return self.path
        try:
            self._writer.finish()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
        part = self.path.with_name(self.path.name + PART)
        os.link(part, self.path)  # unlike a rename, this cannot write over a file
        part.unlink()
        return self.path

    def abandon(self) -> None:
        """Close after an error: what is on the disk stays, under the name with ``.part``."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _json(self, topic: str, record: Any, local_ns: int, *, sequence: int = 0) -> None:
        channel = self._channel(topic, "", "json", "", "")
        self._add(channel, msgspec.json.encode(record), local_ns, sequence)

    def _add(self, channel: int, data: bytes, local_ns: int, sequence: int) -> None:
        self._writer.add_message(
            channel_id=channel,
            log_time=max(0, local_ns),
            publish_time=max(0, local_ns),
            sequence=sequence & 0xFFFFFFFF,
            data=data,
        )
        self.size_bytes += len(data)

    def _channel(self, topic: str, kind: str, encoding: str, schema: str, text: str) -> int:
        if topic not in self._channels:
            if kind and kind not in self._schemas:
                self._schemas[kind] = self._writer.register_schema(
                    name=kind, encoding=schema, data=text.encode()
                )
            self._channels[topic] = self._writer.register_channel(
                topic=topic, message_encoding=encoding, schema_id=self._schemas.get(kind, 0)
            )
        return self._channels[topic]


class _Direct:
    """An unbuffered file that takes all of what it is given; mcap would put a buffer before it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes | bytearray | memoryview) -> int:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        return len(data)

    def tell(self) -> int:
        return int(self._file.tell())

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def _create(folder: Path, name: str) -> tuple[Path, Any]:
    """Make a file that nobody has; both its name now and its name later are free."""
    for number in range(1, 10_000):
        path = folder / (f"{name}.mcap" if number == 1 else f"{name}_{number}.mcap")
        if path.exists():
            continue
        with contextlib.suppress(FileExistsError):
            # Unbuffered: what the writer hands over survives a kill of this process.
            return path, open(path.with_name(path.name + PART), "xb", buffering=0)
    raise DatasetError(f"{folder} holds ten thousand recordings called {name}; choose another")
