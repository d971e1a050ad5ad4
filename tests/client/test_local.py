from __future__ import annotations

import math
import multiprocessing
import time

import numpy as np

from robo_reward.client import LocalSource, local
from robo_reward.client.source import Pending, Source
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.query import Mark
from robo_reward.signals import Status
from tests.nodes.serving_tools import TASK, GatedModel, TouchyModel, check, query

WAIT_S = 20.0


def test_scores_name_their_questions_in_order() -> None:
    asked = [query(step, who=step % 3) for step in range(20)]
    with local(OraclePixels()) as source:
        got = source.submit(asked).result(timeout_s=WAIT_S)
    for one, score in zip(asked, got, strict=True):
        check(one, score)
        assert score.identity.total_s >= score.identity.inference_s >= 0
        assert score.identity.age_s >= 0
        assert len(score.identity.client) == 32


def test_it_is_a_source() -> None:
    source: Source = local(OraclePixels())
    pending: Pending = source.submit([query(0)])
    assert pending.result(timeout_s=WAIT_S)[0].ok
    assert pending.done()
    source.close()
    source.close()


def test_submit_does_not_wait_and_result_gives_up_in_time() -> None:
    model = GatedModel()
    with local(model) as source:
        pending = source.submit([query(0)])
        assert not pending.done()
        (score,) = pending.result(timeout_s=0.05)
        assert (score.status, score.reason) == (Status.TIMEOUT, "DEADLINE")
        model.gate.set()
        check(query(0), pending.result(timeout_s=WAIT_S)[0])


def test_what_waited_too_long_or_was_cancelled_is_not_run() -> None:
    model = GatedModel()
    with local(model) as source:
        first = source.submit([query(0)])
        assert model.entered.wait(WAIT_S)
        late = source.submit([query(1)], deadline_s=0.0)
        dropped = source.submit([query(2)])
        dropped.cancel()
        time.sleep(0.001)
        model.gate.set()
        check(query(0), first.result(timeout_s=WAIT_S)[0])
        assert late.result(timeout_s=WAIT_S)[0].reason == "DEADLINE"
        assert dropped.result(timeout_s=WAIT_S)[0].reason == "CANCELLED"
    assert model.seen == [(0, 0)]


def test_only_guilty_rows_fail() -> None:
    asked = [query(step) for step in range(20)]
    with local(TouchyModel()) as source:
        got = source.submit(asked).result(timeout_s=WAIT_S)
    bad = {score.identity.step for score in got if score.status is Status.MODEL_ERROR}
    assert bad == {13, 17}
    assert all(math.isnan(got[step].signals.progress) for step in bad)


def test_a_mark_is_no_frame() -> None:
    mark = Mark(task=TASK, cameras=("front",), t_from_ns=0, t_to_ns=1, env=3, episode=1, step=2)
    with local(OraclePixels()) as source:
        marked, scored = source.submit([mark, query(5)]).result(timeout_s=WAIT_S)
    assert (marked.reason, marked.identity.env, marked.identity.step) == ("NO_FRAME", 3, 2)
    check(query(5), scored)


def test_a_closed_source_answers_cancelled() -> None:
    source = local(OraclePixels())
    source.close()
    (score,) = source.submit([query(0)]).result(timeout_s=WAIT_S)
    assert score.status is Status.CANCELLED


def test_an_episode_costs_one_encoding_a_frame() -> None:
    model = OraclePixels()
    with local(model) as source:
        for step in range(50):
            source.submit([query(step)]).result(timeout_s=WAIT_S)
    assert model.encoded_frames == 50


def test_nothing_asked_is_nothing_answered() -> None:
    with local(OraclePixels()) as source:
        assert source.submit([]).result(timeout_s=WAIT_S) == []


def test_a_missing_score_holds_no_number() -> None:
    with local(GatedModel()) as source:
        (score,) = source.submit([query(0)]).result(timeout_s=0.0)
        assert np.isnan(score.signals.progress_delta)
        source.model.gate.set()  # type: ignore[attr-defined]


def _in_child(source: LocalSource, found: multiprocessing.Queue[object]) -> None:
    found.put([score.ok for score in source.submit([query(1)]).result(timeout_s=WAIT_S)])


def test_after_a_fork_the_child_has_a_worker_of_its_own() -> None:
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[object] = context.Queue()
    with local(OraclePixels()) as source:
        check(query(0), source.submit([query(0)]).result(timeout_s=WAIT_S)[0])
        child = context.Process(target=_in_child, args=(source, found))
        child.start()
        assert found.get(timeout=WAIT_S) == [True]
        child.join(WAIT_S)
        check(query(2), source.submit([query(2)]).result(timeout_s=WAIT_S)[0])
