"""Late rewards of one environment: chaos, loss, late dones, resets in between (F40-F45)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robo_reward.envs.reward_episode import RewardRecord
from robo_reward.envs.reward_wrapper import VisualReward
from robo_reward.errors import RewardLost
from robo_reward.shaping import GateConfig, ShapingConfig
from tests.envs.pixel_world import (
    INSTRUCTION,
    Answer,
    ChaoticSource,
    FailingSource,
    PixelEnv,
    PixelSource,
    code,
    delta,
)

RAW = ShapingConfig(form="delta", kappa=1.0, sparse=False)
POTENTIAL = ShapingConfig(gamma=1.0, kappa=1.0, sparse=False)
QUICK_GATE = GateConfig(votes=1, window=1, dwell=1)
ACTION = np.zeros(1, np.float32)
Key = tuple[int, int, int]


def wrap(source: PixelSource, env: PixelEnv | None = None, **options: Any) -> VisualReward:
    options = {"instruction": INSTRUCTION, "shaping": RAW, "mode": "pipelined", **options}
    return VisualReward(env or PixelEnv(), source, **options)


def run(env: VisualReward, steps: int) -> tuple[dict[Key, RewardRecord], dict[Key, float]]:
    """Step, reset at ends; late records by name, and rewards that came at once."""
    late: dict[Key, RewardRecord] = {}
    at_once: dict[Key, float] = {}
    env.reset()
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(ACTION)
        for record in info["late_rewards"]:
            assert record.key not in late
            assert record.key not in at_once
            late[record.key] = record
        if info["reward_status"] == "pending":
            assert math.isnan(reward)
        else:
            assert info["reward_for"] not in late
            at_once[info["reward_for"]] = reward
        if terminated or truncated:
            env.reset()
    for record in env.settle():
        assert record.key not in late
        late[record.key] = record
    return late, at_once


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), mode=st.sampled_from(["pipelined", "deferred"]))
def test_no_reward_ever_lands_on_a_foreign_transition(seed: int, mode: str) -> None:
    source = ChaoticSource(seed=seed, loss=0.1, error=0.1)
    env = wrap(source, PixelEnv(horizon=8, jitter=True), mode=mode, on_missing="nan", max_missing=1)
    late, at_once = run(env, 80)
    rewards = {key: record.reward for key, record in late.items()} | at_once
    assert len(rewards) == 80
    for key, reward in rewards.items():
        if not math.isnan(reward):
            assert reward == pytest.approx(delta(*key), abs=1e-6)
    lost = sum(math.isnan(reward) for reward in rewards.values())
    assert 0 < lost < 50
    assert env.stats()["dropped"] == lost


def test_a_lost_answer_takes_both_transitions_that_use_it() -> None:
    source = FailingSource(lambda query: "MODEL_ERROR" if query.step == 4 else None)
    late, at_once = run(wrap(source, PixelEnv(horizon=9), shaping=POTENTIAL), 9)
    rewards = {key[2]: record.reward for key, record in late.items()}
    rewards |= {key[2]: reward for key, reward in at_once.items()}
    assert [step for step, reward in sorted(rewards.items()) if math.isnan(reward)] == [4, 5]
    for step in (1, 2, 3, 6, 7, 8, 9):
        assert rewards[step] == pytest.approx(delta(0, 0, step), abs=1e-6)


def test_sum_over_an_episode_telescopes_whatever_was_lost() -> None:
    # Every other answer is lost; at stride 2 nobody asks for those, and nothing is missing.
    source = FailingSource(lambda query: "MODEL_ERROR" if query.step % 2 else None)
    late, at_once = run(wrap(source, PixelEnv(horizon=20), shaping=POTENTIAL, stride=2), 20)
    total = sum(record.reward for record in late.values()) + sum(at_once.values())
    assert total == pytest.approx(code(0, 0, 20) - code(0, 0, 0), abs=1e-6)


def test_reset_with_questions_open_gives_their_rewards_later() -> None:
    env = wrap(PixelSource(looks=10**6), mode="deferred")
    env.reset()
    for _ in range(3):
        env.step(ACTION)
    env.reset()
    env.step(ACTION)
    records = env.settle()
    assert [record.key for record in records] == [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1, 1)]
    for record in records:
        assert record.reward == pytest.approx(delta(*record.key), abs=1e-6)


def test_a_late_done_ends_the_episode_where_it_names() -> None:
    env = wrap(
        PixelSource(looks=10**6),
        PixelEnv(done_at=3, horizon=50),
        gate=QUICK_GATE,
        shaping="sparse",
    )
    env.reset()
    rows = [env.step(ACTION) for _ in range(4)]
    _, reward, terminated, truncated, info = rows[-1]
    assert math.isnan(reward)
    assert (terminated, truncated) == (False, True)
    assert (info["episode_end"], info["reward_status"]) == ("done:model", "cancelled")
    (record,) = info["late_rewards"]
    assert (record.key, record.reward, record.terminated) == ((0, 0, 3), 0.0, True)
    (summary,) = info["reward_episodes"]
    assert (summary.total, summary.length, summary.end) == (-2.0, 3, "done:model")


def test_deferred_done_cancels_every_later_transition() -> None:
    source = PixelSource(looks=10**6)
    env = wrap(
        source, PixelEnv(done_at=3, horizon=50), gate=QUICK_GATE, mode="deferred", max_in_flight=6
    )
    late, at_once = run(env, 40)
    ended = [key for key, record in late.items() if record.terminated]
    assert ended
    for _, episode, step in ended:
        assert step == 3
        after = [key for key in late.keys() | at_once.keys() if key[1] == episode and key[2] > 3]
        assert after
        for key in after:
            assert math.isnan(late[key].reward if key in late else at_once[key])
    assert env.stats()["done"] == len(ended)


def test_owner_env_is_told_at_once_and_the_reward_comes_late() -> None:
    env = wrap(
        PixelSource(looks=10**6), PixelEnv(terminate_at=2), done_owner="env", shaping="sparse"
    )
    env.reset()
    env.step(ACTION)
    _, reward, terminated, _, info = env.step(ACTION)
    assert math.isnan(reward)
    assert terminated
    assert info["reward_status"] == "pending"
    (record,) = env.settle()
    assert (record.reward, record.terminated) == (0.0, True)


def test_pipelined_waits_out_an_outage_too() -> None:
    fails = {3: 4}

    def reason(query: Any) -> str | None:
        fails[query.step] = fails.get(query.step, 0) - 1
        return "BUSY" if fails[query.step] >= 0 else None

    env = wrap(FailingSource(reason), PixelEnv(horizon=6))
    env.session.desk._sleep = lambda seconds: None
    late, _ = run(env, 6)
    assert all(record.known for record in late.values())
    assert env.stats()["retried"] == 4


def test_every_transition_gets_its_last_word_exactly_once() -> None:
    source = ChaoticSource(seed=5, error=0.2)
    env = wrap(source, PixelEnv(horizon=5, jitter=True), mode="deferred", stride=3, max_missing=1)
    late, at_once = run(env, 60)
    assert len(late) + len(at_once) == 60
    episodes = itertools.groupby(sorted(late.keys() | at_once.keys()), key=lambda key: key[1])
    for _, keys in episodes:
        steps = [key[2] for key in keys]
        assert steps == list(range(1, len(steps) + 1))


def test_an_interrupt_while_waiting_loses_nothing() -> None:
    class Interrupted(PixelSource):
        armed = False

        def answer(self, scores: Any) -> Answer:
            source = self

            class Once(Answer):
                def result(self, *, timeout_s: float) -> Any:
                    if source.armed:
                        source.armed = False
                        raise KeyboardInterrupt
                    return super().result(timeout_s=timeout_s)

            return Once(scores, looks=10**6)

    source = Interrupted()
    env = wrap(source)
    env.reset()
    env.step(ACTION)
    source.armed = True
    with pytest.raises(KeyboardInterrupt):
        env.step(ACTION)
    records = env.settle()
    assert [record.key for record in records] == [(0, 0, 1), (0, 0, 2)]


def test_closing_gives_up_what_is_open() -> None:
    source = PixelSource(looks=10**6)
    env = wrap(source, mode="deferred")
    env.reset()
    for _ in range(4):
        env.step(ACTION)
    env.close()
    assert all(answer.cancelled for answer in source.answers)
    assert env.stats()["dropped"] == 4
    assert env.settle() == ()


def test_the_limit_on_missing_scores_holds_for_late_ones() -> None:
    source = FailingSource(lambda query: "MODEL_ERROR")
    env = wrap(source, PixelEnv(horizon=100), max_missing=0.1, missing_window=50)
    env.reset()
    for _ in range(4):
        env.step(ACTION)
    with pytest.raises(RewardLost, match="6 of the last 6 scores"):
        env.step(ACTION)
