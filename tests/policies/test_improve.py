"""The whole recipe, small: clone, learn, evaluate, save, evaluate again from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robo_reward.errors import ConfigError
from robo_reward.models.frame_encoder import FrameEncoder
from robo_reward.models.frozen_features import FrozenFeatures
from robo_reward.models.heads import Heads, HeadsConfig
from robo_reward.policies.improve import (
    EVALUATION_SEED,
    base_policy,
    improve,
    make_env,
    reward_env,
)
from robo_reward.policies.learners import load_policy
from robo_reward.policies.oracle import DEGRADED, OracleNoise, oracle_camera, oracle_source
from robo_reward.policies.presets import PRESETS, Preset, preset
from robo_reward.policies.records import IterationRow
from robo_reward.policies.rollout import evaluate


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def judged() -> Iterator[Callable[..., Any]]:
    source = oracle_source()
    made = []

    def make(recipe: Preset, noise: OracleNoise | None = None, **options: Any) -> Any:
        env = reward_env(
            make_env(recipe), source, recipe, cameras={"oracle": oracle_camera(noise)}, **options
        )
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()
    source.close()


class Spy:
    """Passes an environment through and keeps every info that the learner was given."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.infos: list[dict[str, Any]] = []
        step, reset = env.step, env.reset

        def spied_step(action: Any) -> Any:
            result = step(action)
            self.infos.append(result[4])
            return result

        def spied_reset(**options: Any) -> Any:
            result = reset(**options)
            self.infos.append(result[1])
            return result

        env.step, env.reset = spied_step, spied_reset


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_rows_files_and_truth(judged: Callable[..., Any], tmp_path: Path, algorithm: str) -> None:
    recipe = preset("quick", algorithm=algorithm)
    env = judged(recipe, DEGRADED)
    spy = Spy(env)
    told: list[IterationRow] = []
    result = improve(env, make_env(recipe), recipe, seed=0, on_iteration=told.append, out=tmp_path)

    assert [row.iteration for row in told] == [0, 1, 2]
    assert tuple(told[1:]) == result.rows
    assert told[0].true_success == result.before.rate
    steps = [row.steps for row in result.rows]
    assert 0 < steps[0] < steps[1] <= 2 * 60
    assert np.isfinite([row.model_return for row in result.rows]).all()
    assert result.done_owner == "model"
    assert result.reward_model == "oracle-pixels@1"
    # The learner's side never shows the truth.
    assert spy.infos
    assert not any({"success", "is_success"} & set(info) for info in spy.infos)

    with (tmp_path / "iterations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [1, 2]
    assert list((tmp_path / "tensorboard").iterdir())
    assert json.dumps(result.as_dict())
    # The last policy was saved, and it is the one that was evaluated.
    assert result.policy_after is not None
    again = evaluate(
        load_policy(str(result.policy_after), algorithm),
        make_env(recipe),
        episodes=recipe.eval_episodes,
        seed=EVALUATION_SEED,
    )
    assert again == result.after or np.isnan(again.steps)


def test_same_seed_same_policy(judged: Callable[..., Any]) -> None:
    recipe = preset("quick", iterations=1)
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        learner = base_policy(judged(recipe), recipe, seed=5)
        weights.append(torch.cat([p.flatten() for p in learner.policy.actor.parameters()]))
    assert torch.equal(*weights)


def test_clone_succeeds_sometimes(judged: Callable[..., Any]) -> None:
    recipe = replace(PRESETS["pick-place"], demos=replace(PRESETS["quick"].demos, episodes=12))
    learner = base_policy(judged(recipe), recipe, seed=0)
    result = evaluate(learner.policy, make_env(recipe), episodes=15, seed=3)
    # Twelve demonstrations give about nine in ten; chance gives none.
    assert result.successes >= 6


def test_presets_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean pick-place"):
        preset("pick-plase")
    with pytest.raises(ConfigError, match="no setting 'iteration'"):
        preset("quick", iteration=3)
    with pytest.raises(ConfigError, match=r"gamma.*must be one number"):
        preset("quick", gamma=0.9)
    with pytest.raises(ConfigError, match="unknown job"):
        preset("quick", job="tidy up")


def test_verbs(command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = command(
        *("train-policy", "--preset", "quick", "--model", "compact", "--out", str(out)),
        *("--iterations", "1", "--eval-episodes", "2", "--json", "-q", "--device", "cpu"),
    )
    assert ran.code == 0, ran.err
    told = json.loads(ran.out.splitlines()[-1])
    assert told["iterations"] == 1
    assert told["done_owner"] == "model"
    assert told["observes"] == "state"

    seeds = ("--episodes", "3", "--seeds", "1", "2")
    ran = command("eval-policy", str(out), *seeds, "--json", "-q")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out.splitlines()[-1])
    assert told["episodes"] == 6
    assert told["ci95_low"] <= told["success_rate"] <= told["ci95_high"]
    assert command("eval-policy", str(tmp_path / "nothing")).code == 6


def test_a_classifier_alone_is_enough_for_a_sparse_reward(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    features = FrozenFeatures(FrameEncoder("compact", device="cpu"), "map")
    torch.manual_seed(0)
    Heads(HeadsConfig(reward_model="classifier", features="map", width=features.width)).save(
        tmp_path / "model"
    )
    features.save(tmp_path / "model")
    flags = (
        "train-policy",
        "--preset",
        "quick",
        "--model",
        str(tmp_path / "model"),
        "--iterations",
        "1",
        "--eval-episodes",
        "1",
        "--json",
        "-q",
        "--device",
        "cpu",
    )
    ran = command(*flags, "--out", str(tmp_path / "no"))
    assert ran.code == 2
    assert "does not give progress_delta" in ran.err
    ran = command(*flags, "--shaping", "sparse", "--out", str(tmp_path / "run"))
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[-1])["iterations"] == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--shaping", "spars"), "did you mean sparse"),
        (("--preset", "pick"), "no policy preset"),
        (("--env", "robo_reward/Pick-v0"), "did you mean robo_reward/PickPlace-v0"),
        (("--timeout", "0"), "--timeout must be > 0"),
        (("--model", "oracle-pixels", "--observes", "features"), "no visual features"),
    ],
)
def test_wrong_flags(command: Callable[..., Any], flags: tuple[str, ...], said: str) -> None:
    ran = command("train-policy", *flags)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1
