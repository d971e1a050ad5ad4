"""The reward node is killed, restarted, stopped, told to end: scores are right or missing."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from robo_reward.client import connect
from robo_reward.errors import ConfigError
from robo_reward.nodes.serve import ServeNode, ServeParameters
from robo_reward.query import Query
from robo_reward.signals import OUTAGE, Score

from .serving_tools import NodeProcess, check, query, until

WAIT_S = 30.0


@pytest.fixture
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="rr") as folder:
        yield f"ipc://{folder}/n"


def test_a_client_waits_out_a_node_that_is_killed_and_restarted(address: str) -> None:
    with NodeProcess(address) as node:
        node.wait_ready()
        with connect(address, deadline_s=1.0, patience_s=WAIT_S) as source:
            check(query(0), source.submit([query(0)]).result(timeout_s=WAIT_S)[0])
            for round_ in (1, 2):
                node.kill()
                asked = [query(step) for step in range(10 * round_, 10 * round_ + 10)]
                pending = source.submit(asked)
                node.restart()
                for one, score in zip(asked, pending.result(timeout_s=WAIT_S), strict=True):
                    check(one, score)
            stats = source.stats()
            assert stats["restarts"] == 2
            assert stats.get("misattributed", 0) == 0


def test_a_kill_under_load_gives_right_scores_or_none(address: str) -> None:
    with NodeProcess(address) as node:
        node.wait_ready()
        with connect(address, deadline_s=0.5) as source:
            source.info()
            answers: list[tuple[Query, Score]] = []
            for step in range(0, 400, 10):
                asked = [query(each) for each in range(step, step + 10)]
                pending = source.submit(asked)
                if step == 150:
                    node.kill()
                if step == 200:
                    node.restart()
                    node.wait_ready()
                answers += zip(asked, pending.result(timeout_s=WAIT_S), strict=True)
    assert len(answers) == 400
    good = 0
    for one, score in answers:
        if score.ok:
            check(one, score)
            good += 1
        else:
            assert score.status in OUTAGE
    assert good >= 300


def test_what_was_asked_while_the_node_was_down_is_not_executed_later(address: str) -> None:
    with NodeProcess(address) as node:
        node.wait_ready()
        with connect(address, deadline_s=0.3) as source:
            source.info()
            node.kill()
            lost = [source.submit([query(step)]) for step in range(20)]
            for pending in lost:
                (score,) = pending.result(timeout_s=WAIT_S)
                assert score.status in OUTAGE
            node.restart()
            node.wait_ready()
            pending = source.submit([query(99)], deadline_s=WAIT_S)
            check(query(99), pending.result(timeout_s=WAIT_S)[0])
            pending = source.submit([query(100)], deadline_s=WAIT_S)
            check(query(100), pending.result(timeout_s=WAIT_S)[0])
            # Sent once each: the twenty of the dead time never reached the new process.
            assert source.stats()["sent"] <= 2 + 2 * source.stats().get("retried", 0)
            stale = source.stats().get("late", 0)
            assert stale == 0


def test_sigterm_drains_and_ends_with_code_0(address: str) -> None:
    with NodeProcess(address) as node:
        node.wait_ready()
        with connect(address) as source:
            pending = source.submit([query(step) for step in range(50)])
            assert all(score.ok for score in pending.result(timeout_s=WAIT_S))
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(timeout=WAIT_S) == 0
            (score,) = source.submit([query(1)], deadline_s=0.3).result(timeout_s=WAIT_S)
            assert score.status in OUTAGE


def test_a_stopped_node_is_noticed_and_its_return_too(address: str) -> None:
    with NodeProcess(address) as node:
        node.wait_ready()
        with connect(address, deadline_s=0.4) as source:
            check(query(0), source.submit([query(0)]).result(timeout_s=WAIT_S)[0])
            node.process.send_signal(signal.SIGSTOP)
            try:
                (score,) = source.submit([query(1)]).result(timeout_s=WAIT_S)
                assert score.reason in ("DEADLINE", "PEER_LOST")
                until(lambda: source.stats().get("lost", 0) >= 1)
            finally:
                node.process.send_signal(signal.SIGCONT)
            pending = source.submit([query(2)], deadline_s=WAIT_S)
            check(query(2), pending.result(timeout_s=WAIT_S)[0])


def _client(address: str, who: int, steps: int, found: multiprocessing.Queue[object]) -> None:
    try:
        with connect(address, deadline_s=WAIT_S) as source:
            for start in range(0, steps, 5):
                asked = [query(step, who=who) for step in range(start, start + 5)]
                got = source.submit(asked).result(timeout_s=WAIT_S)
                for one, score in zip(asked, got, strict=True):
                    check(one, score)
            found.put(source.stats().get("misattributed", 0))
    except BaseException as error:
        found.put(repr(error))


def test_clients_in_eight_processes_get_their_own_scores(address: str) -> None:
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[object] = context.Queue()
    with NodeProcess(address) as node:
        node.wait_ready()
        clients = [
            context.Process(target=_client, args=(address, who, 50, found)) for who in range(8)
        ]
        for client in clients:
            client.start()
        results = [found.get(timeout=60.0) for _ in clients]
        for client in clients:
            client.join(WAIT_S)
    assert results == [0] * 8


def test_a_process_with_an_open_source_ends_at_once_when_the_node_is_down(address: str) -> None:
    code = (
        "from robo_reward.client import connect\n"
        f"source = connect({address!r}, deadline_s=0.2)\n"
        "from tests.nodes.serving_tools import query\n"
        "print(source.submit([query(0)]).result(timeout_s=5.0)[0].reason)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert ran.stdout.strip() == "PEER_LOST", ran.stderr
    assert ran.returncode == 0


def test_a_hung_model_ends_the_process_with_code_70(address: str) -> None:
    code = (
        "import sys, time\n"
        "from robo_reward.models import registry\n"
        "from robo_reward.models.oracle_pixels import OraclePixels\n"
        "class Hung(OraclePixels):\n"
        "    def _score(self, queries, newest, reference, history):\n"
        "        if any(query.step == 7 for query in queries):\n"
        "            time.sleep(600)\n"
        "        return super()._score(queries, newest, reference, history)\n"
        "from robo_reward.nodes.serve import RewardNode, give_up\n"
        f"node = RewardNode(Hung(), address={address!r}, stall_s=0.3, stall_exit_s=0.3,"
        " on_stall=give_up)\n"
        "with node:\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        with connect(address, deadline_s=1.0, connect_timeout_s=WAIT_S) as source:
            source.info()
            (score,) = source.submit([query(7)]).result(timeout_s=WAIT_S)
            assert score.status in OUTAGE
            assert process.wait(timeout=WAIT_S) == 70
    finally:
        process.kill()
        process.wait(timeout=WAIT_S)


def test_a_camera_may_be_a_topic_that_is_remapped() -> None:
    parameters = ServeParameters(
        namespace="lab",
        camera=("front=camera/front/frame", "wrist=/other/wrist", "top=tcp://127.0.0.1:5611"),
        remap=("camera/front/frame:=tcp://127.0.0.1:5612",),
    )
    cameras = ServeNode(parameters).server.cameras
    assert cameras["front"] == "tcp://127.0.0.1:5612"
    assert cameras["wrist"].endswith("other.wrist")
    assert cameras["top"] == "tcp://127.0.0.1:5611"


@pytest.mark.parametrize("camera", ["front", "front=", "2=camera/front", "front=a b"])
def test_a_camera_without_name_or_topic_is_refused(camera: str) -> None:
    with pytest.raises(ConfigError):
        ServeParameters(camera=(camera,))
