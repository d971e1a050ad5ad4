"""Rubbish on the sockets: refused, counted, and nobody else notices."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import simplejpeg
import zmq

from robo_reward.client import connect
from robo_reward.errors import ProtocolMismatch
from robo_reward.frames import Frame, content_hash
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.nodes.serve import Limits, RewardNode
from robo_reward.protocol.envelope import MAGIC, Header
from robo_reward.protocol.handshake import Hello, Refused, Welcome
from robo_reward.protocol.payload import FrameRef, refer
from robo_reward.protocol.score import FROM_NODE, TO_NODE, ScoreReply, ScoreRequest, TaskPut
from robo_reward.signals import Status
from robo_reward.transport.sockets import make_context, open_socket

from .serving_tools import FREE, TASK, check, frame, query, until

WAIT_S = 20.0
SESSION = "ab" * 16


class Peer:
    """A client that says whatever it is told to."""

    def __init__(self, address: str) -> None:
        self._context = make_context()
        self._socket = open_socket(self._context, zmq.DEALER, max_part_bytes=-1)
        self._socket.set(zmq.SNDTIMEO, 5000)
        self._socket.set(zmq.RCVTIMEO, 5000)
        self._socket.connect(address)
        self.boot = ""

    def say(self, *parts: bytes) -> None:
        self._socket.send_multipart(parts)

    def put(self, header: Header, *parts: bytes) -> None:
        self.say(*[bytes(part) for part in TO_NODE.pack(header, parts)])

    def hear(self) -> Header:
        return FROM_NODE.unpack(self._socket.recv_multipart())[0]

    def greet(self, session: str = SESSION) -> Welcome:
        self.put(Hello(session=session, window=16))
        welcome = self.hear()
        assert isinstance(welcome, Welcome), welcome
        self.boot = welcome.boot
        self.put(TaskPut(session=session, key=TASK.key, instruction=TASK.instruction))
        return welcome

    def ask(
        self, seq: int, refs: tuple[FrameRef, ...], *parts: bytes, **more: object
    ) -> ScoreReply:
        fields: dict[str, object] = {
            "session": SESSION, "boot": self.boot, "seq": seq, "env": 0, "episode": 0,
            "step": 0, "task": TASK.key, "budget_s": 5.0, "newest": refs,
        }  # fmt: skip
        self.put(ScoreRequest(**{**fields, **more}), *parts)  # type: ignore[arg-type]
        reply = self.hear()
        assert isinstance(reply, ScoreReply), reply
        return reply

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def node() -> Iterator[RewardNode]:
    limits = Limits(sessions=3)
    with RewardNode(OraclePixels(), address=FREE, warm_up=False, limits=limits) as made:
        yield made
        with connect(made.address) as source:
            check(query(1), source.submit([query(1)]).result(timeout_s=WAIT_S)[0])
        assert made.stats().get("internal_errors", 0) == 0


@pytest.fixture
def peer(node: RewardNode) -> Iterator[Peer]:
    made = Peer(node.address)
    yield made
    made.close()


@pytest.mark.parametrize(
    "blob",
    [
        b"GET / HTTP/1.1\r\nHost: robot\r\n\r\n",
        bytes(64),
        b"\xff" * 64,
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + bytes(48) + b"\x04\x29garbage",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_foreign_protocols_leave_the_node_alone(node: RewardNode, blob: bytes) -> None:
    host, port = node.address.removeprefix("tcp://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=5.0) as raw:
            raw.sendall(blob)
    until(lambda: node.stats().get("connections", 0) >= 20)


def test_a_peer_that_speaks_http_is_counted(node: RewardNode) -> None:
    host, port = node.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as raw:
        raw.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"BOGUS" + bytes(60))
        raw.settimeout(5.0)
        try:
            while raw.recv(4096):
                pass
        except OSError:
            pass
        until(lambda: node.stats().get("handshakes_failed", 0) >= 1)


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"GET / HTTP/1.1",),
        (MAGIC,),
        (MAGIC, b""),
        (MAGIC, b"\xc1"),
        (MAGIC, os.urandom(100)),
        (MAGIC, msgspec.msgpack.encode({"kind": "kill"})),
        (MAGIC, msgspec.msgpack.encode({"kind": "hello", "session": ["x"] * 32})),
        (MAGIC, b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system"),
    ],
)
def test_malformed_messages_are_counted_and_refused(
    node: RewardNode, peer: Peer, parts: tuple[bytes, ...]
) -> None:
    peer.say(*parts)
    refused = peer.hear()
    assert isinstance(refused, Refused)
    assert refused.reason == "BAD_HEADER"
    assert node.stats()["refused_BAD_HEADER"] == 1


def test_too_large_headers_and_too_many_parts_are_refused(node: RewardNode, peer: Peer) -> None:
    peer.say(MAGIC, b"\x80" * 9000)
    first = peer.hear()
    peer.say(MAGIC, b"\x80", *[b""] * 17)
    second = peer.hear()
    assert [getattr(one, "reason", "") for one in (first, second)] == ["TOO_LARGE", "TOO_LARGE"]


def test_rubbish_again_and_again_is_not_even_answered(node: RewardNode, peer: Peer) -> None:
    for _ in range(8):
        peer.say(MAGIC, b"\xc1")
    until(lambda: node.stats().get("ignored", 0) == 3)
    assert node.stats()["refused_BAD_HEADER"] == 5


def test_a_part_above_the_limit_costs_the_connection(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    peer.say(MAGIC, b"\x80", bytes(8 * 1024 * 1024 + 1))
    until(lambda: node.stats()["sessions"] >= 1)
    assert node.stats().get("in_ScoreRequest", 0) == 0


def test_other_versions_are_refused_with_both_named(node: RewardNode, peer: Peer) -> None:
    peer.say(b"RRW9", b"\x80")
    refused = peer.hear()
    assert isinstance(refused, Refused)
    assert (refused.reason, "9" in refused.detail, "1.0" in refused.detail) == (
        "VERSION",
        True,
        True,
    )
    peer.put(Hello(session=SESSION, oldest=7, newest=9))
    refused = peer.hear()
    assert isinstance(refused, Refused)
    assert "1.7 to 1.9" in refused.detail
    assert "1.0 to 1.0" in refused.detail


def test_a_client_of_another_version_says_so(
    node: RewardNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robo_reward.client import link

    def hello(**fields: object) -> Hello:
        return Hello(**{**fields, "oldest": 7, "newest": 9})  # type: ignore[arg-type]

    monkeypatch.setattr(link, "Hello", hello)
    with connect(node.address) as source:
        with pytest.raises(ProtocolMismatch, match=r"1\.7 to 1\.9.*1\.0 to 1\.0"):
            source.info()
        (score,) = source.submit([query(0)]).result(timeout_s=WAIT_S)
    monkeypatch.undo()
    assert (score.status, score.reason) == (Status.BAD_REQUEST, "VERSION")
    assert "1.7 to 1.9" in score.detail


def bomb(height: int, width: int) -> bytes:
    data = bytearray(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_ref(data: bytes, height: int, width: int, **more: object) -> FrameRef:
    fields: dict[str, object] = {
        "camera": "front", "sequence": 0, "mono_ns": 0, "wall_ns": 0, "encoding": "jpeg",
        "id": content_hash(data, encoding="jpeg", shape=(height, width, 3)),
        "shape": (height, width, 3), "part": 0,
    }  # fmt: skip
    return FrameRef(**{**fields, **more})  # type: ignore[arg-type]


def test_bombs_and_lies_end_in_bad_payload(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    good = bytes(frame(0, 0, jpeg=90).data)
    cases = [
        (bomb(1080, 1920), jpeg_ref(bomb(1080, 1920), 1080, 1920)),
        (bomb(4000, 4000), jpeg_ref(bomb(4000, 4000), 8, 8)),
        (good[: len(good) // 2], jpeg_ref(good[: len(good) // 2], 8, 8)),
        (good, jpeg_ref(good, 16, 16)),
        (good, jpeg_ref(good, 8, 8, id="0" * 32)),
        (b"", jpeg_ref(b"", 8, 8)),
        (bytes(100), jpeg_ref(bytes(100), 8, 8, encoding="rgb8")),
        (good, jpeg_ref(good, 8, 8, part=3)),
    ]
    reasons = [peer.ask(seq, (ref,), data).reason for seq, (data, ref) in enumerate(cases, start=1)]
    assert reasons == ["BAD_PAYLOAD"] * len(cases)
    assert node.stats().get("out_OK", 0) == 0


def test_wrong_bytes_under_a_hash_do_not_spoil_it_for_others(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    true, other = frame(1, 1), frame(0, 5)
    forged = refer(true, part=0)
    assert peer.ask(1, (forged,), bytes(other.data)).reason == "BAD_PAYLOAD"
    with connect(node.address) as source:
        asked = query(1, who=1)
        check(asked, source.submit([asked]).result(timeout_s=WAIT_S)[0])


def test_one_number_for_two_questions_is_refused(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    one, two = frame(0, 1), frame(0, 2)
    first = peer.ask(1, (refer(one, part=0),), bytes(one.data))
    again = peer.ask(1, (refer(one),), attempt=1)
    other = peer.ask(1, (refer(two, part=0),), bytes(two.data))
    assert (first.reason, again.reason, other.reason) == ("OK", "OK", "BAD_HEADER")
    assert again.progress == first.progress
    assert again.attempt == 1


def test_a_question_for_another_run_of_the_node_is_not_executed(
    node: RewardNode, peer: Peer
) -> None:
    peer.greet()
    one = frame(0, 1)
    reply = peer.ask(1, (refer(one, part=0),), bytes(one.data), boot="0" * 32)
    assert reply.reason == "NOT_READY"
    assert reply.boot == node.boot
    assert node.stats().get("rows", 0) == 0


def test_a_stranger_cannot_speak_for_a_session(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    thief = Peer(node.address)
    try:
        thief.boot = peer.boot
        one = frame(0, 1)
        assert thief.ask(1, (refer(one, part=0),), bytes(one.data)).reason == "NOT_READY"
    finally:
        thief.close()
    assert node.stats().get("rows", 0) == 0


def test_unknown_tasks_and_frames_are_named(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    one = frame(0, 1)
    reply = peer.ask(1, (refer(one),))
    assert (reply.reason, reply.need) == ("NEED_FRAMES", (one.id,))
    reply = peer.ask(2, (refer(one, part=0),), bytes(one.data), task="c" * 32)
    assert reply.reason == "TASK_UNKNOWN"


def test_a_task_under_a_false_key_is_refused(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    one = frame(0, 1)
    peer.put(TaskPut(session=SESSION, key="d" * 32, instruction="another sentence"))
    reply = peer.ask(1, (refer(one, part=0),), bytes(one.data), task="d" * 32)
    assert reply.reason == "BAD_HEADER"


def test_more_clients_than_allowed_are_told_busy_and_silent_ones_forgotten() -> None:
    limits = Limits(sessions=3, silence_s=0.5)
    with RewardNode(OraclePixels(), address=FREE, warm_up=False, limits=limits) as node:
        peers = [Peer(node.address) for _ in range(4)]
        try:
            for number, one in enumerate(peers):
                one.put(Hello(session=f"{number:032x}"))
            heard = [one.hear() for one in peers]
        finally:
            for one in peers:
                one.close()
        refused = [one.reason for one in heard if isinstance(one, Refused)]
        assert refused == ["BUSY"]
        until(lambda: node.stats()["sessions"] == 0)


def large(value: int) -> Frame:
    return Frame.of(np.full((400, 400, 3), value, np.uint8))


def test_wrong_bytes_of_a_large_frame_blame_who_sent_them(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    true, other = large(1), large(2)
    assert peer.ask(1, (refer(true, part=0),), bytes(other.data)).reason == "BAD_PAYLOAD"
    reply = peer.ask(2, (refer(true),))
    assert (reply.reason, reply.need) == ("NEED_FRAMES", (true.id,))
    assert peer.ask(3, (refer(true, part=0),), bytes(true.data)).reason == "OK"


def test_an_expired_budget_is_a_deadline(node: RewardNode, peer: Peer) -> None:
    peer.greet()
    one = frame(0, 1)
    assert peer.ask(1, (refer(one, part=0),), bytes(one.data), budget_s=0.0).reason == "DEADLINE"
    assert node.stats().get("rows", 0) == 0
