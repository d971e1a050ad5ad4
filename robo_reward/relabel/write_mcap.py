"""Labels as channels of a new MCAP: every message that was there, byte for byte, and ours.

``/robo_reward/<signal>`` is a ``std_msgs/msg/Float32``, ``/robo_reward/is_done`` a ``Bool``, at the
log time of the frame they belong to; ``/robo_reward/label`` a ``String`` with the identity in JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robo_reward.datasets.labels import EpisodeLabels, LabelTable
from robo_reward.datasets.ros_dataset import RosDataset, RosEpisode
from robo_reward.errors import require

from .joined import joined
from .rewards import gate_of

ROOT = "/robo_reward"
FLOAT, BOOL, STRING = "std_msgs/msg/Float32", "std_msgs/msg/Bool", "std_msgs/msg/String"


def write_copy(dataset: RosDataset, table: LabelTable, folder: Path) -> list[Path]:
    """Write a new bag beside each labelled one: an MCAP for an MCAP, a rosbag2 for a rosbag2.

    A rosbag2 in sqlite3 comes back in MCAP storage.

    Returns:
        The new bags.

    Raises:
        OSError: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for episode, labels in joined(dataset, table):
        assert isinstance(episode, RosEpisode)
        target = folder / episode.path.name
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        copy = _copy_folder if episode.path.is_dir() else _copy_file
        try:
            copy(episode.path, draft, table, labels)
            if target.is_dir():
                shutil.rmtree(target)
            made.append(draft.replace(target))
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            with contextlib.suppress(OSError):
                draft.unlink()
    return made


def _messages(
    table: LabelTable, labels: EpisodeLabels
) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Yield topic, type, time and fields of everything that is added, in the order of time."""
    is_done = gate_of(labels, table.head)
    for row, stamp in enumerate(labels.stamps_ns.tolist()):
        for name in table.head.signals:
            yield f"{ROOT}/{name}", FLOAT, stamp, {"data": float(labels.signals[name][row])}
        yield f"{ROOT}/is_done", BOOL, stamp, {"data": bool(is_done[row])}
        label = {
            "frame": int(labels.frames[row]),
            "instruction": labels.instructions[row],
            "status": labels.status[row],
            "model": table.head.model,
            "prompt": table.head.prompt,
            "calibration": table.head.calibration,
        }
        yield f"{ROOT}/label", STRING, stamp, {"data": json.dumps(label, ensure_ascii=False)}


def _typestore() -> Any:
    typesys: Any = require("rosbags.typesys", extra="data")
    return typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)


def _copy_file(path: Path, draft: Path, table: LabelTable, labels: EpisodeLabels) -> None:
    reader: Any = require("mcap.stream_reader", extra="data")
    writing: Any = require("mcap.writer", extra="data")
    records: Any = require("mcap.records", extra="data")
    store = _typestore()
    with path.open("rb") as source, draft.open("wb") as file:
        writer = writing.Writer(file)
        schemas: dict[int, int] = {0: 0}
        channels: dict[int, int] = {}
        started = False
        for record in reader.StreamReader(source, validate_crcs=True).records:
            if isinstance(record, records.Header):
                writer.start(profile=record.profile)
                started = True
            elif isinstance(record, records.Schema) and record.id not in schemas:
                schemas[record.id] = writer.register_schema(
                    name=record.name, encoding=record.encoding, data=record.data
                )
            elif isinstance(record, records.Channel) and record.id not in channels:
                channels[record.id] = writer.register_channel(
                    topic=record.topic,
                    message_encoding=record.message_encoding,
                    schema_id=schemas[record.schema_id],
                    metadata=record.metadata,
                )
            elif isinstance(record, records.Message):
                writer.add_message(
                    channel_id=channels[record.channel_id],
                    log_time=record.log_time,
                    publish_time=record.publish_time,
                    sequence=record.sequence,
                    data=record.data,
                )
            elif isinstance(record, records.Attachment):
                writer.add_attachment(
                    create_time=record.create_time,
                    log_time=record.log_time,
                    name=record.name,
                    media_type=record.media_type,
                    data=record.data,
                )
            elif isinstance(record, records.Metadata):
                writer.add_metadata(record.name, record.metadata)
        assert started
        _add_to_file(writer, store, table, labels)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())


def _add_to_file(writer: Any, store: Any, table: LabelTable, labels: EpisodeLabels) -> None:
    ours: dict[str, int] = {}
    kinds: dict[str, int] = {}
    for topic, kind, stamp, fields in _messages(table, labels):
        if topic not in ours:
            if kind not in kinds:
                text, _ = store.generate_msgdef(kind, ros_version=2)
                kinds[kind] = writer.register_schema(
                    name=kind, encoding="ros2msg", data=text.encode()
                )
            ours[topic] = writer.register_channel(
                topic=topic, message_encoding="cdr", schema_id=kinds[kind]
            )
        data = store.serialize_cdr(store.types[kind](**fields), kind)
        writer.add_message(
            channel_id=ours[topic], log_time=stamp, publish_time=stamp, data=bytes(data)
        )


def _copy_folder(path: Path, draft: Path, table: LabelTable, labels: EpisodeLabels) -> None:
    highlevel: Any = require("rosbags.highlevel", extra="data")
    rosbag2: Any = require("rosbags.rosbag2", extra="data")
    store = _typestore()
    with (
        highlevel.AnyReader([path], default_typestore=store) as reader,
        rosbag2.Writer(draft, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer,
    ):
        kept = {
            connection.id: writer.add_connection(
                connection.topic,
                connection.msgtype,
                typestore=reader.typestore,
                serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )
            for connection in reader.connections
        }
        for connection, stamp, raw in reader.messages():
            writer.write(kept[connection.id], stamp, raw)
        ours: dict[str, Any] = {}
        for topic, kind, stamp, fields in _messages(table, labels):
            if topic not in ours:
                ours[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(ours[topic], stamp, store.serialize_cdr(store.types[kind](**fields), kind))
