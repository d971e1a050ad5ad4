"""Which questions go through the model together, and what a batch is believed to cost."""

from __future__ import annotations

import math
import time

import pytest

from robo_reward.nodes.serving.batcher import Batcher, choose
from robo_reward.nodes.serving.cost import CostModel
from robo_reward.nodes.serving.sessions import Job, Session
from robo_reward.protocol.handshake import Priority
from robo_reward.protocol.payload import refer
from robo_reward.protocol.score import ScoreRequest

from .serving_tools import TASK, frame

REF = refer(frame(0, 0))


def client(name: str, priority: Priority = "online") -> Session:
    return Session(id=name, routing=b"", peer="", priority=priority, window=8, heard_s=0.0)


def job(session: Session, *, left_s: float = 10.0, seq: int = 0) -> Job:
    question = ScoreRequest(
        session="0" * 32, boot="0" * 32, seq=seq, env=0, episode=0, step=seq, task=TASK.key,
        budget_s=1.0, newest=(REF,),
    )  # fmt: skip
    now = time.monotonic()
    return Job(
        question=question,
        session=session,
        mark=(),
        arrived_s=now,
        deadline_s=now + left_s,
        age_s=math.nan,
        size=0,
    )


def test_the_earliest_deadline_goes_first() -> None:
    one = client("a")
    jobs = [job(one, left_s=left) for left in (5, 1, 3, 2)]
    assert choose(jobs, 2) == [jobs[1], jobs[3]]


def test_robots_go_before_relabelling() -> None:
    offline = [job(client("r", "offline"), left_s=1) for _ in range(3)]
    online = job(client("arm"), left_s=100)
    assert choose([*offline, online], 8) == [online]
    assert choose(offline, 2) == offline[:2]


def test_a_greedy_client_leaves_the_others_their_share() -> None:
    greedy, arm = client("greedy"), client("arm")
    jobs = [job(greedy, left_s=1) for _ in range(64)]
    modest = [job(arm, left_s=100) for _ in range(2)]
    batch = choose(jobs + modest, 8)
    assert len(batch) == 8
    assert all(one in batch for one in modest)


def test_unused_shares_are_given_away() -> None:
    greedy, arm = client("greedy"), client("arm")
    jobs = [job(greedy) for _ in range(20)]
    batch = choose([*jobs, job(arm)], 8)
    assert len(batch) == 8


def test_expired_jobs_come_back_as_late_and_never_as_batch() -> None:
    batcher = Batcher(CostModel())
    one = client("a")
    late, good = job(one, left_s=-0.1), job(one)
    batcher.put(late)
    batcher.put(good)
    assert batcher.take(8, timeout_s=0.0) == ([good], [late])
    assert good.running
    assert not late.running
    assert batcher.take(8, timeout_s=0.0) == ([], [])


def test_who_cannot_wait_for_the_batch_is_late() -> None:
    cost = CostModel()
    cost.add(1, 1.0)
    batcher = Batcher(cost)
    one = client("a")
    hasty, patient = job(one, left_s=0.5), job(one, left_s=50.0)
    batcher.put(hasty)
    batcher.put(patient)
    assert batcher.take(8, timeout_s=0.0) == ([patient], [hasty])


def test_one_is_tried_where_all_would_be_too_late() -> None:
    cost = CostModel()
    cost.add(1, 100.0)  # a prediction that nothing would ever correct
    batcher = Batcher(cost)
    one = client("a")
    jobs = [job(one, left_s=left) for left in (1.0, 2.0, 3.0)]
    for each in jobs:
        batcher.put(each)
    batch, late = batcher.take(8, timeout_s=0.0)
    assert batch == [jobs[2]]
    assert sorted(late, key=lambda each: each.deadline_s) == jobs[:2]


def test_dropped_jobs_vanish() -> None:
    batcher = Batcher(CostModel())
    gone = job(client("a"))
    batcher.put(gone)
    gone.dropped = True
    assert batcher.take(8, timeout_s=0.0) == ([], [])


def test_closing_wakes_who_waits() -> None:
    batcher = Batcher(CostModel())
    batcher.close()
    assert batcher.take(8, timeout_s=60.0) == ([], [])


@pytest.mark.parametrize(("fixed_s", "each_s"), [(0.04, 0.006), (0.0, 0.01), (0.02, 0.0)])
def test_the_cost_is_fitted(fixed_s: float, each_s: float) -> None:
    cost = CostModel()
    for _ in range(5):
        for rows in (1, 2, 4, 8, 16):
            cost.add(rows, fixed_s + each_s * rows)
    assert cost.predict(32) == pytest.approx(fixed_s + 32 * each_s, rel=1e-6, abs=1e-9)


def test_the_cost_follows_a_model_that_got_slower() -> None:
    cost = CostModel()
    for _ in range(100):
        cost.add(4, 0.01)
    for _ in range(300):
        cost.add(4, 0.10)
    assert cost.predict(4) == pytest.approx(0.10, rel=0.05)


def test_an_untested_cost_is_nothing() -> None:
    assert CostModel().predict(10) == 0.0
    assert CostModel().p99_s() == 0.0
