"""ROS 2 bags as rosbags and mcap write them: read, aligned, labelled, opened again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
rosbag2 = pytest.importorskip("rosbags.rosbag2")

from rosbags.highlevel import AnyReader  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

from robo_reward.datasets.formats import open_dataset  # noqa: E402
from robo_reward.datasets.labels import LabelTable  # noqa: E402
from robo_reward.datasets.ros_dataset import RosEpisode  # noqa: E402

from .recordings import PUSH, pictures, ramp  # noqa: E402

Command = Callable[..., Any]
STORE = get_typestore(Stores.ROS2_JAZZY)
BEGIN, PERIOD = 10**18, 50_000_000
FRONT, WRIST, JOINTS, ACTION = "/front/image_raw", "/wrist/image/compressed", "/joints", "/action"


def message(kind: str, **fields: Any) -> tuple[str, bytes]:
    return kind, bytes(STORE.serialize_cdr(STORE.types[kind](**fields), kind))


def header(stamp: int) -> Any:
    time = STORE.types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
    return STORE.types["std_msgs/msg/Header"](time, "cam")


def messages(frames: int, *, salt: int) -> list[tuple[str, int, str, bytes]]:
    """Raw images in BGR with padded rows, JPEG a little later at half the rate, joints, actions."""
    import simplejpeg

    found = []
    images = pictures(frames, salt=salt)
    large = np.repeat(np.repeat(images, 8, 1), 8, 2)
    for t in range(frames):
        at = BEGIN + t * PERIOD
        rows = np.pad(images[t][:, :, ::-1].reshape(16, 48), ((0, 0), (0, 4)))
        kind, data = message(
            "sensor_msgs/msg/Image", header=header(at), height=16, width=16, encoding="bgr8",
            is_bigendian=0, step=52, data=np.ascontiguousarray(rows).ravel(),
        )  # fmt: skip
        found.append((FRONT, at, kind, data))
        if t % 2 == 0:
            coded = np.frombuffer(simplejpeg.encode_jpeg(np.ascontiguousarray(large[t])), np.uint8)
            kind, data = message(
                "sensor_msgs/msg/CompressedImage", header=header(at), format="jpeg", data=coded
            )
            found.append((WRIST, at - 1000, kind, data))
        kind, data = message(
            "sensor_msgs/msg/JointState", header=header(at), name=["a", "b"],
            position=np.array([t, 2.0 * t]), velocity=np.zeros(0), effort=np.zeros(0),
        )  # fmt: skip
        found.append((JOINTS, at - 5000, kind, data))
        layout = STORE.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
        kind, data = message(
            "std_msgs/msg/Float32MultiArray", layout=layout, data=np.array([t], np.float32)
        )
        found.append((ACTION, at - 2000, kind, data))
    kind, data = message("std_msgs/msg/String", data=PUSH)
    found.append(("/task", BEGIN - 10_000, kind, data))
    return sorted(found, key=lambda each: each[1])


def bag(path: Path, frames: int, *, storage: str, salt: int = 0) -> Path:
    with rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin[storage]) as writer:
        known: dict[str, Any] = {}
        for topic, at, kind, data in messages(frames, salt=salt):
            if topic not in known:
                known[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(known[topic], at, data)
    return path


def single(path: Path, frames: int, *, salt: int = 0) -> Path:
    """One MCAP as `ros2 bag record --storage mcap` fills it, with an attachment."""
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer: Any = Writer(file)
        writer.start(profile="ros2", library="test")
        schemas: dict[str, int] = {}
        channels: dict[str, int] = {}
        for topic, at, kind, data in messages(frames, salt=salt):
            if kind not in schemas:
                text, _ = STORE.generate_msgdef(kind, ros_version=2)
                schemas[kind] = writer.register_schema(kind, "ros2msg", text.encode())
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "cdr", schemas[kind])
            writer.add_message(channels[topic], log_time=at, publish_time=at, data=data)
        writer.add_attachment(create_time=1, log_time=2, name="n", media_type="text", data=b"hello")
        writer.finish()
    return path


def payloads(path: Path) -> Counter[tuple[str, int, str]]:
    with AnyReader([path], default_typestore=STORE) as reader:
        return Counter(
            (c.topic, at, hashlib.sha256(raw).hexdigest()) for c, at, raw in reader.messages()
        )


def relabel(command: Command, *args: object, code: int = 0) -> dict[str, Any]:
    ran = command("relabel", *map(str, args), "--model", "oracle-pixels", "--json")
    assert ran.code == code, ran.err
    result: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return result


def tree(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("storage", ["SQLITE3", "MCAP"])
def test_rosbag2(storage: str, tmp_path: Path, command: Command) -> None:
    data = bag(tmp_path / "bag", 20, storage=storage)
    before, told = tree(data), payloads(data)
    args = ("--cameras", FRONT, "--out", tmp_path / "out", "--write", "copy")
    assert relabel(command, data, *args)["kind"] == "rosbag2"
    assert tree(data) == before
    (labels,) = LabelTable(tmp_path / "out")
    np.testing.assert_allclose(labels.signals["progress"], ramp(20), atol=1 / 255)
    assert set(labels.instructions) == {PUSH}
    assert labels.stamps_ns.tolist() == [BEGIN + t * PERIOD for t in range(20)]
    copy = tmp_path / "out" / "copy" / "bag"
    after = payloads(copy)
    assert told <= after
    assert {name for name, _, _ in after - told} == {
        f"/robo_reward/{name}"
        for name in (
            "progress", "progress_delta", "done", "contrastive", "uncertainty", "is_done", "label"
        )
    }  # fmt: skip
    with AnyReader([copy]) as reader:
        chosen = [c for c in reader.connections if c.topic == "/robo_reward/progress"]
        values = [
            (at, reader.deserialize(raw, c.msgtype).data)  # type: ignore[attr-defined]
            for c, at, raw in reader.messages(connections=chosen)
        ]
    assert [at for at, _ in values] == labels.stamps_ns.tolist()
    np.testing.assert_allclose([v for _, v in values], labels.signals["progress"])


def test_single_mcaps(tmp_path: Path, command: Command) -> None:
    mcap_ros2 = pytest.importorskip("mcap_ros2.decoder")
    from mcap.reader import make_reader

    folder = tmp_path / "bags"
    folder.mkdir()
    paths = [single(folder / f"{n}.mcap", 8 + n, salt=n) for n in range(2)]
    (folder / "2.mcap").write_bytes(paths[0].read_bytes()[:2000])
    before = tree(folder)
    args = ("--cameras", FRONT, "--out", tmp_path / "out", "--write", "copy")
    result = relabel(command, folder, *args, code=1)
    assert (result["kind"], list(result["skipped"])) == ("mcap", ["2"])
    assert tree(folder) == before

    def read(path: Path) -> tuple[Counter[Any], list[float], list[bytes]]:
        with path.open("rb") as file:
            reader = make_reader(file, decoder_factories=[mcap_ros2.DecoderFactory()])
            raw = Counter(
                (c.topic, m.log_time, m.publish_time, m.data) for _, c, m in reader.iter_messages()
            )
            decoded = reader.iter_decoded_messages(topics=["/robo_reward/progress"])
            values = [each.decoded_message.data for each in decoded]
            return raw, values, [a.data for a in reader.iter_attachments()]

    for number, labels in enumerate(LabelTable(tmp_path / "out")):
        old, none, attached = read(paths[number])
        new, values, kept = read(tmp_path / "out" / "copy" / f"{number}.mcap")
        assert old <= new
        assert (none, attached, kept) == ([], [b"hello"], [b"hello"])
        np.testing.assert_allclose(values, labels.signals["progress"])
        np.testing.assert_allclose(values, ramp(8 + number, salt=number), atol=1 / 255)


def test_cameras_and_states_are_aligned_without_the_future(tmp_path: Path) -> None:
    (episode,) = open_dataset(bag(tmp_path / "bag", 9, storage="SQLITE3"))
    assert isinstance(episode, RosEpisode)
    assert episode.cameras == (FRONT, WRIST)
    instants = list(episode.instants((FRONT, WRIST)))
    assert [i.index for i in instants] == list(range(9))
    wrist = [i.frames[1] for i in instants]
    # Half the rate: the older one stands there until the next has come.
    assert [frame.header.sequence for frame in wrist] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert wrist[0].header.encoding == "jpeg"
    assert wrist[0].id == wrist[1].id
    stamps = [i.stamp_ns for i in instants if i.stamp_ns is not None]
    known = episode.aligned([stamps[0] - 10**6, *stamps])
    assert np.isnan(known[JOINTS][0]).all()
    np.testing.assert_array_equal(known[JOINTS][1:, 1], 2.0 * np.arange(9))
    whole = episode.load()
    assert whole.actions is not None
    assert whole.actions.ravel().tolist() == list(range(1, 9))
    # A camera that comes late: no instant before it, and the numbers begin with the first one.
    late = list(episode.instants((WRIST, FRONT)))
    assert [i.index for i in late] == [0, 1, 2, 3]
    assert [i.index for i in episode.instants((WRIST, FRONT), start=2)] == [2, 3]


def test_depth_is_no_picture(tmp_path: Path) -> None:
    from robo_reward.datasets.ros_messages import frame_of
    from robo_reward.errors import DatasetError

    kind = "sensor_msgs/msg/Image"
    depth = STORE.types[kind](header(0), 1, 1, "16UC1", 0, 2, np.zeros(2, np.uint8))
    with pytest.raises(DatasetError, match="16UC1"):
        frame_of(depth, kind, camera="d", sequence=0, stamp_ns=0)
