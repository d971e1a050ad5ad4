"""Observations brought to zero mean and unit spread, by numbers that travel with the weights."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

LIMIT = 5.0
"""Scaled values beyond this are cut: one odd reading must not saturate the network."""


class StandardFeatures(BaseFeaturesExtractor):
    """Flattens and standardises; the identity until ``fit_scaling``.

    A metre is a poor unit for a network: the offsets that decide a grasp are hundredths of it.
    """

    mean: th.Tensor
    spread: th.Tensor

    def __init__(self, observation_space: gym.Space[Any]) -> None:
        size = get_flattened_obs_dim(observation_space)
        super().__init__(observation_space, size)
        self.flatten = nn.Flatten()
        self.register_buffer("mean", th.zeros(size))
        self.register_buffer("spread", th.ones(size))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """Return ``(B, n)`` features."""
        flat = self.flatten(observations)
        scaled: th.Tensor = ((flat - self.mean) / self.spread).clamp(-LIMIT, LIMIT)
        return scaled


def fit_scaling(
    policy: BasePolicy, observations: NDArray[np.float32], *, floor: float = 0.02
) -> None:
    """Set the scaling of every extractor in a policy from observations, ``(N, n)``.

    Args:
        policy: One whose extractor class is ``StandardFeatures``.
        observations: Those of the demonstrations.
        floor: Smallest spread, so that what stood still in the demonstrations is not blown up.
    """
    mean = th.as_tensor(observations.mean(0), dtype=th.float32)
    spread = th.as_tensor(observations.std(0).clip(floor), dtype=th.float32)
    for module in policy.modules():
        if isinstance(module, StandardFeatures):
            module.mean.copy_(mean)
            module.spread.copy_(spread)
