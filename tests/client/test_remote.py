from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from robo_reward.client import RemoteSource, connect
from robo_reward.errors import ConfigError, PeerUnreachable
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.nodes.serve import RewardNode
from robo_reward.signals import Status
from tests.nodes.serving_tools import FREE, GatedModel, check, query, until

WAIT_S = 20.0


@pytest.fixture
def node() -> Iterator[RewardNode]:
    with RewardNode(OraclePixels(), address=FREE, warm_up=False) as made:
        yield made


def test_without_a_node_the_answer_is_missing_in_time(free_port: int) -> None:
    with connect(f"tcp://127.0.0.1:{free_port}", deadline_s=0.2) as source:
        (score,) = source.submit([query(4, who=2)]).result(timeout_s=WAIT_S)
        assert (score.status, score.reason) == (Status.TIMEOUT, "PEER_LOST")
        assert (score.identity.env, score.identity.step) == (2, 4)
        assert score.identity.frames == (query(4, who=2).newest[0].id,)
        assert score.identity.client == source.session
        assert score.identity.total_s >= 0.2


def test_result_waits_no_longer_than_told(free_port: int) -> None:
    with connect(f"tcp://127.0.0.1:{free_port}", deadline_s=WAIT_S) as source:
        pending = source.submit([query(0), query(1)])
        scores = pending.result(timeout_s=0.05)
        assert [score.reason for score in scores] == ["DEADLINE", "DEADLINE"]
        assert not pending.done()


def test_info_says_that_nobody_answers_and_how_to_start_a_node(free_port: int) -> None:
    with (
        connect(f"tcp://127.0.0.1:{free_port}", connect_timeout_s=0.1) as source,
        pytest.raises(PeerUnreachable, match="robo-reward serve"),
    ):
        source.info()


def test_a_node_that_comes_later_is_found(free_port: int) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    with connect(address, deadline_s=0.2, patience_s=WAIT_S) as source:
        pending = source.submit([query(0)])
        until(lambda: source.stats() is not None)
        with RewardNode(OraclePixels(), address=address, warm_up=False):
            check(query(0), pending.result(timeout_s=WAIT_S)[0])


def test_nothing_asked_is_nothing_answered(node: RewardNode) -> None:
    with connect(node.address) as source:
        pending = source.submit([])
        assert pending.done()
        assert pending.result(timeout_s=0.0) == []


def test_a_closed_source_answers_cancelled_and_closes_twice(node: RewardNode) -> None:
    source = connect(node.address)
    check(query(0), source.submit([query(0)]).result(timeout_s=WAIT_S)[0])
    source.close()
    source.close()
    (score,) = source.submit([query(1)]).result(timeout_s=WAIT_S)
    assert score.status is Status.CANCELLED
    with pytest.raises(ConfigError):
        source.info()


def test_open_questions_are_cancelled_by_closing(free_port: int) -> None:
    source = connect(f"tcp://127.0.0.1:{free_port}", deadline_s=WAIT_S)
    pending = source.submit([query(0)])
    waiter: list[Status] = []
    thread = threading.Thread(
        target=lambda: waiter.append(pending.result(timeout_s=WAIT_S)[0].status)
    )
    thread.start()
    source.close()
    thread.join(WAIT_S)
    assert waiter == [Status.CANCELLED]


def test_cancel_ends_the_wait(free_port: int) -> None:
    with connect(f"tcp://127.0.0.1:{free_port}", deadline_s=WAIT_S) as source:
        pending = source.submit([query(0)])
        pending.cancel()
        (score,) = pending.result(timeout_s=WAIT_S)
        assert score.status is Status.CANCELLED


def test_a_pickled_source_opens_a_session_of_its_own(node: RewardNode) -> None:
    with connect(node.address, deadline_s=5.0, jpeg_quality=None) as source:
        check(query(0), source.submit([query(0)]).result(timeout_s=WAIT_S)[0])
        with copy.deepcopy(source) as twin:  # by way of the same two methods as pickle
            check(query(1), twin.submit([query(1)]).result(timeout_s=WAIT_S)[0])
            assert twin.session != source.session
            assert twin.deadline_s == 5.0
        check(query(2), source.submit([query(2)]).result(timeout_s=WAIT_S)[0])


