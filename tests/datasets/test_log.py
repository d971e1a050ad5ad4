"""The recorder's log: what is written is read back, whatever happened at its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.datasets.log import LogWriter
from robo_reward.datasets.log_reader import LogReader, read_recording, to_episode
from robo_reward.datasets.mcap_images import (
    COMPRESSED_IMAGE,
    IMAGE,
    compressed_image,
    octets_of,
    raw_image,
)
from robo_reward.errors import DatasetError
from robo_reward.frames import Frame
from robo_reward.protocol.stream import EndEvent, StartEvent, Tag
from robo_reward.signals import Identity, Score, Signals
from robo_reward.transport.clock import clock_name

pytest.importorskip("mcap")

T0 = 1_000_000_000_000


def stamps(at: int) -> dict[str, Any]:
    return {"mono_ns": at, "wall_ns": at, "clock": clock_name()}


def picture(number: int, *, camera: str = "front", jpeg: int | None = None, at: int = 0) -> Frame:
    image = np.full((16, 20, 3), number * 7 % 256, np.uint8)
    return Frame.of(
        image, camera=camera, sequence=number, mono_ns=at, wall_ns=at, jpeg_quality=jpeg
    )


def write_episode(folder: Path, *, name: str = "env0_episode000000", tagged: bool = False) -> Path:
    """Five states 100 ns apart, each of three frames, the last of which is the state's."""
    writer = LogWriter(folder, name=name)
    start = StartEvent(
        tag=Tag(episode=3), instruction="push the cube", meta={"seed": 7}, **stamps(T0)
    )
    writer.start(start, local_ns=T0)
    for step in range(5):
        at = T0 + 100 * step
        if step:
            writer.action(np.array([step, -0.1], np.float32), step=step, local_ns=at)
        for part in (10, 40, 70):
            for camera, jpeg in (("front", 90), ("wrist", None)):
                frame = picture(10 * step + part // 30, camera=camera, jpeg=jpeg, at=at + part)
                tag = Tag(episode=3, step=step) if tagged and part == 40 else None
                if not tagged or tag is not None:
                    writer.frame(frame, local_ns=at + part, tag=tag, dropped=int(part == 70))
    score = Score(signals=Signals(progress=0.25), identity=Identity(episode=3, step=2))
    writer.score(score, local_ns=T0 + 280)
    end = EndEvent(
        tag=Tag(episode=3, step=4), success=True, reason="terminated", **stamps(T0 + 480)
    )
    writer.end(end, local_ns=T0 + 480)
    return writer.close()


def test_an_episode_comes_back(tmp_path: Path) -> None:
    path = write_episode(tmp_path)
    assert path.name == "env0_episode000000.mcap"
    (episode,) = LogReader(tmp_path)
    assert (episode.id, episode.instruction) == ("env0_episode000000", "push the cube")
    assert (len(episode), episode.success, episode.quality) == (5, True, "success")
    assert sorted(episode.images) == ["front", "wrist"]
    assert episode.actions is not None
    np.testing.assert_array_equal(episode.actions[:, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(episode.actions[:, 1], np.float32(-0.1))
    # The last frame before the next action is the state that the action was chosen in.
    np.testing.assert_array_equal(
        episode.images["wrist"][:, 0, 0, 0], [(10 * step + 2) * 7 % 256 for step in range(5)]
    )
    assert episode.meta["seed"] == 7
    assert episode.meta["complete"] is True
    assert episode.meta["scores"][0]["signals"]["progress"] == 0.25
    assert episode.meta["scores"][0]["signals"]["done"] is None
    assert episode.meta["frames"]["front"][0] == picture(2, camera="front", jpeg=90).id


def test_bytes_and_hashes_are_those_that_came(tmp_path: Path) -> None:
    recording = read_recording(write_episode(tmp_path))
    for camera, jpeg in (("front", 90), ("wrist", None)):
        record, frame = recording.frames[camera][4]
        want = picture(11, camera=camera, jpeg=jpeg, at=T0 + 140)
        assert bytes(frame.data) == bytes(want.data)
        assert frame.header == want.header
        assert (record.local_ns, record.dropped) == (T0 + 140, 0)


def test_tags_decide_where_there_are_any(tmp_path: Path) -> None:
    episode = to_episode(read_recording(write_episode(tmp_path, tagged=True)))
    np.testing.assert_array_equal(
        episode.images["wrist"][:, 0, 0, 0], [(10 * step + 1) * 7 % 256 for step in range(5)]
    )


def test_the_frame_that_a_score_names_is_the_frame_of_its_step(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, name="scored")
    first, second = picture(0, at=T0), picture(1, at=T0 + 50)
    for frame in (first, second):
        writer.frame(frame, local_ns=frame.header.wall_ns)
    identity = Identity(step=0, frames=(first.id,))
    writer.score(Score(signals=Signals(progress=0.1), identity=identity), local_ns=T0 + 60)
    writer.action(np.zeros(2, np.float32), step=1, local_ns=T0 + 90)
    writer.frame(picture(2, at=T0 + 95), local_ns=T0 + 95)
    episode = to_episode(read_recording(writer.close()))
    assert episode.meta["frames"]["front"] == [first.id, picture(2, at=T0).id]


def test_without_actions_every_frame_of_the_first_camera_counts(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, name="piece")
    for number in range(6):
        writer.frame(picture(number), local_ns=T0 + 10 * number)
        if number % 2:
            writer.frame(picture(number, camera="side"), local_ns=T0 + 10 * number + 1)
    writer.close()
    (episode,) = LogReader(tmp_path, instruction="wipe the table")
    assert len(episode) == 6
    assert episode.actions is None
    assert episode.success is None
    assert episode.instruction == "wipe the table"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path, share: float) -> None:
    writer = LogWriter(tmp_path, name="long")
    random = np.random.default_rng(0)
    for number in range(60):
        image = random.integers(0, 256, (48, 48, 3), np.uint8)
        writer.frame(Frame.of(image, camera="front", sequence=number), local_ns=T0 + number)
    whole = writer.close()
    cut = tmp_path / "cut" / "long.mcap.part"
    cut.parent.mkdir()
    data = whole.read_bytes()
    cut.write_bytes(data[: int(share * len(data))])
    recording = read_recording(cut)
    assert not recording.complete
    numbers = [record.sequence for record, _ in recording.frames["front"]]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 60 * share - 12  # a chunk of 64 KiB holds nine of these
    (episode,) = LogReader(cut.parent)
    assert episode.meta["complete"] is False


def test_what_a_killed_recorder_had_written_is_there(tmp_path: Path) -> None:
    program = f"""
import os, signal, numpy as np
from pathlib import Path
from typing import Any
from robo_reward.datasets.log import LogWriter
from robo_reward.frames import Frame
writer = LogWriter(Path({str(tmp_path)!r}), name="killed")
for number in range(100):
    image = np.full((64, 64, 3), number, np.uint8)
    writer.frame(Frame.of(image, sequence=number), local_ns=number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    (episode,) = LogReader(tmp_path)
    assert 90 <= len(episode) <= 100
    assert episode.id == "killed"


def test_nothing_is_ever_written_over(tmp_path: Path) -> None:
    first = write_episode(tmp_path)
    before = first.read_bytes()
    second, third = LogWriter(tmp_path, name=first.stem), LogWriter(tmp_path, name=first.stem)
    third.frame(picture(1), local_ns=T0)
    assert {second.close().name, third.close().name} == {
        "env0_episode000000_2.mcap",
        "env0_episode000000_3.mcap",
    }
    assert first.read_bytes() == before


def test_what_is_no_recording_is_an_error_or_skipped(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no recordings"):
        LogReader(tmp_path)
    (tmp_path / "a.mcap").write_bytes(b"not a recording at all")
    LogWriter(tmp_path, name="empty").close()
    write_episode(tmp_path, name="good")
    reader = LogReader(tmp_path)
    assert [episode.id for episode in reader] == ["good"]
    assert reader.skipped == 2
    with pytest.raises(DatasetError):
        read_recording(tmp_path / "nowhere.mcap")


def test_a_flipped_bit_ends_the_reading(tmp_path: Path) -> None:
    path = write_episode(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(bytes(data))
    try:
        recording = read_recording(path)
    except DatasetError:
        return
    assert not recording.complete


def test_images_are_ros_messages() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    raw = raw_image(image.tobytes(), shape=(2, 3, 3), stamp_ns=5, frame_id="ab")
    packed = compressed_image(b"\xff\xd8jpeg", stamp_ns=5, frame_id="abc")
    assert octets_of(raw, kind=IMAGE) == image.tobytes()
    assert octets_of(packed, kind=COMPRESSED_IMAGE) == b"\xff\xd8jpeg"
    # The bytes that a ROS 2 installation gives for the same message.
    assert packed.hex() == (
        "00010000" "00000000" "05000000" "04000000" "61626300"
        "05000000" "6a706567" "00000000" "06000000" "ffd86a706567"
    )  # fmt: skip
    for length in range(len(raw)):
        with pytest.raises(ValueError, match=r"CDR|short"):
            octets_of(raw[:length], kind=IMAGE)
