"""CURVE on real sockets: who gets in, what the others learn, and who may have which stream."""

from __future__ import annotations

import logging
import socket as posix
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from robo_reward.errors import AccessDenied, ConfigError, PeerUnreachable, TransportError
from robo_reward.frames import Frame
from robo_reward.transport.guard import Guard, Handshakes
from robo_reward.transport.inlet import Inlet
from robo_reward.transport.keyring import allow, make_members, read_public, revoke
from robo_reward.transport.keys import Keys
from robo_reward.transport.outlet import Outlet
from robo_reward.transport.sockets import (
    bind_socket,
    connect_socket,
    make_context,
    open_socket,
    receive_from,
    send,
)
from robo_reward.transport.stream import (
    EventPublisher,
    EventSubscriber,
    FramePublisher,
    FrameSubscriber,
)

WAIT_S = 20.0
FREE = "tcp://127.0.0.1:*"
EVERYONE = [
    ("gpu", "reward", ""), ("robot", "camera", ""), ("arm", "learner", ""),
    ("desk", "viewer", ""), ("anna", "operator", ""), ("other", "camera", "10.0.0.9"),
]  # fmt: skip


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    make_members(tmp_path / "keys", EVERYONE)
    return tmp_path / "keys"


@pytest.fixture
def camera(ring: Path) -> Iterator[FramePublisher]:
    with FramePublisher(FREE, camera="front", keys=Keys.load(ring / "robot")) as made:
        yield made


def picture(value: int = 0) -> Frame:
    return Frame.of(np.full((8, 8, 3), value, np.uint8), camera="front")


@pytest.mark.parametrize("name", ["gpu", "arm", "desk", "anna"])
def test_those_who_may_watch_are_given_frames(
    ring: Path, camera: FramePublisher, name: str
) -> None:
    with FrameSubscriber(camera.address, name=name, keys=Keys.load(ring / name)) as consumer:
        consumer.wait_until_connected(timeout_s=WAIT_S)
        camera.publish(picture(7))
        arrival = consumer.receive(timeout_s=WAIT_S)
        assert arrival is not None
        assert arrival.frame.image[0, 0, 0] == 7


def test_a_role_that_may_not_watch_is_told_so(ring: Path, camera: FramePublisher) -> None:
    keys = Keys.load(ring / "other")
    with FrameSubscriber(camera.address, name="spy", keys=keys) as spy:
        with pytest.raises(AccessDenied, match=r"other \(camera\) may not watch"):
            spy.wait_until_connected(timeout_s=WAIT_S)
        camera.publish(picture())
        assert spy.receive(timeout_s=0.3) is None
        assert spy.stats().why
    assert camera.consumers() == []


def test_strangers_are_refused_in_the_handshake(
    ring: Path, tmp_path: Path, camera: FramePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    make_members(tmp_path / "theirs", [("thief", "learner", "")])
    allow(tmp_path / "theirs" / "thief", [read_public(ring / "robot")])
    thief = Keys.load(tmp_path / "theirs" / "thief")
    with (
        FrameSubscriber(camera.address, name="spy", keys=thief) as spy,
        pytest.raises(AccessDenied, match="does not know our key"),
    ):
        spy.wait_until_connected(timeout_s=WAIT_S)
    assert f"stranger {thief.own.fingerprint}" in caplog.text
    assert camera.consumers() == []


def test_a_stranger_is_let_in_once_it_is_allowed(
    ring: Path, tmp_path: Path, camera: FramePublisher
) -> None:
    make_members(tmp_path / "theirs", [("friend", "viewer", "")])
    allow(tmp_path / "theirs" / "friend", [read_public(ring / "robot")])
    friend = Keys.load(tmp_path / "theirs" / "friend")
    with FrameSubscriber(camera.address, name="friend", keys=friend) as consumer:
        with pytest.raises(AccessDenied):
            consumer.wait_until_connected(timeout_s=WAIT_S)
        allow(ring / "robot", [friend.own])
        end = time.monotonic() + WAIT_S
        while not consumer.connected:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_revoking_bites_an_open_connection(ring: Path, camera: FramePublisher) -> None:
    keys = Keys.load(ring / "desk")
    with FrameSubscriber(camera.address, name="desk", keys=keys) as consumer:
        consumer.wait_until_connected(timeout_s=WAIT_S)
        revoke(ring / "robot", "desk")
        end = time.monotonic() + WAIT_S
        while consumer.stats().why == "" or camera.consumers():
            assert time.monotonic() < end
            time.sleep(0.02)
        camera.publish(picture())
        assert consumer.receive(timeout_s=0.3) is None


def test_without_keys_nobody_learns_more_than_a_closed_door(camera: FramePublisher) -> None:
    with FrameSubscriber(camera.address, name="spy") as spy:
        with pytest.raises(TransportError, match="it asks for keys"):
            spy.wait_until_connected(timeout_s=3.0)
        assert spy.stats().received == 0
    host, port = camera.address.removeprefix("tcp://").split(":")
    heard = b""
    with posix.create_connection((host, int(port)), timeout=5.0) as raw:
        raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48))
        raw.settimeout(3.0)
        try:
            while piece := raw.recv(4096):
                heard += piece
        except OSError:
            pass
    # The greeting of ZMTP 3.1 with the name of the mechanism; nothing of ours.
    assert len(heard) <= 64
    assert heard[10:].rstrip(b"\0") in (b"", b"\x03", b"\x03\x01CURVE" + bytes(15) + b"\x01")


