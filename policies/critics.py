"""A SAC policy with an averaged actor, and with critics that are one stack of matrices.

Stacked, an ensemble has the price of one network: on one CPU core most of an update is the overhead
of small operations. Batched matrix products and layer normalisation (which keeps values bounded off
the data, Ball et al. 2023) take two critics through the work of one.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn


class StackedLinear(nn.Module):
    """``n`` linear layers side by side: ``(n, B, in)`` to ``(n, B, out)``."""

    def __init__(self, n: int, inputs: int, *, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(th.empty(n, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(th.zeros(n, 1, outputs))

    def forward(self, x: th.Tensor) -> th.Tensor:
        """Apply every layer to its own slice."""
        return th.baddbmm(self.bias, x, self.weight)


class StackedCritic(ContinuousCritic):
    """The critics of SB3 with their weights stacked; the interface stays that of SB3."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for index in range(self.n_critics):
            self.__delattr__(f"qf{index}")
        self.q_networks = []
        sizes = [kwargs["features_dim"] + get_action_dim(self.action_space), *kwargs["net_arch"]]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [StackedLinear(self.n_critics, inputs, outputs=outputs)]
            layers += [nn.LayerNorm(outputs), kwargs["activation_fn"]()]
        self.stack = nn.Sequential(*layers, StackedLinear(self.n_critics, sizes[-1], outputs=1))

    def values(self, obs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Return ``(n_critics, B, 1)`` values."""
        features = self.extract_features(obs, self.features_extractor)
        joined = th.cat([features, actions], dim=1)
        stacked: th.Tensor = self.stack(joined.expand(self.n_critics, -1, -1))
        return stacked

    def forward(self, obs: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """Return one ``(B, 1)`` value per critic."""
        return tuple(self.values(obs, actions).unbind(0))


class StackedPolicy(SACPolicy):
    """``MlpPolicy`` of SAC with stacked critics, a fixed spread and an averaged actor.

    What explores is the actor itself with its spread; ``predict(deterministic=True)`` is the mean
    action of the average of its weights over the last updates. An actor swings from one update to
    the next, and nothing here may choose the moment at which it is good.

    Args:
        action_std: Standard deviation of the actions before squashing.
    """

    mean_actor: Actor
    critic: StackedCritic
    critic_target: StackedCritic

    def __init__(self, *args: Any, action_std: float = 0.2, **kwargs: Any) -> None:
        self.action_std = action_std
        super().__init__(*args, **kwargs)
        # Set and held: an entropy bonus widens the spread before the critic knows anything, and
        # without the bonus the spread would collapse.
        spread: Any = self.actor.log_std
        with th.no_grad():
            spread.weight.zero_()
            spread.bias.fill_(math.log(action_std))
        spread.requires_grad_(False)
        self.mean_actor = copy.deepcopy(self.actor).requires_grad_(False)

    def average(self, share: float) -> None:
        """Move the averaged actor towards the actor by a share of the way, (0, 1]."""
        polyak_update(self.actor.parameters(), self.mean_actor.parameters(), share)

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        chosen: th.Tensor = (self.mean_actor if deterministic else self.actor)(
            observation, deterministic
        )
        return chosen

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> ContinuousCritic:
        """Make the stack."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return StackedCritic(**kwargs).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "action_std": self.action_std}
