"""Messages of a rosbag2 folder or of a single MCAP file, through rosbags and mcap."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robo_reward.closing import Closing
from robo_reward.errors import DatasetError, require


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: With its slashes.
        kind: Type of its messages, ``sensor_msgs/msg/Image``.
        count: Number of messages; ``None`` where the file does not say.
    """

    name: str
    kind: str
    count: int | None


class Bag(Closing):
    """A bag that is open.

    Attributes:
        topics: In the order of their names.
    """

    topics: tuple[Topic, ...]

    @abstractmethod
    def messages(self, names: Collection[str]) -> Iterator[tuple[Topic, int, Any]]:
        """Yield topic, log time in nanoseconds and the decoded message, in the order of time.

        Raises:
            DatasetError: The bag is broken here.
        """


def open_bag(path: Path) -> Bag:
    """Open a folder of rosbag2, or a single ``.mcap``.

    Raises:
        DatasetError: It cannot be read.
        MissingDependency: rosbags or mcap is not installed.
    """
    return FolderBag(path) if path.is_dir() else FileBag(path)


class FolderBag(Bag):
    """rosbag2 with its metadata.yaml: sqlite3 or MCAP."""

    def __init__(self, path: Path) -> None:
        highlevel: Any = require("rosbags.highlevel", extra="data")
        typesys: Any = require("rosbags.typesys", extra="data")
        self._path = path
        # Bags from before Iron hold no definitions: those of ROS 2 stand in for them.
        store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        try:
            self._reader = highlevel.AnyReader([path], default_typestore=store)
            self._reader.open()
        except Exception as error:  # rosbags passes on what sqlite, zstd and YAML raise
            raise DatasetError(f"{path} cannot be read as a rosbag2: {error}") from error
        self.topics = tuple(
            Topic(name=name, kind=info.msgtype or "", count=info.msgcount)
            for name, info in sorted(self._reader.topics.items())
        )

    def messages(self, names: Collection[str]) -> Iterator[tuple[Topic, int, Any]]:
        """Yield the messages of these topics."""
        known = {topic.name: topic for topic in self.topics}
        wanted = [c for c in self._reader.connections if c.topic in names]
        if not wanted:
            return
        try:
            for connection, stamp, raw in self._reader.messages(connections=wanted):
                message = self._reader.deserialize(raw, connection.msgtype)
                yield known[connection.topic], int(stamp), message
        except Exception as error:
            raise DatasetError(f"{self._path} is broken: {error}") from error

    def close(self) -> None:
        """Close the files; may be called twice."""
        if self._reader.stack is not None:
            self._reader.close()


class FileBag(Bag):
    """One MCAP file with CDR messages and ``ros2msg`` schemas."""

    def __init__(self, path: Path) -> None:
        reader: Any = require("mcap.reader", extra="data")
        self._path = path
        self._file = path.open("rb")
        try:
            self._reader = reader.make_reader(self._file, validate_crcs=True)
            summary = self._reader.get_summary()
            if summary is None:
                raise DatasetError(f"{path} has no index: `mcap recover` makes one")
            self._store = _typestore(summary)
        except DatasetError:
            self._file.close()
            raise
        except Exception as error:  # mcap and rosbags raise what they like on broken files
            self._file.close()
            raise DatasetError(f"{path} cannot be read as MCAP: {error}") from error
        counts = summary.statistics.channel_message_counts if summary.statistics else {}
        self.topics = tuple(
            sorted(
                (
                    Topic(
                        name=channel.topic,
                        kind=_kind(summary.schemas.get(channel.schema_id)),
                        count=counts.get(channel.id),
                    )
                    for channel in summary.channels.values()
                ),
                key=lambda topic: topic.name,
            )
        )

    def messages(self, names: Collection[str]) -> Iterator[tuple[Topic, int, Any]]:
        """Yield the messages of these topics."""
        known = {topic.name: topic for topic in self.topics}
        chosen = [name for name in names if name in known]
        if not chosen:
            return
        try:
            for _, channel, message in self._reader.iter_messages(topics=chosen):
                topic = known[channel.topic]
                decoded = self._store.deserialize_cdr(message.data, topic.kind)
                yield topic, int(message.log_time), decoded
        except Exception as error:
            raise DatasetError(f"{self._path} is broken: {error}") from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()


def _kind(schema: Any) -> str:
    if schema is None or schema.encoding != "ros2msg":
        return ""
    package, _, name = str(schema.name).partition("/")
    return f"{package}/msg/{name.removeprefix('msg/')}"


def _typestore(summary: Any) -> Any:
    typesys: Any = require("rosbags.typesys", extra="data")
    store = typesys.get_typestore(typesys.Stores.EMPTY)
    types: dict[str, Any] = {}
    for schema in summary.schemas.values():
        if kind := _kind(schema):
            types |= typesys.get_types_from_msg(schema.data.decode(), kind)
    store.register(types)
    return store
