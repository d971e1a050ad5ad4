"""Learners by name: what ``improve`` needs of an algorithm, and how each is made from a preset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, SupportsFloat

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy

from robo_reward.errors import ConfigError, RewardLost

from .critics import StackedPolicy
from .episodes import Episode
from .ppo import GuidedPPO
from .presets import Preset
from .sac import GuidedSAC
from .scaling import StandardFeatures


class Learner(Protocol):
    """An SB3 algorithm that learns one iteration at a time."""

    policy: Any
    num_timesteps: int

    @property
    def logger(self) -> Logger:
        """Where numbers go."""
        ...

    def set_logger(self, logger: Logger) -> None:
        """Choose where numbers go."""
        ...

    def guide(self, episodes: Sequence[Episode]) -> None:
        """Take demonstrations in."""
        ...

    def start(self, callback: BaseCallback) -> None:
        """Reset the environment; ``iterate`` follows."""
        ...

    def iterate(self) -> None:
        """Play the episodes of an iteration and do its updates."""
        ...

    def save(self, path: str) -> None:
        """Save as an SB3 archive."""
        ...


def make_learner(env: gym.Env[Any, Any], preset: Preset, *, seed: int) -> Learner:
    """Make the algorithm of a preset for one reward-wrapped environment."""
    return (
        _make_sac(env, preset, seed) if preset.algorithm == "sac" else _make_ppo(env, preset, seed)
    )


def _make_sac(env: gym.Env[Any, Any], preset: Preset, seed: int) -> Learner:
    config = preset.sac
    return GuidedSAC(
        StackedPolicy,
        env,
        episodes=preset.episodes,
        updates=preset.updates,
        clone_weight=config.clone_weight,
        clone_always=config.clone_always,
        actor_delay=config.actor_delay,
        average=config.average,
        reward_scale=config.reward_scale,
        n_steps=config.n_steps,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        tau=config.tau,
        gamma=preset.gamma,
        buffer_size=100_000,
        learning_starts=0,
        ent_coef=0.0,
        seed=seed,
        device="cpu",
        policy_kwargs={
            "net_arch": [preset.hidden, preset.hidden],
            "action_std": config.action_std,
            "features_extractor_class": StandardFeatures,
            "optimizer_kwargs": {"fused": True},
        },
    )


def _make_ppo(env: gym.Env[Any, Any], preset: Preset, seed: int) -> Learner:
    config = preset.ppo
    return GuidedPPO(
        "MlpPolicy",
        gym.wrappers.TransformReward(env, lambda reward: _paid(reward, config.reward_scale)),
        value_passes=config.value_passes,
        n_steps=preset.episodes * 60,
        batch_size=min(config.batch_size, preset.episodes * 60),
        n_epochs=config.epochs,
        learning_rate=config.learning_rate,
        clip_range=config.clip_range,
        gamma=preset.gamma,
        target_kl=0.03,
        seed=seed,
        device="cpu",
        policy_kwargs={
            "net_arch": {"pi": [preset.hidden] * 2, "vf": [preset.hidden] * 2},
            "log_std_init": math.log(config.action_std),
            "features_extractor_class": StandardFeatures,
        },
    )


def _paid(reward: SupportsFloat, scale: float) -> float:
    """Return the scaled reward; one that is missing stops PPO, whose advantages run across rows."""
    if not math.isfinite(float(reward)):
        raise RewardLost("a reward is missing, and PPO cannot leave out a row; see info['score']")
    return scale * float(reward)


ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"sac": GuidedSAC, "ppo": GuidedPPO}


def load_policy(path: str, algorithm: str) -> BasePolicy:
    """Return the policy in an archive that ``Learner.save`` wrote.

    Raises:
        ConfigError: Unknown algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    return ALGORITHMS[algorithm].load(path, device="cpu").policy