def test_with_keys_nobody_talks_to_a_peer_that_has_none(ring: Path) -> None:
    keys = Keys.load(ring / "desk")
    with (
        FramePublisher(FREE, camera="front") as bare,
        FrameSubscriber(bare.address, name="desk", keys=keys) as consumer,
        # libzmq tells which it is, or not, depending on which end closes first.
        pytest.raises(TransportError, match=r"it has no(ne| keys)"),
    ):
        consumer.wait_until_connected(timeout_s=3.0)


def test_another_machine_behind_the_address_is_not_believed(ring: Path) -> None:
    keys = Keys.load(ring / "desk")
    with FramePublisher(FREE, camera="front", keys=Keys.load(ring / "arm")) as impostor:
        with (
            FrameSubscriber(impostor.address, name="desk", keys=keys) as consumer,
            pytest.raises(PeerUnreachable, match="not the one on our list"),
        ):
            consumer.wait_until_connected(timeout_s=3.0)
        assert impostor.consumers() == []


def test_events_and_scenes_go_to_those_who_may_have_them(ring: Path) -> None:
    learner, desk = Keys.load(ring / "arm"), Keys.load(ring / "desk")
    with (
        EventPublisher(FREE, keys=learner) as events,
        EventSubscriber(events.address, name="rec", keys=desk) as viewer,
    ):
        viewer.wait_until_connected(timeout_s=WAIT_S)
        events.start("push the cube")
        assert viewer.receive(timeout_s=WAIT_S) is not None
    outlet = Outlet(FREE, topic="scene", content="scene", keys=learner)
    follows = {"robot": True, "desk": False}
    for name, may in follows.items():
        inlet = Inlet(outlet.address, name=name, keys=Keys.load(ring / name), right="report")
        if may:
            inlet.wait_until_connected(timeout_s=WAIT_S)
        else:
            with pytest.raises(AccessDenied, match="may not follow"):
                inlet.wait_until_connected(timeout_s=WAIT_S)
        inlet.close()
    assert outlet.denied >= 1
    outlet.close()


def test_a_session_is_not_taken_over_with_another_key(ring: Path, camera: FramePublisher) -> None:
    with FrameSubscriber(camera.address, name="desk", keys=Keys.load(ring / "desk")) as owner:
        owner.wait_until_connected(timeout_s=WAIT_S)
        thief = Inlet(camera.address, name="thief", keys=Keys.load(ring / "arm"))
        thief._session = owner._inlet._session
        with pytest.raises(AccessDenied, match="that of another key"):
            thief.wait_until_connected(timeout_s=WAIT_S)
        thief.close()
        camera.publish(picture(3))
        arrival = owner.receive(timeout_s=WAIT_S)
        assert arrival is not None
        assert arrival.frame.image[0, 0, 0] == 3


