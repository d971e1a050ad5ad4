"""From a handful of demonstrations to an improved policy: clone, then learn from the reward.

``improve`` is handed two environments. The learner steps the one that the reward model judges and
sees nothing else; the evaluator steps the bare one, and what it finds goes into the rows only. The
last policy is the result: nothing is selected or stopped by success.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.logger import configure

import robo_reward.envs as envs
from robo_reward.client.source import Source
from robo_reward.envs.reward_wrapper import VisualReward

from .bc import clone
from .demos import record
from .learners import Learner, make_learner
from .observations import Encoder, make_options, observe
from .one_goal import JOBS, OneGoal
from .presets import Preset
from .records import Improvement, IterationRow, rows_to_csv
from .rollout import Evaluation, evaluate
from .scaling import fit_scaling
from .watch import EpisodeWatch

OnIteration = Callable[[IterationRow], None]
EVALUATION_SEED = 1_000
WATCH_SEED = 2_000
"""Scenes of the evaluator: the same for every policy and every run, none of them the learner's."""


def make_env(
    preset: Preset,
    *,
    encoder: Encoder | None = None,
    **options: Any,
) -> gym.Env[Any, Any]:
    """Make the bare environment of a preset.

    Args:
        preset: Which environment, job and observation.
        encoder: Needed where the policy observes ``features``.
        **options: More options of ``gymnasium.make``, such as ``render_mode``.
    """
    assert envs.ENV_IDS  # importing it is what registers the suite
    made = {**preset.env_options, **make_options(preset.observes), **options}
    env: gym.Env[Any, Any] = gym.make(preset.env_id, **made)
    if preset.job:
        env = OneGoal(env, JOBS[preset.job])
    return observe(env, preset.observes, encoder=encoder)


def reward_env(
    env: gym.Env[Any, Any], source: Source, preset: Preset, **options: Any
) -> VisualReward:
    """Wrap a bare environment with the preset's reward.

    Args:
        env: The bare environment; it must render, unless ``options`` say where frames come from.
        source: What answers: a model in this process or a client of a node.
        preset: Shaping, gate, done owner.
        **options: Those of ``VisualReward`` (cameras, camera_stream, scene, done_owner …).
    """
    return VisualReward(env, source, config=preset.reward, **options)


def improve(
    learner_env: gym.Env[Any, Any],
    bare_env: gym.Env[Any, Any],
    preset: Preset,
    *,
    seed: int,
    on_iteration: OnIteration | None = None,
    out: Path | None = None,
) -> Improvement:
    """Clone a base policy, improve it by reinforcement learning, evaluate both.

    Args:
        learner_env: A table-top environment with the reward on, see ``reward_env``.
        bare_env: The same environment without it, for the evaluator alone.
        preset: Everything else.
        seed: Of demonstrations, networks and exploration.
        on_iteration: Called with each row, iteration 0 (the base policy) first.
        out: Folder for policies, rows and TensorBoard; nothing is written without it.
    """
    start = time.monotonic()
    th.manual_seed(seed)
    learner = base_policy(learner_env, preset, seed=seed, log=out / "tensorboard" if out else None)
    run = _Run(learner, bare_env, preset, out=out, start=start)
    before = run.measure()
    run.save("policy_before.zip")
    tell = on_iteration or (lambda row: None)
    tell(run.row(0, {}, success=before.rate))
    for number in range(1, preset.iterations + 1):
        learner.iterate()
        row = run.row(number, run.watch.take(), success=run.glance())
        run.rows.append(row)
        run.write_rows()
        tell(row)
    after = run.measure()
    run.save("policy_after.zip")
    config = getattr(learner_env, "config", preset.reward)
    return Improvement(
        before=before,
        after=after,
        rows=tuple(run.rows),
        done_owner=config.done_owner,
        reward_model=reward_model_of(learner_env),
        seconds=time.monotonic() - start,
        policy_before=out / "policy_before.zip" if out else None,
        policy_after=out / "policy_after.zip" if out else None,
    )


def base_policy(
    learner_env: gym.Env[Any, Any], preset: Preset, *, seed: int, log: Path | None = None
) -> Learner:
    """Record the demonstrations and clone them; returns a learner that is ready to go on."""
    demos = record(learner_env, preset.demos, seed=seed)
    learner = make_learner(learner_env, preset, seed=seed)
    learner.set_logger(configure(str(log) if log else None, ["tensorboard"] if log else []))
    fit_scaling(learner.policy, np.concatenate([one.observations for one in demos]))
    clone(learner.policy, demos, preset.clone, seed=seed)
    learner.guide(demos)
    return learner


def reward_model_of(env: gym.Env[Any, Any]) -> str:
    """Return the identity of the model behind a reward-wrapped environment."""
    session = getattr(env, "session", None)
    return str(session.desk.info().model) if session is not None else "none"


class _Run:
    """What one improvement keeps while it goes on."""

    def __init__(
        self,
        learner: Learner,
        bare_env: gym.Env[Any, Any],
        preset: Preset,
        *,
        out: Path | None,
        start: float,
    ) -> None:
        self.rows: list[IterationRow] = []
        self.watch = EpisodeWatch()
        self._learner = learner
        self._env = bare_env
        self._preset = preset
        self._out = out
        self._start = start
        learner.start(self.watch)

    def measure(self) -> Evaluation:
        """Evaluate before and after."""
        return evaluate(
            self._learner.policy,
            self._env,
            episodes=self._preset.eval_episodes,
            seed=EVALUATION_SEED,
        )

    def glance(self) -> float:
        """Return the success rate of a few episodes, for the plot; NaN for none."""
        if not self._preset.watch_episodes:
            return float("nan")
        return evaluate(
            self._learner.policy, self._env, episodes=self._preset.watch_episodes, seed=WATCH_SEED
        ).rate

    def row(self, number: int, means: dict[str, float], *, success: float) -> IterationRow:
        """Make the row of an iteration and log it."""
        nan = float("nan")
        row = IterationRow(
            iteration=number,
            steps=self._learner.num_timesteps,
            episodes=self.watch.episodes,
            model_return=means.get("return", nan),
            model_progress=means.get("progress at end", nan),
            model_done_rate=means.get("done", nan),
            true_success=success,
            seconds=time.monotonic() - self._start,
        )
        logger = self._learner.logger
        for key, value in means.items():
            if key.startswith("reward/"):
                logger.record(key, value)
        logger.record("rollout/return_model", row.model_return)
        logger.record("rollout/success_rate", row.true_success)
        logger.dump(row.steps)
        return row

    def save(self, name: str) -> None:
        """Save the learner as it is now."""
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
            self._learner.save(str(self._out / name))

    def write_rows(self) -> None:
        """Write the rows so far, whole or not at all."""
        if self._out is not None:
            draft = self._out / ".iterations.csv"
            draft.write_text(rows_to_csv(self.rows), encoding="utf-8", newline="")
            draft.replace(self._out / "iterations.csv")
