"""Scripted experts succeed, scripted failures fail, and the truth about both adds up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robo_reward.envs.experts.record import (
    KIND_SHARES,
    alternatives,
    other_tasks,
    record_episodes,
    roll_out,
    sentences,
    to_episode,
)
from robo_reward.envs.experts.seeds import SEED_BASES
from robo_reward.envs.tabletop.env import TabletopEnv
from robo_reward.envs.tabletop.facts import Facts
from robo_reward.envs.tabletop.goal import Goal
from robo_reward.envs.tabletop.instructions import SHAPE_WORDS
from robo_reward.envs.tabletop.tasks import FAMILIES, all_goals, family_of

EXPERT_EPISODES = 24


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_experts_succeed(family: str) -> None:
    """At least 23 of 24 held-out seeds, under the noise that recordings have."""
    env = TabletopEnv(family, split="seen")
    ends = []
    for index in range(EXPERT_EPISODES):
        seed = SEED_BASES["seen"] + 500_000 + index
        rollout = roll_out(env, seed=seed, kind="expert", images=False)
        _, success = rollout.judge(rollout.goal)
        ends.append(bool(success[-1]))
    env.close()
    assert sum(ends) >= EXPERT_EPISODES - 1


@pytest.mark.parametrize("kind", ["wrong_object", "halfway", "near_miss", "undo", "idle", "random"])
def test_failures_mostly_fail(kind: str) -> None:
    """A failure may still end well now and then; what is counted is the truth, not the intent."""
    env = TabletopEnv("all", split="seen")
    ends = []
    for index in range(24):
        rollout = roll_out(env, seed=SEED_BASES["seen"] + index, kind=kind, images=False)
        if kind == "undo" and rollout.goal.family == "press_button":
            continue
        ends.append(bool(rollout.judge(rollout.goal)[1][-1]))
    env.close()
    assert np.mean(ends) <= 0.35


def test_undoing_rises_and_falls() -> None:
    env = TabletopEnv("pick_place", split="seen")
    rollout = roll_out(env, seed=SEED_BASES["seen"] + 4, kind="undo", images=False)
    progress, _ = rollout.judge(rollout.goal)
    env.close()
    assert progress.max() == pytest.approx(1.0)
    assert progress[-1] < 0.6


def test_progress_is_one_exactly_where_the_goal_holds() -> None:
    env = TabletopEnv("all", split="seen")
    for index in range(12):
        kind = list(KIND_SHARES)[index % len(KIND_SHARES)]
        rollout = roll_out(env, seed=SEED_BASES["seen"] + 100 + index, kind=kind, images=False)
        for goal in all_goals(rollout.spec):
            progress, success = rollout.judge(goal)
            assert progress.min() >= 0.0
            np.testing.assert_array_equal(progress >= 1.0, success)
    env.close()


def test_expert_progress_rises() -> None:
    """The truth itself must be something that a reward model can follow: it nearly always rises."""
    env = TabletopEnv("all", split="seen")
    steps = []
    for index in range(18):
        rollout = roll_out(env, seed=SEED_BASES["seen"] + 200 + index, kind="expert", images=False)
        steps.append(np.diff(rollout.judge(rollout.goal)[0]))
    env.close()
    rising = np.concatenate(steps)
    assert np.mean(rising >= -0.02) > 0.93


def test_episodes_hold_what_the_harness_needs() -> None:
    episodes = list(record_episodes("unseen", episodes=9, seed=7, renderer="rays", image_size=24))
    assert [episode.meta["family"] for episode in episodes] == list(FAMILIES)
    for episode in episodes:
        assert episode.images["front"].shape == (len(episode), 24, 24, 3)
        assert episode.progress is not None
        assert episode.success == (episode.progress[-1] >= 1.0)
        assert (episode.quality == "failure") == (not episode.success)
        assert episode.instruction not in episode.meta["alternatives"]
        assert set(episode.meta["never_true"]) <= set(episode.meta["alternatives"])
        assert set(episode.meta["other_tasks"]) == set(FAMILIES)
        assert len(episode.meta["paraphrases"]["grammar"]) >= 10
        assert len(episode.meta["paraphrases"]["held_out"]) == 2


def test_what_held_on_the_way_is_false_at_the_end_but_not_never_true() -> None:
    env = TabletopEnv("lift", split="seen")
    never: set[bool] = set()
    for index in range(8):
        seed = SEED_BASES["seen"] + 300 + index
        rollout = roll_out(env, seed=seed, kind="expert", images=False)
        # Backwards the hand leaves the thing, so that having reached it is false at the end.
        backwards = replace(rollout, facts=rollout.facts[::-1])
        reach = Goal(family="reach", target=rollout.goal.target)
        rows = [Facts.from_vector(row) for row in rollout.facts]
        reached = any(family_of("reach").success(row, rollout.spec, reach) for row in rows)
        texts = [t for t, goal in alternatives(backwards, at_most=99).items() if goal == reach]
        meta = sentences(backwards, at_most=99)
        assert all((text in meta["never_true"]) == (not reached) for text in texts)
        never.update(text in meta["never_true"] for text in meta["alternatives"])
    env.close()
    assert never == {True, False}


def test_sentences_of_other_tasks_act_on_nothing_that_is_there() -> None:
    env = TabletopEnv("stack", split="unseen")
    for index in range(4):
        rollout = roll_out(env, seed=SEED_BASES["unseen"] + index, kind="idle", images=False)
        said = other_tasks(rollout)["lift"]
        here = {(item.colour, item.shape) for item in rollout.spec.objects}
        assert not any(
            colour in said and any(word in said for word in SHAPE_WORDS[shape])
            for colour, shape in here
        )
    env.close()


def test_the_same_seed_is_the_same_recording() -> None:
    env = TabletopEnv("all", split="train", renderer="rays", image_size=24)
    first = to_episode(roll_out(env, seed=SEED_BASES["train"] + 3, kind="near_miss"))
    second = to_episode(roll_out(env, seed=SEED_BASES["train"] + 3, kind="near_miss"))
    env.close()
    np.testing.assert_array_equal(first.images["front"], second.images["front"])
    assert first.meta == second.meta
