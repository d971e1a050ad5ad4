"""A hundred thousand hostile messages: refused, counted, and everybody else is answered rightly."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from robo_reward.client import connect
from robo_reward.frames import Frame
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.nodes.serve import Limits, RewardNode
from robo_reward.nodes.serving.desk import Desk
from robo_reward.nodes.serving.store import FrameStore
from robo_reward.protocol.envelope import Codec, Refusal
from robo_reward.transport.sockets import bind_socket, make_context, open_socket, receive, send
from robo_reward.transport.stream import FramePublisher, FrameSubscriber
from tests.protocol.test_golden import MESSAGES

from .fuzzing import CODECS, HUGE, Addressed, Assault, Forge, Message, Report, assault, bombard
from .guided import Lines
from .serving_tools import FREE, NodeProcess, check, query, until

WAIT_S = 30.0
AT_RULES, AT_DECODERS, AT_SOCKETS = 12_000, 40_000, 1_500
"""Messages of one test; with the seeds below more than 100,000 in all."""
GROWN_BYTES = 96 * 1024 * 1024
SOAK = Path(__file__).resolve().parents[2] / "outputs" / "soak" / "fuzz.json"

GOLDENS: list[Addressed] = [
    (codec, [bytes(part) for part in codec.pack(header, parts)])
    for codec, header, parts in MESSAGES.values()
]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rules_of_a_node_stand_every_message(seed: int) -> None:
    report = assault(seed, AT_RULES)
    assert report.wrong == []
    assert report.messages == AT_RULES
    # It reached what it was meant to reach.
    for reason in ("OK", "BAD_PAYLOAD", "NEED_FRAMES", "BAD_HEADER", "TASK_UNKNOWN", "NOT_READY"):
        assert report.counts[f"out_{reason}"] > 0, report.counts
    for reason in ("BAD_HEADER", "TOO_LARGE", "VERSION", "BAD_PAYLOAD"):
        assert report.counts[f"refused_{reason}"] > 0, report.counts


@pytest.mark.parametrize("seed", [1, 2])
def test_the_decoders_stand_every_message(seed: int) -> None:
    report = bombard(seed, AT_DECODERS, GOLDENS)
    assert report.wrong == []
    assert sum(report.counts.values()) == AT_DECODERS
    assert report.counts["refused_BAD_HEADER"] > AT_DECODERS / 4


def test_golden_messages_as_they_are_are_read() -> None:
    for codec, message in GOLDENS:
        codec.unpack(message)
    assert {id(codec) for codec, _ in GOLDENS} <= {id(codec) for codec in CODECS}


def _crash(*_: object) -> None:
    raise KeyError("planted")


def _gossip(*_: object) -> None:
    raise Refusal("BAD_HEADER", "Traceback (most recent call last): /srv/node.py")


def _leak(store: FrameStore, frame_id: str) -> None:
    store._slots.pop(frame_id)


def _nothing(*_: object) -> None:
    pass


class Liar(OraclePixels):
    """Says something else of every eighth picture."""

    def _encode(self, images: Sequence[np.ndarray], task: object) -> list[tuple[float, float]]:
        return [
            (0.99, 0.99) if image.sum() % 8 == 0 else (image[0, 0, 0] / 255, image[0, 1, 0] / 255)
            for image in images
        ]


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda patch: patch.setattr(Desk, "_check_frames", _crash), "KeyError"),
        (lambda patch: patch.setattr(Desk, "_task", _gossip), "tells too much"),
        (lambda patch: patch.setattr(FrameStore, "_drop", _leak), "bytes are kept"),
        (lambda patch: patch.setattr("tests.nodes.desk_bench.OraclePixels", Liar), "wrong score"),
        (lambda patch: patch.setattr(Desk, "_close", _nothing), "still open"),
    ],
    ids=["crash", "gossip", "leak", "lie", "never-closed"],
)
def test_a_planted_defect_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    report = assault(7, 4000)
    assert report.wrong, f"the fuzzer is blind to {said}"
    assert any(said in text for text in report.wrong), report.wrong


def test_messages_that_reach_new_lines_are_kept() -> None:
    lines, kept = Lines(), []
    attack = Assault(11)
    with lines.watched():
        for _ in range(600):
            message = attack.forge.next()
            attack.send(message)
            if lines.fresh():
                kept.append(message)
    assert 10 <= len(kept) <= 200
    assert {Path(name).name for name, _ in lines.seen} >= {"desk.py", "envelope.py", "sessions.py"}
    assert attack.report.wrong == []


class Crowd:
    """Connections that send what they are given; one that is cut or ignored is replaced."""

    def __init__(self, address: str, *, every: int = 40) -> None:
        self._address = address
        self._every = every
        self._context = make_context()
        self._socket = self._connect()
        self.sent = 0

    def say(self, message: Message) -> None:
        if self.sent % self._every == self._every - 1:
            self._socket.close(linger=200)
            self._socket = self._connect()
        self.sent += 1
        if message:
            self._socket.send_multipart(message)
        while receive(self._socket) is not None:
            pass

    def close(self) -> None:
        self._socket.close(linger=500)
        self._context.term()

    def _connect(self) -> zmq.Socket[bytes]:
        made = open_socket(self._context, zmq.DEALER, max_part_bytes=-1)
        made.set(zmq.SNDTIMEO, 20_000)
        made.connect(self._address)
        return made


def resident_bytes(pid: int) -> int:
    """Most memory that a process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def throw_noise(address: str, chance: random.Random) -> None:
    """Say what is not even ZeroMQ."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
    for blob in (b"GET /metrics HTTP/1.1\r\n\r\n", chance.randbytes(200), greeting + b"\x04\xff"):
        with socket.create_connection((host, int(port)), timeout=10.0) as raw:
            raw.sendall(blob)


def test_a_live_node_answers_rightly_through_it_all(tmp_path: Path, free_port: int) -> None:
    address, log = f"tcp://127.0.0.1:{free_port}", tmp_path / "log"
    forge = Forge(21)
    with NodeProcess(address, log=log) as process:
        process.wait_ready()
        pid = process.process.pid
        with connect(address, patience_s=20.0) as source:
            check(query(1), source.submit([query(1)]).result(timeout_s=WAIT_S)[0])
            before = resident_bytes(pid)
            score = Crowd(address)
            control = Crowd(f"tcp://127.0.0.1:{free_port + 1}")
            for number in range(AT_SOCKETS):
                (score if number % 5 else control).say(forge.next())
                if number % 100 == 0:
                    throw_noise(address, forge.chance)
                    asked = query(number % 40)
                    check(asked, source.submit([asked]).result(timeout_s=WAIT_S)[0])
            score.close()
            control.close()
            check(query(2), source.submit([query(2)]).result(timeout_s=WAIT_S)[0])
        grown = resident_bytes(pid) - before
        process.process.terminate()
        assert process.process.wait(timeout=30.0) == 0
    assert grown < GROWN_BYTES, f"{grown / 2**20:.0f} MiB"
    text = log.read_text()
    assert "Traceback" not in text, text[-3000:]


def test_a_camera_stands_bent_beats() -> None:
    forge = Forge(22)
    with FramePublisher("tcp://127.0.0.1:*", camera="front") as camera:
        crowd = Crowd(camera.address)
        for _ in range(AT_SOCKETS):
            crowd.say(forge.next())
        with FrameSubscriber(camera.address, name="honest") as honest:
            honest.wait_until_connected(timeout_s=WAIT_S)
            camera.publish(Frame.of(np.full((8, 8, 3), 5, np.uint8), camera="front"))
            arrival = honest.receive(timeout_s=WAIT_S)
        crowd.close()
        assert arrival is not None
        assert camera._outlet.malformed > AT_SOCKETS / 4


def replies(seed: int, *codecs: Codec[Any]) -> list[Message]:
    """Bent messages of the kinds that these read; one of them costs the connection."""
    forge = Forge(seed)
    honest = [message for codec, message in GOLDENS if any(codec is one for one in codecs)]
    made = [forge.bent(forge.chance.choice(honest)) for _ in range(AT_SOCKETS)]
    made = [message for message in made if HUGE not in message]
    made.insert(len(made) // 2, [*honest[0], HUGE])
    return made


def test_a_client_stands_a_node_that_lies() -> None:
    """Every question still ends in its one outcome, in time, and never in a number."""
    context = make_context()
    router = open_socket(context, zmq.ROUTER)
    address = bind_socket(router, FREE)
    bent = iter(replies(23, *CODECS))
    with connect(address, deadline_s=0.5, patience_s=2.0) as source:
        pending = source.submit([query(step) for step in range(20)])
        for message in bent:
            if router.poll(1):
                heard = router.recv_multipart()
                send(router, [heard[0], *message])
        scores = pending.result(timeout_s=WAIT_S)
    assert len(scores) == 20
    assert not any(score.ok for score in scores)
    router.close(0)
    context.term()


def test_a_consumer_stands_a_camera_that_lies() -> None:
    context = make_context()
    router = open_socket(context, zmq.ROUTER)
    address = bind_socket(router, FREE)
    seen: list[object] = []
    with FrameSubscriber(address, name="victim", on_frame=seen.append) as consumer:
        route = b""
        for message in replies(24, *CODECS):
            # A part above the limit costs the connection; the consumer begins another one.
            while not send(router, [route, *message]):
                if router.poll(5):
                    route = router.recv_multipart()[0]
        until(lambda: consumer.stats().refused > 100)
        assert consumer._inlet._thread.is_alive()
    router.close(0)
    context.term()


def test_a_flood_is_bounded_in_memory_and_in_what_it_costs_others() -> None:
    """One client sends frames as fast as it can and never reads; another is answered meanwhile."""
    limits = Limits(store_bytes=1024 * 1024, queue=32)
    with RewardNode(OraclePixels(), address=FREE, warm_up=False, limits=limits) as node:
        forge = Forge(25)
        crowd = Crowd(node.address, every=10_000)
        with connect(node.address, patience_s=20.0) as source:
            for step in range(10):
                for _ in range(60):
                    crowd.say(forge.honest())
                asked = query(step)
                check(asked, source.submit([asked]).result(timeout_s=WAIT_S)[0])
        crowd.close()
        assert node.stats()["store_bytes"] <= limits.store_bytes
        assert node.stats().get("internal_errors", 0) == 0


@pytest.mark.slow
def test_soak() -> None:
    """Seed after seed for the hours asked for; goes on where the last run stopped."""
    end = time.monotonic() + 3600 * float(os.environ.get("ROBO_REWARD_SOAK_HOURS", "1"))
    SOAK.parent.mkdir(parents=True, exist_ok=True)
    state = json.loads(SOAK.read_text()) if SOAK.exists() else {"seeds": 0, "messages": 0}
    corpus: list[Message] = []
    lines = Lines()
    while time.monotonic() < end:
        seed = 1000 + state["seeds"]
        for report in (_guided(seed, corpus, lines), bombard(seed, 20_000, GOLDENS)):
            assert report.wrong == [], f"seed {seed}: {report.wrong}"
            state["messages"] += report.messages
        state["seeds"] += 1
        state["lines"] = len(lines.seen)
        SOAK.with_suffix(".part").write_text(json.dumps(state))
        os.replace(SOAK.with_suffix(".part"), SOAK)
    assert resident_bytes(os.getpid()) < 2 * 1024**3


def _guided(seed: int, corpus: list[Message], lines: Lines) -> Report:
    """One assault in four is watched, and adds to the corpus that all of them bend."""
    attack = Assault(seed, corpus)
    if seed % 4 == 0:
        with lines.watched():
            for _ in range(1000):
                message = attack.forge.next()
                attack.send(message)
                if lines.fresh() and len(corpus) < 2000:
                    corpus.append(message)
    return attack.run(10_000)
