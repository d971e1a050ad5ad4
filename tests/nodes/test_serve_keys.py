"""A reward node with keys: who may ask, how much, and what everybody else is told."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from robo_reward.client import RemoteSource, connect
from robo_reward.errors import AccessDenied, ConfigError, PeerUnreachable
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.nodes.serve import Limits, RewardNode, ServeParameters
from robo_reward.nodes.serving.meter import Meter
from robo_reward.protocol.envelope import Header
from robo_reward.protocol.handshake import Beat, Cancel, Hello, Refused, Welcome
from robo_reward.protocol.payload import refer
from robo_reward.protocol.score import (
    CONTROL_TO_NODE,
    FROM_NODE,
    TO_NODE,
    ScoreReply,
    ScoreRequest,
    TaskPut,
)
from robo_reward.signals import Status
from robo_reward.transport.keyring import allow, make_members, read_public, revoke
from robo_reward.transport.keys import Keys
from robo_reward.transport.sockets import connect_socket, make_context, open_socket, receive

from .serving_tools import FREE, TASK, NodeProcess, check, frame, query, until

WAIT_S = 20.0
SESSION = "ab" * 16
EVERYONE = [
    ("gpu", "reward", ""), ("robot", "camera", ""), ("arm", "learner", ""),
    ("other", "learner", ""), ("desk", "viewer", ""), ("anna", "operator", ""),
]  # fmt: skip


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    make_members(tmp_path / "keys", EVERYONE)
    return tmp_path / "keys"


@pytest.fixture
def node(ring: Path) -> Iterator[RewardNode]:
    limits = Limits(peer_sessions=2)
    keys = Keys.load(ring / "gpu")
    model = OraclePixels()
    with RewardNode(model, address=FREE, warm_up=False, keys=keys, limits=limits) as made:
        yield made
        with connect(made.address, keys=ring / "arm") as source:
            check(query(1), source.submit([query(1)]).result(timeout_s=WAIT_S)[0])
        assert made.stats().get("internal_errors", 0) == 0


class Peer:
    """A client with keys that says whatever it is told to."""

    def __init__(self, node: RewardNode, keys: Keys) -> None:
        self._context = make_context()
        self.score = open_socket(self._context, zmq.DEALER, max_part_bytes=-1)
        self.control = open_socket(self._context, zmq.DEALER)
        assert node._door is not None
        for socket, address in ((self.score, node.address), (self.control, node._door.control)):
            socket.set(zmq.SNDTIMEO, 10_000)
            connect_socket(socket, address, keys=keys)
        self.boot = ""

    def put(self, header: Header, *parts: bytes) -> None:
        self.score.send_multipart(TO_NODE.pack(header, parts))

    def hear(self) -> Header:
        assert self.score.poll(10_000), "no answer"
        return FROM_NODE.unpack(self.score.recv_multipart())[0]

    def greet(self, session: str = SESSION) -> Header:
        self.put(Hello(session=session, window=16))
        welcome = self.hear()
        if isinstance(welcome, Welcome):
            self.boot = welcome.boot
            self.put(TaskPut(session=session, key=TASK.key, instruction=TASK.instruction))
        return welcome

    def ask(self, seq: int, session: str = SESSION) -> Header:
        one = frame(0, 1)
        request = ScoreRequest(
            session=session, boot=self.boot, seq=seq, env=0, episode=0, step=1, task=TASK.key,
            budget_s=5.0, newest=(refer(one, part=0),),
        )  # fmt: skip
        self.put(request, bytes(one.data))
        return self.hear()

    def close(self) -> None:
        for socket in (self.score, self.control):
            socket.close(0)
        self._context.term()


def reason(header: Header) -> str:
    assert isinstance(header, Refused | ScoreReply), header
    return header.reason


def test_a_learner_on_the_list_is_answered(ring: Path, node: RewardNode) -> None:
    with connect(node.address, keys=ring / "arm") as source:
        assert source.info().model == "oracle-pixels@1"
        asked = [query(step) for step in range(5)]
        for one, score in zip(asked, source.submit(asked).result(timeout_s=WAIT_S), strict=True):
            check(one, score)
    assert node.stats()["admitted"] >= 1


@pytest.mark.parametrize("name", ["robot", "desk", "anna"])
def test_a_wrong_role_is_denied_by_name(ring: Path, node: RewardNode, name: str) -> None:
    with connect(node.address, keys=ring / name) as source:
        with pytest.raises(AccessDenied, match=rf"{name} \(\w+\) may not query"):
            source.info()
        (score,) = source.submit([query(0)]).result(timeout_s=WAIT_S)
    assert (score.status, score.reason) == (Status.BAD_REQUEST, "DENIED")
    assert node.stats()["refused_DENIED"] >= 1
    assert node.stats().get("rows", 0) == 0


def test_a_stranger_gets_one_clear_line_and_no_answer(
    ring: Path, node: RewardNode, tmp_path: Path
) -> None:
    make_members(tmp_path / "theirs", [("thief", "learner", "")])
    allow(tmp_path / "theirs" / "thief", [read_public(ring / "gpu")])
    with connect(node.address, keys=tmp_path / "theirs" / "thief") as source:
        with pytest.raises(AccessDenied, match="does not know our key") as caught:
            source.info()
        (score,) = source.submit([query(0)], deadline_s=0.5).result(timeout_s=WAIT_S)
    assert "\n" not in str(caught.value)
    assert score.reason in ("DENIED", "PEER_LOST")
    assert node.stats()["strangers"] >= 1
    assert node.stats().get("in_Hello", 0) == 0


def test_without_keys_the_client_says_what_it_lacks(node: RewardNode) -> None:
    with (
        connect(node.address, connect_timeout_s=3.0) as source,
        pytest.raises((AccessDenied, PeerUnreachable), match="asks for keys"),
    ):
        source.info()
    assert node.stats()["handshakes_failed"] >= 1
    assert node.stats().get("in_Hello", 0) == 0


def test_an_impostor_is_not_asked(ring: Path) -> None:
    """Whoever answers at the address without the node's key never gets to see a frame."""
    keys = Keys.load(ring / "other")
    with RewardNode(OraclePixels(), address=FREE, warm_up=False, keys=keys) as impostor:
        with (
            connect(impostor.address, keys=ring / "arm", connect_timeout_s=3.0) as source,
            pytest.raises(PeerUnreachable, match="not the one on our list"),
        ):
            source.info()
        assert impostor.stats().get("in_Hello", 0) == 0


