"""PPO that begins as a clone.

The plain algorithm (Schulman et al. 2017) from a cloned policy, for comparison and for those who
have many environments: on-policy, so it needs more episodes than ``GuidedSAC``, and there is no
guide buffer. In the first iterations only the value function learns, because advantages of an
unlearned one would undo the clone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from .bc import actor_parameters
from .episodes import Episode


class GuidedPPO(PPO):
    """PPO with a frozen actor in its first iterations.

    Args:
        policy: As in SB3.
        env: The reward-wrapped environment.
        value_passes: Iterations in which only the value function learns.
        **options: Those of PPO.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        value_passes: int = 0,
        **options: Any,
    ) -> None:
        self.value_passes = value_passes
        self._callback: BaseCallback | None = None
        super().__init__(policy, env, **options)

    def guide(self, episodes: Sequence[Episode]) -> None:
        """Do nothing: demonstrations were cloned, and on-policy learning has no place for them."""

    def start(self, callback: BaseCallback) -> None:
        """Reset the environment; ``iterate`` follows."""
        _, self._callback = self._setup_learn(10**9, callback)
        self._callback.on_training_start(locals(), globals())

    def iterate(self) -> None:
        """Play ``n_steps`` steps and do the updates."""
        assert self._callback is not None, "call start before iterate"
        assert self.env is not None  # given to the constructor
        self.collect_rollouts(
            self.env, self._callback, self.rollout_buffer, n_rollout_steps=self.n_steps
        )
        learns = self.value_passes <= 0
        self.value_passes -= 1
        for parameter in actor_parameters(self.policy):
            parameter.requires_grad_(learns)
        self.train()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_callback"]
