"""The evaluator: steps the bare environment and reads success, which no learner sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch as th
from numpy.typing import NDArray

from robo_reward.envs.tabletop.goal import HELD_STEPS

Z_95 = 1.959964


class Predictor(Protocol):
    """What chooses actions; every stable-baselines3 policy and algorithm does."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[NDArray[Any], Any]:
        """Return an action and a state that is not used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How often a policy succeeded.

    Attributes:
        episodes: Episodes played.
        successes: Those in which the simulator's check held.
        steps: Mean number of steps until then; NaN without a success.
    """

    episodes: int
    successes: int
    steps: float

    @property
    def rate(self) -> float:
        """Share of episodes that succeeded."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the rate."""
        return wilson(self.successes, self.episodes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        low, high = self.interval
        return {
            "success_rate": self.rate,
            "ci95_low": low,
            "ci95_high": high,
            "successes": self.successes,
            "episodes": self.episodes,
            "steps_to_success": self.steps,
        }


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share.

    Example:
        >>> [round(x, 2) for x in wilson(90, 100)]
        [0.83, 0.94]
    """
    share = successes / total
    spread = Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def evaluate(
    policy: Predictor,
    env: gym.Env[Any, Any],
    *,
    episodes: int,
    seed: int,
    deterministic: bool = True,
    on_episode: Callable[[int], None] | None = None,
) -> Evaluation:
    """Play episodes and count true successes.

    The mean action is taken: the spread is there to explore, and where precision counts it costs
    half of the success. The same seed gives the same scenes and the same draws, so that policies
    can be compared.

    Args:
        policy: What chooses actions.
        env: The bare environment; its ``info["success"]`` is the truth.
        episodes: How many.
        seed: Of the first episode; the others follow from it.
        deterministic: Whether to take the mean action, or to draw one as in learning.
        on_episode: Called with the number of episodes played so far.
    """
    taken = []
    # The learner's own draws must not depend on when it is looked at.
    with th.random.fork_rng(devices=[]):
        for number in range(episodes):
            scene = seed * 100_003 + number
            th.manual_seed(scene)
            taken.append(_play(policy, env, seed=scene, deterministic=deterministic))
            if on_episode is not None:
                on_episode(number + 1)
    steps = [count for count in taken if count is not None]
    return Evaluation(
        episodes=episodes,
        successes=len(steps),
        steps=float(np.mean(steps)) if steps else math.nan,
    )


def _play(
    policy: Predictor, env: gym.Env[Any, Any], *, seed: int, deterministic: bool
) -> int | None:
    """Return the step at which success had held long enough, or ``None``."""
    observation, _ = env.reset(seed=seed)
    held = step = 0
    while True:
        action, _ = policy.predict(observation, deterministic=deterministic)
        observation, _, terminated, truncated, info = env.step(action)
        step += 1
        held = held + 1 if info["success"] else 0
        if held >= HELD_STEPS:
            return step
        if terminated or truncated:
            return None