def test_revoking_bites_while_connected_and_allowing_mends(ring: Path, node: RewardNode) -> None:
    other = read_public(ring / "other")
    with connect(node.address, keys=ring / "other") as source:
        check(query(1), source.submit([query(1)]).result(timeout_s=WAIT_S)[0])
        revoke(ring / "gpu", "other")

        def denied() -> bool:
            (score,) = source.submit([query(2)], deadline_s=1.0).result(timeout_s=WAIT_S)
            return score.reason == "DENIED"

        until(denied)
        allow(ring / "gpu", [other])

        def answered() -> bool:
            (score,) = source.submit([query(3)], deadline_s=1.0).result(timeout_s=WAIT_S)
            return score.ok

        until(answered)


def test_a_session_belongs_to_its_key(ring: Path, node: RewardNode) -> None:
    owner, thief = Peer(node, Keys.load(ring / "arm")), Peer(node, Keys.load(ring / "other"))
    try:
        welcome = owner.greet()
        assert isinstance(welcome, Welcome)
        assert reason(owner.ask(1)) == "OK"
        assert reason(thief.greet()) == "DENIED"
        thief.boot = welcome.boot
        assert reason(thief.ask(2)) == "NOT_READY"
        for header in (
            Cancel(session=SESSION, seqs=(1, 2, 3)),
            Beat(session=SESSION, mono_ns=0, wall_ns=0),
        ):
            thief.control.send_multipart(CONTROL_TO_NODE.pack(header))
        until(lambda: node.stats().get("refused_DENIED", 0) >= 3)
        assert receive(thief.control) is None
        assert reason(owner.ask(3)) == "OK"
    finally:
        owner.close()
        thief.close()


def test_one_key_has_so_many_sessions_and_no_more(ring: Path, node: RewardNode) -> None:
    greedy, honest = Peer(node, Keys.load(ring / "arm")), Peer(node, Keys.load(ring / "other"))
    try:
        heard = [greedy.greet(session=f"{number:032x}") for number in range(4)]
        assert [isinstance(one, Welcome) for one in heard] == [True, True, False, False]
        assert {reason(one) for one in heard[2:]} == {"BUSY"}
        assert isinstance(honest.greet(session="f" * 32), Welcome)
    finally:
        greedy.close()
        honest.close()
    until(lambda: node.stats()["sessions"] == 0)


def test_rubbish_is_held_against_the_key_and_not_the_connection(
    ring: Path, node: RewardNode
) -> None:
    keys = Keys.load(ring / "other")
    for _ in range(2):
        peer = Peer(node, keys)
        for _ in range(4):
            peer.score.send_multipart([b"RRW1", b"\xc1"])
        until(lambda: node.stats().get("refused_BAD_HEADER", 0) >= 4)
        time.sleep(0.05)
        peer.close()
    until(lambda: node.stats().get("ignored", 0) >= 3)
    assert node.stats()["refused_BAD_HEADER"] == 5


