"""Which frames a mark is given, and when it is told that there are none."""

from __future__ import annotations

import threading
import time

import numpy as np

from robo_reward.frames import Frame
from robo_reward.nodes.join import FrameJoiner, Joined, Missing
from robo_reward.protocol.stream import Tag
from robo_reward.query import Mark
from robo_reward.task import Task
from robo_reward.transport.clock import clock_name
from robo_reward.transport.stream import Arrival

TASK = Task(instruction="put the red cube on the blue pad")
MS = 1_000_000
START = 1_000_000 * MS


def arrival(
    at_ms: int,
    *,
    camera: str = "front",
    value: int | None = None,
    tag: Tag | None = None,
    offset_ms: int = 0,
    uncertainty_ms: int = 0,
    size: int = 4,
    received_ns: int | None = None,
) -> Arrival:
    """A frame captured ``at_ms`` by our clock, whose own clock is ``offset_ms`` ahead."""
    image = np.full((size, size, 3), (at_ms if value is None else value) % 251, np.uint8)
    frame = Frame.of(image, camera=camera, sequence=at_ms, wall_ns=START + (at_ms + offset_ms) * MS)
    return Arrival(
        frame=frame,
        tag=tag,
        dropped=0,
        clock=clock_name(),
        age_ns=0,
        received_mono_ns=time.monotonic_ns() if received_ns is None else received_ns,
        offset_ns=offset_ms * MS,
        uncertainty_ns=uncertainty_ms * MS,
    )


def mark(
    t_to_ms: int,
    *,
    t_from_ms: int | None = None,
    cameras: tuple[str, ...] = ("front",),
    max_age_s: float = 0.2,
    env: int = 0,
    episode: int = 0,
    step: int = 0,
) -> Mark:
    return Mark(
        task=TASK,
        cameras=cameras,
        t_from_ns=0 if t_from_ms is None else START + t_from_ms * MS,
        t_to_ns=START + t_to_ms * MS,
        max_age_s=max_age_s,
        env=env,
        episode=episode,
        step=step,
    )


def times(frames: tuple[Frame, ...]) -> list[int]:
    return [frame.header.sequence for frame in frames]


def filled(*, camera: str = "front", offset_ms: int = 0) -> FrameJoiner:
    joiner = FrameJoiner()
    for at_ms in range(0, 1000, 100):
        joiner.put(arrival(at_ms, camera=camera, offset_ms=offset_ms))
    return joiner


def test_the_first_frame_at_or_after_the_end_of_the_step() -> None:
    joiner = filled()
    late = joiner.join(mark(310, t_from_ms=100))
    exact = joiner.join(mark(300))
    assert isinstance(late, Joined)
    assert (times(late.newest), times(late.reference)) == ([400], [100])
    assert late.misalignment_s == 0.09
    assert isinstance(exact, Joined)
    assert (times(exact.newest), exact.reference) == ([300], ())


def test_a_frame_that_comes_later_than_it_may_is_refused_for_good() -> None:
    found = filled().join(mark(310, max_age_s=0.05))
    assert isinstance(found, Missing)
    assert (found.reason, found.final) == ("NO_FRAME", True)


def test_a_frame_that_is_still_to_come_is_waited_for() -> None:
    joiner = filled()
    assert joiner.join(mark(950)) == joiner.wait(mark(950), timeout_s=0.0)
    heard = threading.Event()
    joiner.listen(lambda camera: heard.set())
    timer = threading.Timer(0.05, lambda: joiner.put(arrival(1000)))
    timer.start()
    found = joiner.wait(mark(950), timeout_s=10.0)
    timer.join()
    assert isinstance(found, Joined)
    assert times(found.newest) == [1000]
    assert heard.is_set()


def test_every_camera_of_the_mark_and_in_its_order() -> None:
    joiner = filled()
    both = mark(300, cameras=("wrist", "front"))
    missing = joiner.join(both)
    assert isinstance(missing, Missing)
    assert "wrist" in missing.detail
    joiner.put(arrival(320, camera="wrist"))
    found = joiner.join(both)
    assert isinstance(found, Joined)
    assert [frame.header.camera for frame in found.newest] == ["wrist", "front"]
    assert times(found.newest) == [320, 300]
    assert joiner.cameras() == ("front", "wrist")


def test_the_clocks_of_camera_and_asker_are_set_right() -> None:
    joiner = filled(offset_ms=7_000)
    asker_ahead = joiner.join(mark(310 + 2_000), offset_ns=2_000 * MS)
    assert isinstance(asker_ahead, Joined)
    assert times(asker_ahead.newest) == [400]


def test_a_clock_that_is_not_known_well_enough_is_said_to_be() -> None:
    joiner = FrameJoiner()
    joiner.put(arrival(100, uncertainty_ms=500))
    found = joiner.join(mark(100))
    assert isinstance(found, Missing)
    assert "clock" in found.detail


def test_a_silent_camera_is_stale() -> None:
    joiner = FrameJoiner()
    joiner.put(arrival(0, received_ns=time.monotonic_ns() - 10**10))
    found = joiner.join(mark(50))
    assert isinstance(found, Missing)
    assert (found.reason, found.final) == ("STALE", False)


def test_a_frozen_camera_is_stale_although_its_stamps_are_new() -> None:
    joiner = FrameJoiner(frozen_after=5)
    for at_ms in range(0, 500, 100):
        joiner.put(arrival(at_ms, value=7))
    assert isinstance(joiner.join(mark(400)), Joined)
    joiner.put(arrival(500, value=7))
    found = joiner.join(mark(500))
    assert isinstance(found, Missing)
    assert found.reason == "STALE"


def test_the_ring_is_bounded_in_time_and_bytes() -> None:
    by_time = FrameJoiner(ring_s=0.3)
    by_bytes = FrameJoiner(ring_bytes=3 * 4 * 4 * 3)
    for joiner in (by_time, by_bytes):
        for at_ms in range(0, 1000, 100):
            joiner.put(arrival(at_ms))
        found = joiner.join(mark(0, max_age_s=5.0))
        assert isinstance(found, Joined)
        assert times(found.newest) == [600 if joiner is by_time else 700]


def test_a_rendered_scene_is_joined_by_transition() -> None:
    joiner = FrameJoiner()
    for step in range(5):
        for env in range(2):
            tag = Tag(env=env, episode=3, step=step)
            joiner.put(arrival(100 * step + env, tag=tag, value=50 * env + step))
    # The mark is made a little after the state was published, as a wrapper does.
    found = joiner.join(mark(411, t_from_ms=211, env=1, episode=3, step=4))
    assert isinstance(found, Joined)
    assert (times(found.newest), times(found.reference)) == ([401], [201])
    later = joiner.join(mark(511, env=1, episode=3, step=5))
    other = joiner.join(mark(1, env=1, episode=4, step=0))
    assert isinstance(later, Missing)
    assert not later.final
    assert isinstance(other, Missing)


def test_a_scene_at_rest_is_not_frozen() -> None:
    joiner = FrameJoiner(frozen_after=3)
    for step in range(10):
        joiner.put(arrival(step, value=1, tag=Tag(step=step)))
    assert isinstance(joiner.join(mark(9, step=9)), Joined)
