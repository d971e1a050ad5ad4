"""Streams over real sockets: freshness, losslessness, restarts, hostile messages, clocks."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq

from robo_reward.errors import ConfigError, DeviceError, PeerUnreachable
from robo_reward.frames import Frame
from robo_reward.protocol.envelope import MAGIC, Refusal
from robo_reward.protocol.payload import checked
from robo_reward.protocol.stream import ITEMS, Tag, frame_item
from robo_reward.signals import Identity, Score, Signals
from robo_reward.transport.clock import OffsetEstimator, clock_name
from robo_reward.transport.outlet import Limits
from robo_reward.transport.stream import (
    Arrival,
    EventPublisher,
    EventSubscriber,
    FramePublisher,
    FrameSubscriber,
)

PERIOD_S = 1 / 30
WAIT_S = 10.0


def until(true: Callable[[], bool], *, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)


def picture(number: int, *, size: int = 16) -> Frame:
    image = np.full((size, size, 3), number % 256, np.uint8)
    return Frame.of(image, camera="front", sequence=number)


@pytest.fixture
def publisher() -> Iterator[FramePublisher]:
    with FramePublisher("tcp://127.0.0.1:*", camera="front") as made:
        yield made


class Camera(threading.Thread):
    """Publishes at 30 Hz and knows what is newest."""

    def __init__(self, publisher: FramePublisher) -> None:
        super().__init__(daemon=True)
        self.publisher = publisher
        self.newest = -1
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(PERIOD_S):
            self.publisher.publish(picture(self.newest + 1, size=224))
            self.newest += 1

    def stop(self) -> None:
        self.stopping.set()
        self.join()


def test_a_slow_puller_is_given_the_newest_frame_each_time(publisher: FramePublisher) -> None:
    camera = Camera(publisher)
    camera.start()
    behind = []
    with FrameSubscriber(publisher.address, name="slow") as slow:
        for _ in range(8):
            arrival = slow.receive(timeout_s=WAIT_S)
            assert arrival is not None
            behind.append(camera.newest - arrival.frame.header.sequence)
            time.sleep(0.2)  # what it does with the frame
        dropped = slow.stats().dropped
    camera.stop()
    # Queues of any kind would make this grow by six with every turn.
    assert max(behind) <= 10
    assert dropped > 0


def test_a_slow_callback_is_given_the_newest_frame_each_time(publisher: FramePublisher) -> None:
    camera = Camera(publisher)
    behind: list[int] = []

    def slowly(arrival: Arrival) -> None:
        behind.append(camera.newest - arrival.frame.header.sequence)
        time.sleep(0.2)

    camera.start()
    with FrameSubscriber(publisher.address, name="slow", on_frame=slowly):
        until(lambda: len(behind) >= 8)
    camera.stop()
    assert max(behind) <= 10


def test_who_gave_up_waiting_finds_the_newest_frame_and_not_the_first(
    publisher: FramePublisher,
) -> None:
    with FrameSubscriber(publisher.address, name="impatient") as subscriber:
        subscriber.wait_until_connected(timeout_s=WAIT_S)
        assert subscriber.receive(timeout_s=0.01) is None
        for number in range(20):
            publisher.publish(picture(number))
            until(lambda n=number: subscriber.stats().received > n)  # type: ignore[misc]
        arrival = subscriber.receive(timeout_s=WAIT_S)
    assert arrival is not None
    assert arrival.frame.header.sequence == 19


def test_each_consumer_has_its_own_mailbox(publisher: FramePublisher) -> None:
    seen: list[int] = []
    with (
        FrameSubscriber(publisher.address, name="idle") as idle,
        FrameSubscriber(
            publisher.address,
            name="recorder",
            mode="lossless",
            on_frame=lambda arrival: seen.append(arrival.frame.header.sequence),
        ),
    ):
        assert publisher.wait_for_consumers(2, timeout_s=WAIT_S)
        for number in range(300):
            publisher.publish(picture(number))
        until(lambda: len(seen) == 300)
        newest = idle.receive(timeout_s=WAIT_S)
        stats = {each.name: each for each in publisher.consumers()}
    assert seen == list(range(300))
    assert newest is not None
    assert newest.frame.header.sequence == 299
    assert newest.dropped == 299
    assert not stats["idle"].lossless
    assert stats["recorder"].lossless
    assert stats["recorder"].dropped == 0


def test_publish_never_waits_for_a_stopped_consumer() -> None:
    with FramePublisher("tcp://127.0.0.1:*", camera="front", limits=Limits(items=10)) as publisher:
        subscriber = FrameSubscriber(publisher.address, name="stuck", mode="lossless", window=4)
        assert publisher.wait_for_consumers(1, timeout_s=WAIT_S)
        for number in range(1000):
            publisher.publish(picture(number))
        until(lambda: publisher.consumers()[0].sent == 4)
        stats = publisher.consumers()[0]
        assert stats.waiting == 10
        assert stats.dropped == 1000 - 4 - 10
        assert not publisher.wait_for_room(timeout_s=0.0)
        first = subscriber.receive(timeout_s=WAIT_S)
        assert first is not None
        subscriber.close()


def test_a_lossless_stream_loses_nothing_when_the_connection_breaks() -> None:
    with (
        FramePublisher("tcp://127.0.0.1:*", camera="front") as publisher,
        Cable(publisher.address) as cable,
    ):
        seen: list[int] = []
        subscriber = FrameSubscriber(
            cable.address,
            name="recorder",
            mode="lossless",
            on_frame=lambda arrival: seen.append(arrival.frame.header.sequence),
        )
        assert publisher.wait_for_consumers(1, timeout_s=WAIT_S)
        for number in range(400):
            publisher.publish(picture(number, size=64))
            if number in (100, 250):
                cable.cut()
        until(lambda: bool(seen) and seen[-1] == 399)
        subscriber.close()
    assert seen == list(range(400))
    assert cable.cuts == 2


def test_a_killed_camera_is_met_again_after_its_restart() -> None:
    port = free_port()
    camera = start_camera(port)
    with FrameSubscriber(f"tcp://127.0.0.1:{port}", name="consumer") as subscriber:
        subscriber.wait_until_connected(timeout_s=WAIT_S)
        assert subscriber.receive(timeout_s=WAIT_S) is not None
        camera.kill()
        camera.wait()
        until(lambda: not subscriber.connected)
        camera = start_camera(port)
        until(lambda: subscriber.stats().restarts == 1)
        again = subscriber.receive(timeout_s=WAIT_S)
        camera.kill()
        camera.wait()
    assert again is not None
    assert again.age_s() < WAIT_S


def test_nothing_is_kept_for_a_consumer_that_said_goodbye() -> None:
    with FramePublisher("tcp://127.0.0.1:*", camera="front", lossless=True) as publisher:
        subscriber = FrameSubscriber(publisher.address, name="recorder", window=2)
        assert publisher.wait_for_consumers(1, timeout_s=WAIT_S)
        for number in range(10):
            publisher.publish(picture(number))
        assert not publisher.drain(timeout_s=0.0)
        subscriber.close()
        assert publisher.drain(timeout_s=WAIT_S)
        assert publisher.consumers() == []


def test_a_camera_that_is_not_there_is_an_error_with_its_address() -> None:
    with (
        FrameSubscriber(f"tcp://127.0.0.1:{free_port()}", name="early") as subscriber,
        pytest.raises(PeerUnreachable, match=r"127\.0\.0\.1"),
    ):
        subscriber.wait_until_connected(timeout_s=0.2)


def test_a_tagged_frame_waits_for_a_consumer_that_comes_later() -> None:
    with FramePublisher("tcp://127.0.0.1:*", camera="front", lossless=True) as publisher:
        publisher.publish(picture(1), tag=Tag(env=0, episode=2, step=5))
        publisher.publish(picture(2), tag=Tag(env=1, episode=0, step=9))
        with FrameSubscriber(publisher.address, name="late") as subscriber:
            found = [subscriber.receive(timeout_s=WAIT_S) for _ in range(2)]
            assert subscriber.stats().lossless
    assert [each.tag for each in found if each] == [
        Tag(env=0, episode=2, step=5),
        Tag(env=1, episode=0, step=9),
    ]


def test_a_path_that_is_bound_is_not_stolen(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/front"
    with (
        FramePublisher(address, camera="front"),
        pytest.raises(DeviceError, match="another process"),
    ):
        FramePublisher(address, camera="front")
    FramePublisher(address, camera="front").close()


def test_only_this_machine_is_bound_to_without_permission() -> None:
    with pytest.raises(ConfigError, match="insecure-no-auth"):
        FramePublisher("tcp://0.0.0.0:*", camera="front")
    FramePublisher("tcp://0.0.0.0:*", camera="front", insecure_no_auth=True).close()


def test_a_frame_that_is_too_large_is_refused_where_it_is_made(publisher: FramePublisher) -> None:
    with pytest.raises(ConfigError, match="JPEG"):
        publisher.publish(Frame.of(np.zeros((1500, 2000, 3), np.uint8)))


def test_noise_does_not_stop_a_source(publisher: FramePublisher) -> None:
    context = zmq.Context()
    noise = context.socket(zmq.DEALER)
    noise.setsockopt(zmq.LINGER, 0)
    noise.connect(publisher.address)
    random = np.random.default_rng(0)
    for size in range(64):
        noise.send_multipart([MAGIC, random.bytes(size)])
        noise.send_multipart([random.bytes(size)] * 3)
    with FrameSubscriber(publisher.address, name="honest") as subscriber:
        assert publisher.wait_for_consumers(1, timeout_s=WAIT_S)
        publisher.publish(picture(7))
        arrival = subscriber.receive(timeout_s=WAIT_S)
    noise.close()
    context.term()
    assert arrival is not None
    assert arrival.frame.header.sequence == 7


def test_a_frame_is_checked_before_it_is_decoded() -> None:
    frame = Frame.of(np.zeros((64, 64, 3), np.uint8), jpeg_quality=90)
    item = frame_item(frame, clock=clock_name())
    assert checked(item, frame.data).id == frame.id
    bomb = msgspec.structs.replace(item, shape=(1080, 1920, 3))
    for wrong, data in (
        (bomb, frame.data),
        (item, bytes(frame.data)[:-10]),
        (item, b"not a picture"),
        (msgspec.structs.replace(item, id="0" * 32), frame.data),
        (msgspec.structs.replace(item, encoding="rgb8"), frame.data),
    ):
        with pytest.raises(Refusal):
            checked(wrong, data)


def test_items_skip_unknown_fields_and_refuse_wrong_types() -> None:
    item = frame_item(picture(3), clock=clock_name())
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(item))
    read, _ = ITEMS.unpack([MAGIC, msgspec.msgpack.encode({**plain, "colour": 1})])
    assert read == item
    for wrong in ({"sequence": "3"}, {"shape": [0, 4, 3]}, {"id": "xyz"}, {"camera": ""}):
        with pytest.raises(Refusal):
            ITEMS.unpack([MAGIC, msgspec.msgpack.encode({**plain, **wrong})])


def test_events_arrive_whole_and_in_order() -> None:
    score = Score(signals=Signals(progress=0.5), identity=Identity(env=1, episode=2, step=3))
    lost = Score.missing("BUSY", identity=Identity(env=1, episode=2, step=4))
    with EventPublisher("tcp://127.0.0.1:*") as learner:
        learner.start("push the cube", env=1, episode=2, meta={"seed": 7})
        with EventSubscriber(learner.address, name="recorder") as recorder:
            assert learner.wait_for_consumers(1, timeout_s=WAIT_S)
            learner.action(np.array([1.0, -2.5]), env=1, episode=2, step=1)
            learner.score(score)
            learner.score(lost)
            learner.end(env=1, episode=2, step=1, success=True, reason="terminated")
            found = [recorder.receive(timeout_s=WAIT_S) for _ in range(5)]
            assert learner.drain(timeout_s=WAIT_S)
    start, action, first, second, end = (each for each in found if each is not None)
    assert (start.event.instruction, start.event.meta) == ("push the cube", {"seed": 7})  # type: ignore[union-attr]
    assert action.values is not None
    assert action.values.tolist() == [1.0, -2.5]
    assert first.event.score.signals.progress == 0.5  # type: ignore[union-attr]
    assert second.event.score.reason == "BUSY"  # type: ignore[union-attr]
    assert end.event.success is True  # type: ignore[union-attr]
    assert start.local_wall_ns <= action.local_wall_ns <= end.local_wall_ns


def test_the_offset_of_a_clock_is_that_of_the_shortest_trip() -> None:
    estimator = OffsetEstimator()
    assert not estimator.known
    for delay in (50, 3, 90):  # milliseconds on the way there; 1 ms on the way back
        sent = 1_000_000_000
        received = sent + delay * 1_000_000 + 7_000_000_000
        estimator.add(
            sent_ns=sent,
            received_ns=received,
            replied_ns=received,
            returned_ns=sent + (delay + 1) * 1_000_000,
        )
    assert estimator.uncertainty_ns == 2_000_000
    assert abs(estimator.offset_ns - 7_000_000_000) <= estimator.uncertainty_ns


def test_a_clock_that_is_set_makes_the_estimate_start_over() -> None:
    estimator = OffsetEstimator()
    for offset in [0] * 10 + [3_600_000_000_000] * 2:
        estimator.add(sent_ns=0, received_ns=offset, replied_ns=offset, returned_ns=1_000_000)
    assert estimator.steps == 1
    assert abs(estimator.offset_ns - 3_600_000_000_000) <= 1_000_000


CAMERA = """
import sys, time, numpy as np
from robo_reward.frames import Frame
from robo_reward.transport.stream import FramePublisher
publisher = FramePublisher(sys.argv[1], camera="front")
number = 0
while True:
    publisher.publish(Frame.of(np.zeros((8, 8, 3), np.uint8), camera="front", sequence=number))
    number += 1
    time.sleep(0.02)
"""


def start_camera(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CAMERA, f"tcp://127.0.0.1:{port}"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cable:
    """A TCP connection through here that can be cut."""

    def __init__(self, target: str) -> None:
        self._target = int(target.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self.cuts = 0
        self._start(self._accept)

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.cut()
        self.cuts -= 1
        with socket.create_connection(self._listener.getsockname()):
            pass  # wakes accept
        self._listener.close()
        self.cut()
        self.cuts -= 1
        for thread in self._threads:
            thread.join(timeout=5)

    def cut(self) -> None:
        self.cuts += 1
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._closed:
                near.close()
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._pairs.append((near, far))
            self._start(lambda a=near, b=far: self._pump(a, b))  # type: ignore[misc]
            self._start(lambda a=far, b=near: self._pump(a, b))  # type: ignore[misc]

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        source.close()

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()
