"""Behaviour cloning of an SB3 actor (that of SAC or PPO) from episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.sac.policies import SACPolicy
from torch.nn import functional

from .critics import StackedPolicy
from .episodes import Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneConfig:
    """How a base policy is cloned.

    Attributes:
        updates: Gradient steps.
        batch_size: Transitions a step.
        learning_rate: Of Adam.
    """

    updates: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3


def clone(
    policy: BasePolicy, episodes: Sequence[Episode], config: CloneConfig, *, seed: int
) -> float:
    """Fit the actor's mean action to the episodes' actions; its spread is left alone.

    Returns:
        The mean squared error of the last tenth of the updates.
    """
    rng = np.random.default_rng(seed)
    observations = th.as_tensor(np.concatenate([one.observations[:-1] for one in episodes]))
    actions = th.as_tensor(np.concatenate([one.actions for one in episodes]))
    optimizer = th.optim.Adam(actor_parameters(policy), lr=config.learning_rate)
    policy.set_training_mode(True)
    losses = []
    for _ in range(config.updates):
        rows = th.as_tensor(rng.integers(len(actions), size=config.batch_size))
        loss = functional.mse_loss(mean_action(policy, observations[rows]), actions[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    policy.set_training_mode(False)
    if isinstance(policy, StackedPolicy):
        policy.average(1.0)
    return float(np.mean(losses[-max(1, config.updates // 10) :]))


def mean_action(policy: BasePolicy, observations: th.Tensor) -> th.Tensor:
    """Return the actor's deterministic action, ``(B, m)`` in [-1, 1], with gradients."""
    if isinstance(policy, SACPolicy):
        return th.tanh(policy.actor.get_action_dist_params(observations)[0])
    assert isinstance(policy, ActorCriticPolicy)
    normal = policy.get_distribution(observations).distribution
    assert isinstance(normal, th.distributions.Distribution)
    return normal.mean


def actor_parameters(policy: BasePolicy) -> list[th.nn.Parameter]:
    """Return what decides the mean action; the spread of the actions is not among it."""
    if isinstance(policy, SACPolicy):
        parts = [policy.actor.latent_pi, policy.actor.mu]
    else:
        assert isinstance(policy, ActorCriticPolicy)
        parts = [policy.mlp_extractor.policy_net, policy.action_net]
    return [parameter for part in parts for parameter in part.parameters()]
