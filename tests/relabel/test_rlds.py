"""RLDS episodes in TFRecord files: written by TensorBoard's writer and protobuf, read without."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("tensorboard")
protobuf = pytest.importorskip("google.protobuf")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402
from PIL import Image  # noqa: E402
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c  # noqa: E402
from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: E402

from robo_reward.datasets import tfrecord  # noqa: E402
from robo_reward.datasets.formats import open_dataset  # noqa: E402
from robo_reward.datasets.labels import LabelTable  # noqa: E402

from .recordings import PUSH, pictures, ramp  # noqa: E402

Command = Callable[..., Any]


def example_type() -> Any:
    """tf.train.Example, declared as example.proto and feature.proto have it."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, Any, bool, str]) -> Any:
        made = file.message_type.add(name=name)
        for label, number, kind, many, of in fields:
            each = made.field.add(name=label, number=number, type=kind)
            if of:
                each.type_name = of
            each.label = field.LABEL_REPEATED if many else field.LABEL_OPTIONAL
        return made

    inside = field.TYPE_MESSAGE
    message("BytesList", ("value", 1, field.TYPE_BYTES, True, ""))
    message("FloatList", ("value", 1, field.TYPE_FLOAT, True, ""))
    message("Int64List", ("value", 1, field.TYPE_INT64, True, ""))
    message(
        "Feature",
        ("bytes_list", 1, inside, False, ".t.BytesList"),
        ("float_list", 2, inside, False, ".t.FloatList"),
        ("int64_list", 3, inside, False, ".t.Int64List"),
    )
    features = message("Features", ("feature", 1, inside, True, ".t.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    for label, number, kind, of in (
        ("key", 1, field.TYPE_STRING, ""),
        ("value", 2, inside, ".t.Feature"),
    ):
        each = entry.field.add(name=label, number=number, type=kind)
        if of:
            each.type_name = of
        each.label = field.LABEL_OPTIONAL
    message("Example", ("features", 1, inside, False, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = example_type()


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG")
    return out.getvalue()


def episode(frames: int, *, salt: int) -> bytes:
    made = EXAMPLE()
    feature = made.features.feature
    images = [png(image) for image in pictures(frames, salt=salt)]
    feature["steps/observation/image"].bytes_list.value.extend(images)
    feature["steps/observation/state"].float_list.value.extend([0.5] * 7 * frames)
    feature["steps/language_instruction"].bytes_list.value.extend([PUSH.encode()] * frames)
    feature["steps/action"].float_list.value.extend([-1.0] * 7 * frames)
    feature["steps/reward"].float_list.value.extend([0.0] * (frames - 1) + [1.0])
    feature["steps/is_terminal"].int64_list.value.extend([0] * (frames - 1) + [1])
    feature["steps/is_first"].int64_list.value.extend([1] + [0] * (frames - 1))
    feature["steps/offset"].int64_list.value.extend([-3] * frames)
    data: bytes = made.SerializeToString()
    return data


def write(path: Path, episodes: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = RecordWriter(path.open("wb"))
    for data in episodes:
        writer.write(data)
    writer.close()
    return path


def test_labels_of_two_files(tmp_path: Path, command: Command) -> None:
    data = tmp_path / "bridge" / "1.0.0"
    write(data / "bridge-train.tfrecord-00000-of-00002", [episode(5, salt=0), episode(7, salt=1)])
    path = write(data / "bridge-train.tfrecord-00001-of-00002", [episode(4, salt=2)] * 2)
    path.write_bytes(path.read_bytes()[:-20])  # the second one of this file is torn
    ran = command(
        "relabel", str(data), "--model", "oracle-pixels", "--out", str(tmp_path / "out"), "--json"
    )
    assert ran.code == 1, ran.err
    result = json.loads(ran.out.splitlines()[-1])
    assert result["kind"] == "rlds"
    assert list(result["skipped"]) == ["bridge-train.tfrecord-00001-of-00002#1"]
    labels = list(LabelTable(tmp_path / "out"))
    assert [len(one) for one in labels] == [5, 7, 4]
    for number, one in enumerate(labels):
        want = ramp(len(one), salt=number)
        np.testing.assert_allclose(one.signals["progress"], want, atol=1 / 255)
        assert set(one.instructions) == {PUSH}
    assert result["truth"]["episodes_with_truth"] == 3


def test_values_of_every_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tfrecord", [episode(3, salt=0)])
    (found,) = open_dataset(path)
    known = tfrecord.read_example(episode(3, salt=0))
    assert np.asarray(known["steps/action"]).tolist() == [-1.0] * 21
    assert np.asarray(known["steps/offset"]).tolist() == [-3] * 3
    truth = found.truth()
    assert truth.rewards is not None
    assert truth.rewards.tolist() == [0.0, 0.0, 1.0]
    assert found.cameras == ("image",)


@pytest.mark.parametrize("data", [b"", b"a", b"123456789", bytes(range(256))])
def test_checksums_are_those_of_tensorflow(data: bytes) -> None:
    assert tfrecord.masked_crc32c(data) == masked_crc32c(data)


def test_damaged_messages_are_errors(tmp_path: Path) -> None:
    from robo_reward.errors import DatasetError

    whole = episode(2, salt=0)
    for size in range(1, len(whole) - 1, 7):
        with pytest.raises(DatasetError, match="a record that is no"):
            tfrecord.read_example(whole[:size])