def _in_child(source: RemoteSource, found: multiprocessing.Queue[object]) -> None:
    try:
        before = source.session
        (score,) = source.submit([query(1)], deadline_s=10.0).result(timeout_s=WAIT_S)
        check(query(1), score)
        found.put(source.session != before)
        source.close()
    except BaseException as error:
        found.put(repr(error))


def test_after_a_fork_the_child_opens_its_own_and_the_parent_goes_on(node: RewardNode) -> None:
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[object] = context.Queue()
    with connect(node.address, deadline_s=5.0) as source:
        check(query(0), source.submit([query(0)]).result(timeout_s=WAIT_S)[0])
        child = context.Process(target=_in_child, args=(source, found))
        child.start()
        assert found.get(timeout=WAIT_S) is True
        child.join(WAIT_S)
        assert child.exitcode == 0
        check(query(2), source.submit([query(2)]).result(timeout_s=WAIT_S)[0])


def test_threads_may_share_a_source(node: RewardNode) -> None:
    failures: list[BaseException] = []

    def run(source: RemoteSource, who: int) -> None:
        try:
            for step in range(30):
                asked = query(step, who=who)
                check(asked, source.submit([asked]).result(timeout_s=WAIT_S)[0])
        except BaseException as error:
            failures.append(error)

    with connect(node.address, deadline_s=WAIT_S) as source:
        threads = [threading.Thread(target=run, args=(source, who)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    assert failures == []


def test_an_answer_is_taken_in_while_nobody_waits_for_it(node: RewardNode) -> None:
    with connect(node.address) as source:
        pending = source.submit([query(3)])
        until(lambda: pending.settled)
        check(query(3), pending.result(timeout_s=0.0)[0])


def test_an_interrupt_amid_a_message_costs_the_open_questions_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = GatedModel()
    with (
        RewardNode(model, address=FREE, warm_up=False) as node,
        connect(node.address, deadline_s=WAIT_S) as source,
    ):
        pending = source.submit([query(1)])
        link = source._open()
        turn, me = link._turn, threading.get_ident()

        def interrupted(ready: dict[object, int]) -> None:
            if threading.get_ident() == me:
                raise KeyboardInterrupt
            turn(ready)

        monkeypatch.setattr(link, "_turn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pending.result(timeout_s=WAIT_S)
        assert pending.result(timeout_s=WAIT_S)[0].status is Status.CANCELLED
        model.gate.set()
        check(query(2), source.submit([query(2)]).result(timeout_s=WAIT_S)[0])
        assert source._open() is not link


def test_a_source_that_is_dropped_leaves_no_thread_and_no_file(node: RewardNode) -> None:
    def use() -> None:
        source = connect(node.address)
        check(query(0), source.submit([query(0)]).result(timeout_s=WAIT_S)[0])

    def links() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "robo-reward-link"]

    use()
    gc.collect()
    until(lambda: not links())
    files = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        use()
    gc.collect()
    until(lambda: not links())
    until(lambda: len(os.listdir("/proc/self/fd")) <= files + 2)


@pytest.mark.parametrize(
    "options",
    [{"deadline_s": 0}, {"jpeg_quality": 0}, {"jpeg_quality": 101}, {"window": 0}],
)
def test_settings_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        RemoteSource("tcp://127.0.0.1:5601", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1:5601", "tcp://host", "http://x:1", "tcp://a:99999"])
def test_addresses_are_checked(address: str) -> None:
    with pytest.raises(ConfigError, match="address must be"):
        RemoteSource(address)


def test_the_client_needs_nothing_heavy() -> None:
    code = (
        "import sys, robo_reward.client\n"
        "robo_reward.client.RemoteSource('tcp://127.0.0.1:1').close()\n"
        "heavy = {'torch', 'cv2', 'gymnasium', 'mujoco', 'pandas', 'pyarrow', 'scipy', 'tyro'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_marks_are_moved_to_the_clock_of_the_node(node: RewardNode) -> None:
    with connect(node.address) as source:
        source.info()
        until(lambda: "node_queued" in source.stats())
        assert source.stats()["clock_offset_s"] == 0.0  # the same machine: exact
