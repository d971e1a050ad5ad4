"""The reward node and its clients in one process: identity, batching, refusals, bounds."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from robo_reward.client import RemoteSource, connect, local
from robo_reward.client.asks import RemotePending
from robo_reward.errors import ConfigError, DeviceError, ModelError
from robo_reward.frames import Frame
from robo_reward.models.base import RewardModel
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.nodes.lifecycle import State
from robo_reward.nodes.serve import Limits, RewardNode
from robo_reward.query import Mark, Query
from robo_reward.signals import Status
from robo_reward.task import Task

from .serving_tools import (
    FREE,
    TASK,
    CountingModel,
    GatedModel,
    TouchyModel,
    check,
    frame,
    query,
    until,
)

WAIT_S = 20.0


def ask(source: RemoteSource, *queries: Query | Mark) -> list[str]:
    return [score.reason for score in source.submit(queries).result(timeout_s=WAIT_S)]


def test_the_node_gives_the_scores_of_the_model() -> None:
    queries = [query(step) for step in range(40)]
    with local(OraclePixels()) as here:
        wanted = here.submit(queries).result(timeout_s=WAIT_S)
    with RewardNode(OraclePixels(), address=FREE) as node, connect(node.address) as source:
        assert source.info() == here.info()
        got = source.submit(queries).result(timeout_s=WAIT_S)
    for one, there, ours in zip(queries, got, wanted, strict=True):
        check(one, there)
        assert there.signals == ours.signals
        assert there.identity.frames == ours.identity.frames
        assert there.identity.reference == ours.identity.reference
        assert there.identity.client == source.session
        assert there.identity.age_s >= 0
        assert 0 <= there.identity.queue_s <= there.identity.total_s


def test_a_frame_travels_and_is_encoded_once() -> None:
    model = CountingModel()
    steps = 60
    with RewardNode(model, address=FREE) as node, connect(node.address) as source:
        warm = model.images
        for step in range(steps):
            asked = query(step)
            (score,) = source.submit([asked]).result(timeout_s=WAIT_S)
            check(asked, score)
        assert source.stats()["frames_sent"] == steps
        assert model.images - warm == steps
        assert node.stats()["encoded_frames"] == steps


def test_jpeg_is_decoded_at_the_node_and_names_what_was_scored() -> None:
    image = np.kron(paint(0.5, 1.0, size=8), np.ones((16, 16, 1), np.uint8))
    asked = Query(task=TASK, newest=(Frame.of(image),))
    with (
        RewardNode(OraclePixels(), address=FREE) as node,
        connect(node.address, jpeg_quality=95) as source,
    ):
        (score,) = source.submit([asked]).result(timeout_s=WAIT_S)
        sent = source.stats()["sent_bytes"]
    assert abs(score.signals.progress - 0.5) < 0.05
    assert score.identity.frames != (asked.newest[0].id,)
    assert sent < image.nbytes / 4


def test_a_large_frame_is_decoded_in_the_pool() -> None:
    asked = [query(step, size=480) for step in range(6)]
    with RewardNode(OraclePixels(), address=FREE) as node, connect(node.address) as source:
        scores = source.submit(asked).result(timeout_s=WAIT_S)
    for one, score in zip(asked, scores, strict=True):
        check(one, score)


def test_frames_the_node_lost_are_asked_for_and_sent_again() -> None:
    limits = Limits(store_bytes=2000)  # ten small frames
    with (
        RewardNode(OraclePixels(), address=FREE, limits=limits) as node,
        connect(node.address) as source,
    ):
        for step in [*range(30), *range(30)]:
            asked = query(step)
            (score,) = source.submit([asked]).result(timeout_s=WAIT_S)
            check(asked, score)
        assert source.stats()["mended_NEED_FRAMES"] >= 1
        assert source.stats()["frames_sent"] <= 62
        assert node.stats()["store_bytes"] <= 2000


def test_goal_and_demonstration_reach_the_model() -> None:
    seen: list[Task] = []

    class Looking(OraclePixels):
        def _score(self, queries, newest, reference, history):  # type: ignore[no-untyped-def]
            seen.extend(one.task for one in queries)
            return super()._score(queries, newest, reference, history)

    demo = tuple(frame(7, step) for step in range(40))
    task = Task(instruction="fold the towel", goal=frame(8, 0), demo=demo, stage="grasp")
    asked = Query(task=task, newest=(frame(0, 0),))
    with RewardNode(Looking(), address=FREE) as node, connect(node.address) as source:
        (score,) = source.submit([asked]).result(timeout_s=WAIT_S)
        assert score.ok, score
        assert seen[-1].key == task.key
        assert [one.id for one in seen[-1].demo] == [one.id for one in demo]
        assert ask(source, asked, asked) == ["OK", "OK"]
        assert node.stats()["in_TaskPut"] == 1


def test_many_tasks_are_forgotten_and_put_again() -> None:
    limits = Limits(tasks=2)
    tasks = [Task(instruction=f"task number {number}") for number in range(5)]
    with (
        RewardNode(OraclePixels(), address=FREE, limits=limits) as node,
        connect(node.address) as source,
    ):
        for _ in range(2):
            for task in tasks:
                assert ask(source, Query(task=task, newest=(frame(0, 0),))) == ["OK"]


def test_only_the_guilty_rows_fail() -> None:
    asked = [query(step) for step in range(30)]
    with RewardNode(TouchyModel(), address=FREE) as node, connect(node.address) as source:
        scores = source.submit(asked).result(timeout_s=WAIT_S)
        assert node.stats()["failed_batches"] >= 1
    for one, score in zip(asked, scores, strict=True):
        if one.step in (13, 17):
            assert score.status is Status.MODEL_ERROR
            assert "secret" not in score.detail
            assert np.isnan(score.signals.progress)
        else:
            check(one, score)


def repeat(source: RemoteSource, pending: RemotePending) -> None:
    """Send the same number once more, as after a lost reply, and wait for the answer."""
    (again,) = pending.asks
    again.score = None
    fresh = RemotePending(session=source.session, link=source._open())
    fresh.load([again])
    again.pending = fresh
    source._open().put([again])
    until(fresh.done)


def test_a_question_asked_twice_runs_once() -> None:
    model = GatedModel()
    model.gate.set()
    with RewardNode(model, address=FREE, warm_up=False) as node:
        with connect(node.address) as source:
            asked = query(3)
            pending = source.submit([asked])
            check(asked, pending.result(timeout_s=WAIT_S)[0])
            repeat(source, pending)
            check(asked, pending.result(timeout_s=WAIT_S)[0])
            assert node.stats()["duplicates"] == 1
        assert model.seen == [(0, 3)]


def test_a_retry_joins_the_question_that_runs() -> None:
    model = GatedModel()
    with RewardNode(model, address=FREE, warm_up=False) as node:
        with connect(node.address, deadline_s=0.4, patience_s=20.0) as source:
            asked = query(3)
            pending = source.submit([asked])
            assert model.entered.wait(WAIT_S)
            until(lambda: node.stats().get("duplicates", 0) >= 2)
            model.gate.set()
            check(asked, pending.result(timeout_s=WAIT_S)[0])
        assert model.seen == [(0, 3)]


def test_what_is_expired_never_reaches_the_model() -> None:
    model = GatedModel()
    with (
        RewardNode(model, address=FREE, warm_up=False, max_batch=1) as node,
        connect(node.address, deadline_s=WAIT_S) as source,
    ):
        first = source.submit([query(0)])
        assert model.entered.wait(WAIT_S)
        late = source.submit([query(1)], deadline_s=0.2)
        (score,) = late.result(timeout_s=WAIT_S)
        assert (score.status, score.reason) == (Status.TIMEOUT, "DEADLINE")
        model.gate.set()
        check(query(0), first.result(timeout_s=WAIT_S)[0])
        check(query(2), source.submit([query(2)]).result(timeout_s=WAIT_S)[0])
    assert (0, 1) not in model.seen


def test_cancelled_questions_are_not_run_and_the_rest_goes_on() -> None:
    model = GatedModel()
    with (
        RewardNode(model, address=FREE, warm_up=False, max_batch=1) as node,
        connect(node.address, deadline_s=WAIT_S) as source,
    ):
        first = source.submit([query(0)])
        assert model.entered.wait(WAIT_S)
        dropped = source.submit([query(1), query(2)])
        kept = source.submit([query(3)])
        until(lambda: node.stats()["open_jobs"] == 4)
        dropped.cancel()
        first.cancel()
        until(lambda: node.stats()["open_jobs"] == 1)
        model.gate.set()
        check(query(3), kept.result(timeout_s=WAIT_S)[0])
        for pending in (first, dropped):
            assert {s.status for s in pending.result(timeout_s=WAIT_S)} == {Status.CANCELLED}
    assert model.seen == [(0, 0), (0, 3)]


def test_a_full_node_says_busy_and_the_client_waits_its_turn() -> None:
    model = GatedModel()
    with (
        RewardNode(model, address=FREE, warm_up=False, limits=Limits(queue=2)) as node,
        connect(node.address, deadline_s=WAIT_S) as greedy,
        connect(node.address, deadline_s=0.5) as hasty,
    ):
        asked = [query(step) for step in range(6)]
        pending = greedy.submit(asked)
        until(lambda: node.stats().get("out_BUSY", 0) >= 1)
        (score,) = hasty.submit([query(9)]).result(timeout_s=WAIT_S)
        assert (score.status, score.reason) == (Status.OVERLOADED, "BUSY")
        model.gate.set()
        for one, answer in zip(asked, pending.result(timeout_s=WAIT_S), strict=True):
            check(one, answer)


def test_a_client_that_ignores_its_window_is_told_busy() -> None:
    model = GatedModel()
    with (
        RewardNode(model, address=FREE, warm_up=False, limits=Limits(window=2)) as node,
        connect(node.address, window=64, deadline_s=WAIT_S) as source,
    ):
        source.info()
        link = source._open()
        assert link.welcome is not None
        assert link.welcome.window == 2
        pending = source.submit([query(step) for step in range(8)])
        until(lambda: node.stats()["open_jobs"] == 2)
        model.gate.set()
        assert all(score.ok for score in pending.result(timeout_s=WAIT_S))
        assert node.stats().get("out_BUSY", 0) == 0


def test_a_window_of_many_is_batched() -> None:
    model = GatedModel()
    with (
        RewardNode(model, address=FREE, warm_up=False) as node,
        connect(node.address, deadline_s=WAIT_S) as source,
    ):
        pending = source.submit([query(step) for step in range(33)])
        until(lambda: node.stats()["open_jobs"] == 33)
        model.gate.set()
        assert all(score.ok for score in pending.result(timeout_s=WAIT_S))
    assert sum(model.batches) == 33
    assert max(model.batches) > 8


def test_a_slow_warm_up_does_not_keep_batches_small_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from robo_reward.nodes.serving import worker

    monkeypatch.setattr(worker, "LONGEST_BATCH_S", 0.0)  # every batch of the warm-up is too slow
    with (
        RewardNode(OraclePixels(), address=FREE, max_batch=8) as node,
        connect(node.address) as source,
    ):
        source.info()
        assert node.stats()["max_batch"] == 1
        ask(source, *(query(step) for step in range(4)))
        assert node.stats()["max_batch"] == 1  # they are too slow still
        monkeypatch.setattr(worker, "LONGEST_BATCH_S", 60.0)
        for start in range(10, 60, 10):
            ask(source, *(query(step) for step in range(start, start + 10)))
        assert node.stats()["max_batch"] == 8


def test_eight_clients_at_once_and_no_score_goes_astray() -> None:
    failures: list[BaseException] = []

    def run(address: str, who: int) -> None:
        try:
            with connect(address, deadline_s=WAIT_S) as source:
                for start in range(0, 60, 4):
                    asked = [query(step, who=who) for step in range(start, start + 4)]
                    got = source.submit(asked).result(timeout_s=WAIT_S)
                    for one, score in zip(asked, got, strict=True):
                        check(one, score)
                        assert score.identity.client == source.session
                assert source.stats().get("misattributed", 0) == 0
        except BaseException as error:
            failures.append(error)

    with RewardNode(OraclePixels(), address=FREE) as node:
        threads = [threading.Thread(target=run, args=(node.address, who)) for who in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
        assert failures == []
        assert node.stats()["out_OK"] == 8 * 60


def test_a_node_that_loads_refuses_until_it_is_ready() -> None:
    go = threading.Event()

    def load() -> RewardModel:
        go.wait(WAIT_S)
        return OraclePixels()

    node = RewardNode(load, address=FREE).start()
    try:
        with connect(node.address, deadline_s=0.3) as source:
            (score,) = source.submit([query(0)]).result(timeout_s=WAIT_S)
            assert (score.status, score.reason) == (Status.TIMEOUT, "PEER_LOST")
            assert "NOT_READY" in score.detail
            go.set()
            node.wait_ready(timeout_s=WAIT_S)
            check(query(0), source.submit([query(0)], deadline_s=5.0).result(timeout_s=WAIT_S)[0])
    finally:
        node.close()
    until(lambda: node.state is State.FINALIZED)


def test_a_model_that_cannot_be_loaded_is_said() -> None:
    def load() -> RewardModel:
        raise OSError("no weights")

    with pytest.raises(ModelError, match="no weights"), RewardNode(load, address=FREE):
        pass


def test_draining_answers_what_is_open() -> None:
    model = GatedModel()
    node = RewardNode(model, address=FREE, warm_up=False)
    with node, connect(node.address, deadline_s=WAIT_S) as source:
        pending = source.submit([query(0)])
        assert model.entered.wait(WAIT_S)
        # A busy machine may take longer over the next lines than draining would wait by itself.
        closer = threading.Thread(target=node.drain, kwargs={"timeout_s": WAIT_S})
        closer.start()
        until(lambda: node.state is State.DRAINING)
        late = source.submit([query(1)], deadline_s=0.3)
        assert not late.result(timeout_s=WAIT_S)[0].ok
        model.gate.set()
        check(query(0), pending.result(timeout_s=WAIT_S)[0])
        closer.join(WAIT_S)
        assert node.state is State.FINALIZED


def test_a_hung_model_is_noticed_and_recovers() -> None:
    model = GatedModel()
    given_up = threading.Event()
    with (
        RewardNode(
            model,
            address=FREE,
            warm_up=False,
            stall_s=0.3,
            stall_exit_s=0.2,
            on_stall=given_up.set,
        ) as node,
        connect(node.address, deadline_s=1.5) as source,
    ):
        (score,) = source.submit([query(0)]).result(timeout_s=WAIT_S)
        assert score.status is Status.TIMEOUT
        assert score.reason in ("STALLED", "DEADLINE")
        assert node.stats()["out_STALLED"] >= 1
        assert given_up.wait(WAIT_S)
        until(lambda: source._open().beat is not None and source._open().beat.stalled)  # type: ignore[union-attr]
        model.gate.set()
        until(lambda: not node.stalled)
        check(query(1), source.submit([query(1)]).result(timeout_s=WAIT_S)[0])


def test_too_many_views_are_refused_with_the_limit() -> None:
    views = tuple(frame(0, step) for step in range(9))
    with RewardNode(OraclePixels(), address=FREE) as node, connect(node.address) as source:
        (score,) = source.submit([Query(task=TASK, newest=views)]).result(timeout_s=WAIT_S)
    assert score.status is Status.BAD_REQUEST
    assert "at most 8" in score.detail


def test_a_frame_too_large_is_refused_before_it_is_sent() -> None:
    big = Query(task=TASK, newest=(Frame.of(np.zeros((2000, 2000, 3), np.uint8)),))
    with RewardNode(OraclePixels(), address=FREE) as node, connect(node.address) as source:
        source.info()
        assert ask(source, big) == ["TOO_LARGE"]
        assert node.stats().get("in_ScoreRequest", 0) == 0
        assert ask(source, query(0)) == ["OK"]


def test_a_mark_without_cameras_is_no_frame() -> None:
    now = time.time_ns()
    mark = Mark(task=TASK, cameras=("front",), t_from_ns=0, t_to_ns=now)
    with RewardNode(OraclePixels(), address=FREE) as node, connect(node.address) as source:
        assert ask(source, mark) == ["NO_FRAME"]


def test_a_network_address_needs_permission() -> None:
    with pytest.raises(ConfigError, match="insecure-no-auth"):
        RewardNode(OraclePixels(), address="tcp://0.0.0.0:0").start()


def test_a_busy_address_is_a_device_error(tmp_path: Path) -> None:
    with (
        RewardNode(OraclePixels(), address=FREE, warm_up=False) as node,
        pytest.raises(DeviceError, match="cannot bind"),
    ):
        RewardNode(OraclePixels(), address=node.address).start()
    path = f"ipc://{tmp_path}/n"
    if len(path) < 100:
        with (
            RewardNode(OraclePixels(), address=path, warm_up=False),
            pytest.raises(DeviceError, match="another process"),
        ):
            RewardNode(OraclePixels(), address=path).start()


def test_closing_twice_and_unused_is_fine() -> None:
    node = RewardNode(OraclePixels(), address=FREE)
    node.close()
    node.close()
    with RewardNode(OraclePixels(), address=FREE, warm_up=False) as other:
        other.close()
