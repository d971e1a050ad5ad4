"""Episodes as arrays: what demonstrations and self-imitation are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """One episode of T transitions.

    Attributes:
        observations: ``(T + 1, n) float32``, the last one is that after the last action.
        actions: ``(T, m) float32`` in [-1, 1].
        rewards: ``(T,) float32``; NaN where a score is missing: such a transition is dropped.
        terminated: Whether the owner of done ended it, so that nothing comes after.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminated: bool

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.actions)

    @property
    def total(self) -> float:
        """Sum of the rewards that are known."""
        return float(np.nansum(self.rewards))


class EpisodeBuilder:
    """Collects the transitions of an episode that is being played."""

    def __init__(self, first: Array) -> None:
        self._observations: list[Array] = [np.array(first, np.float32)]
        self._actions: list[Array] = []
        self._rewards: list[float] = []

    def add(self, action: Array, reward: float, *, after: Array) -> None:
        """Append one transition; ``after`` is what was observed after it."""
        self._actions.append(np.array(action, np.float32))
        self._rewards.append(float(reward))
        self._observations.append(np.array(after, np.float32))

    def build(self, *, terminated: bool) -> Episode:
        """Return the episode."""
        return Episode(
            observations=np.stack(self._observations),
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards, np.float32),
            terminated=terminated,
        )


class EpisodeBuffer(ReplayBuffer):
    """A replay buffer of n-step transitions, filled with whole episodes.

    Over n steps differences of progress telescope: the noise of a score enters a return once, while
    the way made is n times as long. Rows whose return holds a missing reward are left out.

    Args:
        *args: As in SB3.
        n_steps: Steps that a row spans, less at the end of an episode.
        gamma: Discount.
        **kwargs: As in SB3.
    """

    def __init__(self, *args: Any, n_steps: int = 1, gamma: float = 0.99, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.n_steps = n_steps
        self.gamma = gamma
        self.discounts = np.zeros((self.buffer_size, self.n_envs), np.float32)

    def add_episode(self, episode: Episode) -> int:
        """Add an episode; returns how many rows went in."""
        added = 0
        for step in range(len(episode)):
            end = min(step + self.n_steps, len(episode))
            weights = self.gamma ** np.arange(end - step)
            total = float(weights @ episode.rewards[step:end])
            if not np.isfinite(total):
                continue
            self.discounts[self.pos] = self.gamma ** (end - step)
            # A time-out is no end: the value of its last state still counts.
            ends = episode.terminated and end == len(episode)
            self.add(
                episode.observations[step][None],
                episode.observations[end][None],
                episode.actions[step][None],
                np.array([total], np.float32),
                np.array([ends]),
                [{}],
            )
            added += 1
        return added

    def _get_samples(
        self, batch_inds: NDArray[Any], env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        data = super()._get_samples(batch_inds, env)
        return data._replace(discounts=self.to_torch(self.discounts[batch_inds]))