def test_who_sends_too_much_is_told_when_to_go_on_and_others_do_not_notice(ring: Path) -> None:
    limits = Limits(peer_messages_s=20.0)
    keys = Keys.load(ring / "gpu")
    with RewardNode(OraclePixels(), address=FREE, warm_up=False, keys=keys, limits=limits) as node:
        greedy = Peer(node, Keys.load(ring / "arm"))
        try:
            greedy.greet()
            heard = [greedy.ask(seq) for seq in range(1, 41)]
            with connect(node.address, keys=ring / "other") as source:
                check(query(1), source.submit([query(1)]).result(timeout_s=WAIT_S)[0])
        finally:
            greedy.close()
        busy = [one for one in heard if reason(one) == "BUSY"]
        assert 10 <= len(busy) <= 25
        assert all(isinstance(one, ScoreReply) and one.retry_after_s > 0 for one in busy)
        assert node.stats()["rate_limited"] == len(busy)


def test_a_client_above_its_rate_gets_every_score_all_the_same(ring: Path) -> None:
    limits = Limits(peer_messages_s=40.0)
    keys = Keys.load(ring / "gpu")
    with (
        RewardNode(OraclePixels(), address=FREE, warm_up=False, keys=keys, limits=limits) as node,
        connect(node.address, keys=ring / "arm", patience_s=30.0, window=8) as source,
    ):
        asked = [query(step) for step in range(70)]
        for one, score in zip(asked, source.submit(asked).result(timeout_s=60.0), strict=True):
            check(one, score)
        assert node.stats()["rate_limited"] > 0


def test_bytes_are_metered_too_and_a_large_message_passes_in_the_end() -> None:
    meter = Meter(messages_s=1000.0, bytes_s=1000.0)
    assert meter.wait_s("a", 900, now_s=0.0) == 0.0
    assert meter.wait_s("a", 900, now_s=0.0) == pytest.approx(0.8)
    assert meter.wait_s("a", 900, now_s=0.8) == pytest.approx(0.0)
    assert meter.wait_s("b", 5000, now_s=0.8) == 0.0
    assert meter.wait_s("b", 1, now_s=0.8) > 0.0
    for number in range(5000):
        meter.wait_s(number, 1, now_s=1.0)
    assert len(meter._buckets) <= 1024


def test_sources_carry_the_folder_and_not_the_secret(ring: Path) -> None:
    secret = (ring / "arm" / "secret.key").read_text().split()[-1]
    source = RemoteSource("tcp://127.0.0.1:5601", keys=ring / "arm")
    data = pickle.dumps(source)
    assert secret.encode() not in data
    assert pickle.loads(data).keys == ring / "arm"
    source.close()


def test_settings_without_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="peer_messages_s must be > 0"):
        ServeParameters(peer_messages_s=0.0)
    with pytest.raises(ConfigError, match=r"holds no secret\.key"):
        connect("tcp://127.0.0.1:5601", keys=tmp_path).info()


def test_processes_with_keys_on_every_interface(ring: Path, tmp_path: Path, free_port: int) -> None:
    """The node as a process of its own, bound to every interface."""
    address = f"tcp://127.0.0.1:{free_port}"
    flags = ("--keys", str(ring / "gpu"), "--log-level", "debug")
    log = tmp_path / "node.log"
    with NodeProcess(f"tcp://0.0.0.0:{free_port}", *flags, log=log) as process:
        with RemoteSource(address, connect_timeout_s=60.0, keys=ring / "arm") as source:
            check(query(1), source.submit([query(1)], deadline_s=10.0).result(timeout_s=WAIT_S)[0])
        with (
            RemoteSource(address, connect_timeout_s=5.0, keys=ring / "desk") as source,
            pytest.raises(AccessDenied, match="may not query"),
        ):
            source.info()
        process.process.terminate()
        assert process.process.wait(timeout=30.0) == 0
    text = log.read_text()
    assert "may not query" in text
    for folder in ring.iterdir():
        secret = (folder / "secret.key").read_text().split()[-1]
        assert secret not in text


def test_no_log_holds_a_secret(ring: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys.load(ring / "gpu")
    with (
        caplog.at_level(logging.DEBUG),
        RewardNode(OraclePixels(), address=FREE, warm_up=False, keys=keys) as node,
    ):
        for name in ("arm", "desk"):
            with connect(node.address, keys=ring / name) as source:
                source.submit([query(0)]).result(timeout_s=WAIT_S)
        revoke(ring / "gpu", "arm")
        os.chmod(ring / "other" / "secret.key", 0o644)
        with pytest.raises(ConfigError) as caught:
            connect(node.address, keys=ring / "other").info()
    text = caplog.text + str(caught.value) + repr(caught.value)
    assert "may not query" in text
    for folder in ring.iterdir():
        assert (folder / "secret.key").read_text().split()[-1] not in text
    with pytest.raises(subprocess.CalledProcessError) as stopped:
        subprocess.run(
            [sys.executable, "-m", "robo_reward.nodes.serve", "--keys", str(ring / "other")],
            check=True,
            capture_output=True,
            timeout=60.0,
        )
    assert b"chmod 600" in stopped.value.stderr
    assert stopped.value.returncode == 2
