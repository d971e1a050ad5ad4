"""Episodes as arrays: what demonstrations and self-imitation are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer

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


def add_to_buffer(buffer: ReplayBuffer, episode: Episode) -> int:
    """Put an episode into a buffer of one environment; returns how many transitions went in."""
    last = len(episode) - 1
    known = np.flatnonzero(np.isfinite(episode.rewards))
    for step in known:
        ends = bool(step == last)
        # SB3 keeps "done" for every end and takes those marked as cut off out again.
        info: dict[str, Any] = {"TimeLimit.truncated": ends and not episode.terminated}
        buffer.add(
            episode.observations[step][None],
            episode.observations[step + 1][None],
            episode.actions[step][None],
            episode.rewards[step : step + 1],
            np.array([ends]),
            [info],
        )
    return len(known)
