"""Demonstrations: the scripted expert, recorded through the environment of the learner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from robo_reward.envs.experts.expert import PlanFollower
from robo_reward.envs.experts.plan import Aim, plan_for

from .episodes import Episode, EpisodeBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """A handful of demonstrations.

    Attributes:
        episodes: How many.
        noise: Standard deviation of the action noise of the demonstrator.
        pace: Share of full speed.
        extra_steps: Steps recorded after the plan is finished, so that done is seen.
    """

    episodes: int = 10
    noise: float = 0.0
    pace: float = 1.0
    extra_steps: int = 4


def record(env: gym.Env[Any, Any], config: DemoConfig, *, seed: int) -> list[Episode]:
    """Let the scripted expert play; its rewards are those that ``env`` gives.

    The expert knows the scene, as a person who demonstrates does; what is recorded is what the
    learner may see: observations, actions, and the reward and done of ``env``.

    Args:
        env: A table-top environment, bare or wrapped.
        config: How many, and how well.
        seed: Of the scenes and of the noise.
    """
    rng = np.random.default_rng(seed)
    first_seed = int(rng.integers(2**31))
    return [
        _play(env, config, rng=rng, seed=first_seed if number == 0 else None)
        for number in range(config.episodes)
    ]


def _play(
    env: gym.Env[Any, Any], config: DemoConfig, *, rng: np.random.Generator, seed: int | None
) -> Episode:
    observation, _ = env.reset(seed=seed)
    scene = env.unwrapped
    aim = Aim(spec=scene.spec_of_scene, goal=scene.goal)  # type: ignore[attr-defined]
    expert = PlanFollower(plan_for(aim), rng=rng, noise=config.noise, pace=config.pace)
    builder = EpisodeBuilder(observation)
    left = math.inf
    while True:
        action = expert.act(scene.facts())  # type: ignore[attr-defined]
        if expert.finished and math.isinf(left):
            left = config.extra_steps
        observation, reward, terminated, truncated, _ = env.step(action)
        builder.add(action, float(reward), after=observation)
        left -= 1
        if terminated or truncated or left <= 0:
            return builder.build(terminated=bool(terminated))
