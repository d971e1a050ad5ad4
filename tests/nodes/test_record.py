"""The recorder node: episodes by events, pieces without, tags, a full disk, a kill."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.datasets.log import LogWriter
from robo_reward.datasets.log_reader import LogReader
from robo_reward.errors import ConfigError, DatasetError
from robo_reward.frames import Frame
from robo_reward.nodes.diagnostics import Level
from robo_reward.nodes.record import RecordNode, RecordParameters
from robo_reward.protocol.stream import Tag
from robo_reward.signals import Identity, Score, Signals
from robo_reward.transport.stream import EventPublisher, FramePublisher

pytest.importorskip("mcap")

WAIT_S = 15.0
ANY = "tcp://127.0.0.1:*"


def until(true: Callable[[], bool], *, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


def picture(number: int) -> Frame:
    image = np.full((16, 16, 3), number % 256, np.uint8)
    return Frame.of(image, camera="front", sequence=number)


@contextmanager
def recording(parameters: RecordParameters) -> Iterator[RecordNode]:
    node = RecordNode(parameters)
    thread = threading.Thread(target=node.run)
    thread.start()
    try:
        until(lambda: node.state.value == "active" or not thread.is_alive())
        yield node
    finally:
        node.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture
def camera() -> Iterator[FramePublisher]:
    with FramePublisher(ANY, camera="front") as made:
        yield made


@pytest.fixture
def learner() -> Iterator[EventPublisher]:
    with EventPublisher(ANY) as made:
        yield made


def settings(
    out: Path, camera: FramePublisher, learner: EventPublisher | None = None, **more: Any
) -> RecordParameters:
    events = () if learner is None else (learner.address,)
    return RecordParameters(out=out, cameras=(camera.address,), events=events, **more)


def connected(camera: FramePublisher, learner: EventPublisher | None = None) -> None:
    assert camera.wait_for_consumers(1, timeout_s=WAIT_S)
    assert learner is None or learner.wait_for_consumers(1, timeout_s=WAIT_S)


def test_episodes_are_cut_where_the_learner_says(
    tmp_path: Path, camera: FramePublisher, learner: EventPublisher
) -> None:
    with recording(settings(tmp_path, camera, learner)) as node:
        connected(camera, learner)
        camera.publish(picture(250))  # before any episode
        for episode in range(2):
            time.sleep(0.002)  # stamps of what came before are older
            learner.start("push the cube", episode=episode, meta={"seed": episode})
            for step in range(6):
                if step:
                    learner.action(np.array([step, episode]), episode=episode, step=step)
                camera.publish(picture(100 * episode + step))
            identity = Identity(episode=episode, step=5)
            learner.score(Score(signals=Signals(progress=0.5), identity=identity))
            learner.end(episode=episode, step=5, success=bool(episode), reason="terminated")
        until(lambda: node.episodes == 2)
        assert not node.diagnostics()
        assert "episodes 2" in node.status_line()
    first, second = LogReader(tmp_path)
    assert [first.id, second.id] == ["env0_episode000000", "env0_episode000001"]
    assert [first.success, second.success] == [False, True]
    assert second.instruction == "push the cube"
    assert second.meta["seed"] == 1
    assert second.actions is not None
    np.testing.assert_array_equal(second.actions, [[step, 1] for step in range(1, 6)])
    assert 250 not in first.images["front"]
    assert second.images["front"].min() >= 100
    assert second.meta["scores"][0]["identity"]["step"] == 5
    assert not list(tmp_path.glob("*.part"))


def test_rendered_frames_go_where_their_tag_says(tmp_path: Path, learner: EventPublisher) -> None:
    with (
        FramePublisher(ANY, camera="front", lossless=True) as camera,
        recording(settings(tmp_path, camera, learner)) as node,
    ):
        connected(camera, learner)
        for env in range(2):
            learner.start("stack", env=env, episode=7)
            for step in range(1, 20):
                learner.action(np.array([step]), env=env, episode=7, step=step)
            learner.end(env=env, episode=7, step=19)
        for step in range(20):  # the renderer is behind
            for env in range(2):
                camera.publish(picture(100 * env + step), tag=Tag(env=env, episode=7, step=step))
        until(lambda: node.episodes == 2)
    for env, episode in enumerate(LogReader(tmp_path)):
        np.testing.assert_array_equal(
            episode.images["front"][:, 0, 0, 0], [100 * env + step for step in range(20)]
        )
        assert episode.actions is not None
        assert episode.meta["env"] == env


def test_without_events_everything_is_recorded(tmp_path: Path, camera: FramePublisher) -> None:
    with recording(settings(tmp_path, camera)) as node:
        connected(camera)
        for number in range(200):
            camera.publish(picture(number))
        until(lambda: node.frames == 200)
    (episode,) = LogReader(tmp_path)
    np.testing.assert_array_equal(episode.images["front"][:, 0, 0, 0], np.arange(200))


def test_a_full_disk_stops_the_recording_and_not_the_node(
    tmp_path: Path, camera: FramePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LogWriter.frame

    def full(self: LogWriter, frame: Frame, **more: Any) -> None:
        if self.frames >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, frame, **more)

    monkeypatch.setattr(LogWriter, "frame", full)
    with recording(settings(tmp_path, camera)) as node:
        connected(camera)
        for number in range(20):
            camera.publish(picture(number))
        until(lambda: bool(node.failed))
        assert "No space" in node.status_line()
        assert node.diagnostics()[0].level is Level.ERROR
        assert node.state.value == "active"
    assert len(list(tmp_path.glob("*.part"))) == 1


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DatasetError, match="cannot record"):
        RecordNode(RecordParameters(out=file / "x", cameras=(ANY,))).run()
    with pytest.raises(ConfigError, match="nothing to record"):
        RecordParameters(cameras=())


def test_a_recorder_that_was_killed_left_what_it_had(
    tmp_path: Path, camera: FramePublisher
) -> None:
    command = [sys.executable, "-m", "robo_reward", "record", "--out", str(tmp_path)]
    process = subprocess.Popen([*command, "--cameras", camera.address], stderr=subprocess.DEVNULL)
    connected(camera)
    for number in range(300):
        camera.publish(picture(number))
    until(lambda: camera.consumers()[0].waiting == 0)
    assert camera.drain(timeout_s=WAIT_S)
    until(lambda: any(each.stat().st_size > 150_000 for each in tmp_path.glob("*.part")))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    (episode,) = LogReader(tmp_path)
    assert len(episode) > 100
    assert episode.meta["complete"] is False


def test_the_verb_reports_what_it_wrote(tmp_path: Path, camera: FramePublisher) -> None:
    command = [sys.executable, "-m", "robo_reward", "record", "--out", str(tmp_path), "--json"]
    process = subprocess.Popen(
        [*command, "--cameras", camera.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    connected(camera)
    for number in range(10):
        camera.publish(picture(number))
    until(lambda: camera.drain(timeout_s=0.1) and camera.consumers()[0].sent == 10)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    result = json.loads(out.splitlines()[-1])
    assert process.returncode == 0
    assert (result["episodes"], result["frames"], result["path"]) == (1, 10, str(tmp_path))