def test_keys_open_an_address_and_nothing_else_does(ring: Path) -> None:
    for address in ("tcp://0.0.0.0:*", "tcp://*:*"):
        with pytest.raises(ConfigError, match=r"--keys FOLDER .* or add --insecure-no-auth"):
            FramePublisher(address, camera="front")
        FramePublisher(address, camera="front", keys=Keys.load(ring / "robot")).close()


def test_local_sockets_need_no_keys(ring: Path, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/s"
    with FramePublisher(address, camera="front", keys=Keys.load(ring / "robot")) as publisher:
        with FrameSubscriber(address, name="x", keys=Keys.load(ring / "desk")) as keyed:
            keyed.wait_until_connected(timeout_s=WAIT_S)
        with FrameSubscriber(publisher.address, name="y") as plain:
            plain.wait_until_connected(timeout_s=WAIT_S)


def test_without_a_guard_nobody_gets_in(ring: Path) -> None:
    """libzmq would let any key in: the sockets must say that they want an answer."""
    server, client = make_context(), make_context()
    router, dealer = open_socket(server, zmq.ROUTER), open_socket(client, zmq.DEALER)
    keys = Keys.load(ring / "arm")
    address = bind_socket(router, FREE, keys=Keys.load(ring / "gpu"))
    connect_socket(dealer, address, keys=keys)
    assert not dealer.poll(500, zmq.POLLOUT)
    assert not send(dealer, [b"hello"])
    assert not router.poll(100)
    for socket in (dealer, router):
        socket.close(0)
    client.term()
    server.term()


def test_the_key_of_a_message_is_that_of_its_connection(ring: Path) -> None:
    server, client = make_context(), make_context()
    gpu, arm = Keys.load(ring / "gpu"), Keys.load(ring / "arm")
    guard = Guard(server, gpu)
    router, dealer = open_socket(server, zmq.ROUTER), open_socket(client, zmq.DEALER)
    connect_socket(dealer, bind_socket(router, FREE, keys=gpu), keys=arm)
    assert dealer.poll(10_000, zmq.POLLOUT)
    assert send(dealer, [b"hello"])
    assert router.poll(10_000)
    peer, parts = receive_from(router, keyed=True) or ("", [])
    assert (peer, parts[1]) == (arm.own.public, b"hello")
    assert guard.check(peer, "query").name == "arm"
    assert guard.counts["admitted"] == 1
    for socket in (dealer, router):
        socket.close(0)
    client.term()
    server.term()


def test_a_flood_of_strangers_is_counted_and_its_log_is_short(
    ring: Path, camera: FramePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context()
    robot = read_public(ring / "robot")
    sockets = []
    with caplog.at_level(logging.WARNING):
        for _ in range(60):
            public, secret = zmq.curve_keypair()
            dealer = open_socket(context, zmq.DEALER)
            dealer.set(zmq.CURVE_SERVERKEY, robot.public.encode())
            dealer.set(zmq.CURVE_PUBLICKEY, public)
            dealer.set(zmq.CURVE_SECRETKEY, secret)
            dealer.connect(camera.address)
            sockets.append(dealer)
        with FrameSubscriber(camera.address, name="x", keys=Keys.load(ring / "desk")) as honest:
            honest.wait_until_connected(timeout_s=WAIT_S)
    for dealer in sockets:
        dealer.close(0)
    context.term()
    assert len(caplog.records) <= 60


def test_why_handshakes_fail_is_forgotten_when_one_succeeds() -> None:
    context = make_context()
    socket = open_socket(context, zmq.DEALER)
    watch = Handshakes(socket)
    watch._explain(zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400, keyed=True)
    assert watch.refused
    with FramePublisher(FREE, camera="front") as publisher:
        socket.connect(publisher.address)
        assert watch.monitor.poll(10_000)
        end = time.monotonic() + WAIT_S
        while not watch.succeeded:
            assert time.monotonic() < end
            watch.read(keyed=False)
    assert watch.refused == ""
    socket.close(0)
    watch.monitor.close(0)
    context.term()
