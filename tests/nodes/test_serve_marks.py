"""Questions by time: cameras stream, the node joins."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from robo_reward.client import RemoteSource, connect
from robo_reward.frames import Frame
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.nodes.serve import RewardNode
from robo_reward.query import Mark
from robo_reward.signals import Score, Status
from robo_reward.transport.stream import FramePublisher

from .serving_tools import FREE, TASK, until

WAIT_S = 20.0


class Camera:
    """Publishes painted frames when told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.publisher = FramePublisher("tcp://127.0.0.1:*", camera=name)
        self._sequence = 0

    def show(self, progress: float, *, wall_ns: int | None = None) -> Frame:
        self._sequence += 1
        image = paint(progress, 0.0, salt=self._sequence)
        frame = Frame.of(image, camera=self.name, sequence=self._sequence, wall_ns=wall_ns)
        self.publisher.publish(frame)
        return frame


@pytest.fixture
def cameras() -> Iterator[tuple[Camera, Camera]]:
    made = (Camera("front"), Camera("wrist"))
    yield made
    for camera in made:
        camera.publisher.close()


@pytest.fixture
def node(cameras: tuple[Camera, Camera]) -> Iterator[RewardNode]:
    addresses = {camera.name: camera.publisher.address for camera in cameras}
    with RewardNode(OraclePixels(), address=FREE, cameras=addresses, warm_up=False) as made:
        for camera in cameras:
            assert camera.publisher.wait_for_consumers(1, timeout_s=WAIT_S)
        yield made


@pytest.fixture
def source(node: RewardNode) -> Iterator[RemoteSource]:
    with connect(node.address, deadline_s=WAIT_S) as made:
        made.info()
        yield made


def ask(source: RemoteSource, mark: Mark, *, deadline_s: float = WAIT_S) -> Score:
    return source.submit([mark], deadline_s=deadline_s).result(timeout_s=WAIT_S)[0]


def joiner_has(node: RewardNode, frame: Frame) -> bool:
    assert node._marks is not None
    latest = node._marks.joiner.latest(frame.header.camera)
    return latest is not None and latest.frame.id == frame.id


def test_a_mark_waits_for_the_first_frame_after_the_step(
    node: RewardNode, cameras: tuple[Camera, Camera], source: RemoteSource
) -> None:
    front, _ = cameras
    start = time.time_ns()
    before = front.show(0.2)
    until(lambda: joiner_has(node, before))
    end = time.time_ns()
    mark = Mark(
        task=TASK, cameras=("front",), t_from_ns=start, t_to_ns=end, max_age_s=10.0, env=2,
        episode=3, step=4,
    )  # fmt: skip
    pending = source.submit([mark])
    until(lambda: node.stats()["open_jobs"] == 1)
    assert not pending.done()
    after = front.show(0.6)
    (score,) = pending.result(timeout_s=WAIT_S)
    assert score.ok, score
    assert score.identity.frames == (after.id,)
    assert score.identity.reference == (before.id,)
    assert (score.identity.env, score.identity.episode, score.identity.step) == (2, 3, 4)
    assert abs(score.signals.progress - 153 / 255) < 1e-6
    assert abs(score.signals.progress_delta - (153 - 51) / 255) < 1e-6
    assert 0 <= score.identity.age_s < WAIT_S


def test_the_first_mark_has_no_reference(
    node: RewardNode, cameras: tuple[Camera, Camera], source: RemoteSource
) -> None:
    now = time.time_ns()
    frame = cameras[0].show(0.2)
    until(lambda: joiner_has(node, frame))
    score = ask(
        source, Mark(task=TASK, cameras=("front",), t_from_ns=0, t_to_ns=now, max_age_s=10.0)
    )
    assert score.ok, score
    assert score.identity.reference == ()
    assert score.signals.progress_delta == 0.0


def test_two_cameras_are_joined(
    node: RewardNode, cameras: tuple[Camera, Camera], source: RemoteSource
) -> None:
    now = time.time_ns()
    shown = [camera.show(value) for camera, value in zip(cameras, (0.2, 0.6), strict=True)]
    until(lambda: all(joiner_has(node, frame) for frame in shown))
    mark = Mark(task=TASK, cameras=("front", "wrist"), t_from_ns=0, t_to_ns=now, max_age_s=10.0)
    score = ask(source, mark)
    assert score.identity.frames == tuple(frame.id for frame in shown)
    assert abs(score.signals.progress - 0.4) < 1e-6


def test_a_silent_camera_is_no_frame_within_the_deadline(source: RemoteSource) -> None:
    mark = Mark(task=TASK, cameras=("front",), t_from_ns=0, t_to_ns=time.time_ns())
    score = ask(source, mark, deadline_s=0.5)
    assert score.status is Status.STALE
    assert score.reason == "NO_FRAME"
    assert "front" in score.detail


def test_a_frame_that_comes_too_late_is_not_used(
    node: RewardNode, cameras: tuple[Camera, Camera], source: RemoteSource
) -> None:
    now = time.time_ns()
    frame = cameras[0].show(0.2, wall_ns=now + 5 * 10**8)
    until(lambda: joiner_has(node, frame))
    score = ask(
        source, Mark(task=TASK, cameras=("front",), t_from_ns=0, t_to_ns=now, max_age_s=0.1)
    )
    assert score.reason == "NO_FRAME"


def test_an_unknown_camera_is_named_with_those_there_are(source: RemoteSource) -> None:
    score = ask(source, Mark(task=TASK, cameras=("left",), t_from_ns=0, t_to_ns=time.time_ns()))
    assert score.reason == "NO_FRAME"
    assert "'left'" in score.detail
    assert "front, wrist" in score.detail
