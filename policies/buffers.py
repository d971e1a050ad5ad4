"""Stable-Baselines3 buffers for rewards that come late, or never.

A row whose reward is not known is never sampled. A late reward goes into the row of the transition
that its record names; a reward that will never come leaves its row out for good, and so does Φ that
is missing for the rows on both of its sides (the wrapper makes both of them NaN).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    DictRolloutBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import (
    DictReplayBufferSamples,
    ReplayBufferSamples,
)
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from robo_reward.envs.reward_episode import RewardRecord
from robo_reward.errors import ConfigError, RewardLost

from .vec_reward import VecVisualReward

logger = logging.getLogger(__name__)

Key = tuple[int, int, int]
Place = tuple[int, int]

DRAWS = 8
"""Rounds of drawing at random before the known rows are listed instead."""


class Tickets:
    """Which row waits for the reward of which transition.

    Attributes:
        late: Rewards that came after their row was made.
        lost: Rows whose reward will never come.
        overwritten: Rows that were used again while they still waited.
    """

    def __init__(self) -> None:
        self.late = 0
        self.lost = 0
        self.overwritten = 0
        self._places: dict[Key, Place] = {}
        self._keys: dict[Place, Key] = {}

    def __len__(self) -> int:
        """Number of rows that wait."""
        return len(self._places)

    def register(self, key: Key, place: Place) -> None:
        """Let this row wait for the reward of this transition."""
        self._places[key] = place
        self._keys[place] = key

    def free(self, place: Place) -> None:
        """Forget what this row waited for: it is used for another transition."""
        key = self._keys.pop(place, None)
        if key is not None:
            del self._places[key]
            self.overwritten += 1

    def claim(self, record: RewardRecord) -> Place | None:
        """Return the row of the transition that the record names; ``None`` where there is none."""
        place = self._places.pop(record.key, None)
        if place is None:
            return None
        del self._keys[place]
        if record.known:
            self.late += 1
        else:
            self.lost += 1
        return place

    def clear(self) -> None:
        """Let nothing wait any more."""
        self._places.clear()
        self._keys.clear()


class LateReplayBuffer(ReplayBuffer):
    """A replay buffer whose rewards may come late or never.

    Give it to SAC, TD3 or DQN as ``replay_buffer_class`` (``LateDictReplayBuffer`` for Dict
    observations) and call ``attach(model)``.

    Attributes:
        known: ``(rows, envs) bool``: rows that may be sampled.
        tickets: Rows that wait, and counts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.optimize_memory_usage:
            raise ConfigError("optimize_memory_usage keeps no next observation for a dropped row")
        self.known: NDArray[np.bool_] = np.zeros((self.buffer_size, self.n_envs), np.bool_)
        self.tickets = Tickets()
        self.source: VecVisualReward | None = None
        self._usable = 0

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one transition per environment, then what ``info["late_rewards"]`` brings."""
        row = self.pos
        for env in range(self.n_envs):
            self.tickets.free((row, env))
        self._usable -= int(self.known[row].sum())
        super().add(obs, next_obs, action, reward, done, infos)
        self.known[row] = np.isfinite(self.rewards[row])
        self._usable += int(self.known[row].sum())
        for env, info in enumerate(infos):
            if self.known[row, env]:
                continue
            if info.get("reward_status") == "pending":
                self.tickets.register(info["reward_for"], (row, env))
            else:
                self.tickets.lost += 1
        for info in infos:
            self.write(info.get("late_rewards", ()))

    def write(self, records: Iterable[RewardRecord]) -> None:
        """Put each reward into the row of the transition that it names."""
        for record in records:
            place = self.tickets.claim(record)
            if place is None or not record.known:
                continue
            self.rewards[place] = record.reward
            self.known[place] = True
            self._usable += 1
            if record.terminated:
                self.dones[place] = 1.0
                self.timeouts[place] = 0.0

    @property
    def usable(self) -> int:
        """Number of transitions that may be sampled."""
        return self._usable

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Any:
        """Sample transitions whose reward is known.

        Raises:
            RewardLost: There is none, and none is on its way.
        """
        if not self._usable and self.source is not None:
            self.write(self.source.settle())
        if not self._usable:
            raise RewardLost("no transition in the replay buffer has a reward; see info['score']")
        rows, envs = self._draw(batch_size)
        return self._samples(rows, envs, env)

    def _draw(self, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Draw uniformly among the known rows; they are nearly all, so drawing again is cheap."""
        top = self.buffer_size if self.full else self.pos
        rows = np.random.randint(0, top, size)
        envs = np.random.randint(0, self.n_envs, size)
        for _ in range(DRAWS):
            again = np.flatnonzero(~self.known[rows, envs])
            if not len(again):
                return rows, envs
            rows[again] = np.random.randint(0, top, len(again))
            envs[again] = np.random.randint(0, self.n_envs, len(again))
        again = np.flatnonzero(~self.known[rows, envs])
        if len(again):
            places = np.argwhere(self.known[:top])
            rows[again], envs[again] = places[np.random.randint(0, len(places), len(again))].T
        return rows, envs

    def _samples(
        self, rows: NDArray[np.intp], envs: NDArray[np.intp], env: VecNormalize | None
    ) -> Any:
        data = (
            self._normalize_obs(self.observations[rows, envs], env),
            self.actions[rows, envs],
            self._normalize_obs(self.next_observations[rows, envs], env),
            self._ends(rows, envs),
            self._normalize_reward(self.rewards[rows, envs].reshape(-1, 1), env),
        )
        return ReplayBufferSamples(*(self.to_torch(part) for part in data))  # type: ignore[arg-type]

    def _ends(self, rows: NDArray[np.intp], envs: NDArray[np.intp]) -> NDArray[np.float32]:
        ends: NDArray[np.float32] = self.dones[rows, envs] * (1 - self.timeouts[rows, envs])
        return ends.reshape(-1, 1)

    def __getstate__(self) -> dict[str, Any]:
        # A saved buffer takes no sockets along, and nothing in it will be answered later.
        return {**self.__dict__, "source": None, "tickets": Tickets()}


class LateDictReplayBuffer(LateReplayBuffer, DictReplayBuffer):
    """``LateReplayBuffer`` for Dict observations."""

    def _samples(
        self, rows: NDArray[np.intp], envs: NDArray[np.intp], env: VecNormalize | None
    ) -> Any:
        before = {name: values[rows, envs] for name, values in self.observations.items()}
        after = {name: values[rows, envs] for name, values in self.next_observations.items()}
        rewards = self._normalize_reward(self.rewards[rows, envs].reshape(-1, 1), env)
        return DictReplayBufferSamples(
            observations=self._torch(self._normalize_obs(before, env)),
            actions=self.to_torch(self.actions[rows, envs]),
            next_observations=self._torch(self._normalize_obs(after, env)),
            dones=self.to_torch(self._ends(rows, envs)),
            rewards=self.to_torch(rewards),
        )

    def _torch(self, observations: Any) -> dict[str, torch.Tensor]:
        return {name: self.to_torch(values) for name, values in observations.items()}


class LateRolloutBuffer(RolloutBuffer):
    """A rollout buffer that waits for late rewards before advantages and leaves out lost rows.

    Give it to PPO or A2C as ``rollout_buffer_class`` (``LateDictRolloutBuffer`` for Dict
    observations) and call ``attach(model)``: the buffer learns from the environment which row is
    which transition. λ-returns do not run across a row that was left out; the row before it
    bootstraps from the value of its next state.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.tickets = Tickets()
        self.source: VecVisualReward | None = None
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Empty the buffer."""
        super().reset()
        self.tickets.clear()
        self.ends: NDArray[np.bool_] = np.zeros((self.buffer_size, self.n_envs), np.bool_)
        self._places: NDArray[np.intp] | None = None

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Store one transition per environment, then the rewards that came with this step."""
        if self.source is None:
            raise ConfigError("call robo_reward.policies.buffers.attach(model) before learn()")
        row = self.pos
        super().add(*args, **kwargs)
        infos = self.source.last_infos
        for env, info in enumerate(infos):
            if math.isfinite(self.rewards[row, env]):
                continue
            if info["reward_status"] == "pending":
                self.tickets.register(info["reward_for"], (row, env))
            else:
                self.tickets.lost += 1
        for info in infos:
            self.write(info.get("late_rewards", ()))

    def write(self, records: Iterable[RewardRecord]) -> None:
        """Put each reward into the row of the transition that it names."""
        for record in records:
            place = self.tickets.claim(record)
            if place is not None:
                self.rewards[place] = record.reward
                self.ends[place] = record.terminated

    def compute_returns_and_advantage(
        self, last_values: torch.Tensor, dones: NDArray[np.bool_]
    ) -> None:
        """Wait for the rewards that are open, then compute advantages over the rows that have one.

        Raises:
            RewardLost: No row has a reward.
        """
        if self.source is not None:
            self.write(self.source.settle())
        known = np.isfinite(self.rewards)
        if not known.any():
            raise RewardLost("no transition of this rollout has a reward; see info['score']")
        next_values = last_values.clone().cpu().numpy().flatten()
        goes_on = 1.0 - np.asarray(dones, np.float32)
        carried = np.zeros(self.n_envs, np.float32)
        for row in reversed(range(self.buffer_size)):
            goes_on = np.where(self.ends[row], 0.0, goes_on)
            error = self.rewards[row] + self.gamma * next_values * goes_on - self.values[row]
            carried = error + self.gamma * self.gae_lambda * goes_on * carried
            carried = np.where(known[row], carried, 0.0)
            self.advantages[row] = carried
            next_values = self.values[row]
            goes_on = 1.0 - self.episode_starts[row]
        # A row that is left out gets its own value as return: advantage 0, and it is never drawn.
        self.returns = self.advantages + self.values
        self._places = np.flatnonzero(self.swap_and_flatten(known))

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yield batches of the rows that have a reward, in random order."""
        if self._places is None:
            raise RuntimeError("compute_returns_and_advantage comes before get")
        if not self.generator_ready:
            self._flatten()
        indices = np.random.permutation(self._places)
        size = batch_size or len(indices)
        for start in range(0, len(indices), size):
            yield self._get_samples(indices[start : start + size])

    def _flatten(self) -> None:
        for name in ("actions", "values", "log_probs", "advantages", "returns"):
            self.__dict__[name] = self.swap_and_flatten(self.__dict__[name])
        self._flatten_observations()
        self.generator_ready = True

    def _flatten_observations(self) -> None:
        self.observations = self.swap_and_flatten(self.observations)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": None, "tickets": Tickets()}


class LateDictRolloutBuffer(LateRolloutBuffer, DictRolloutBuffer):
    """``LateRolloutBuffer`` for Dict observations."""

    def _flatten_observations(self) -> None:
        for name, values in self.observations.items():
            self.observations[name] = self.swap_and_flatten(values)


def replay_buffer_class(space: spaces.Space[Any]) -> type[LateReplayBuffer]:
    """Return the replay buffer for this observation space."""
    return LateDictReplayBuffer if isinstance(space, spaces.Dict) else LateReplayBuffer


def rollout_buffer_class(space: spaces.Space[Any]) -> type[LateRolloutBuffer]:
    """Return the rollout buffer for this observation space."""
    return LateDictRolloutBuffer if isinstance(space, spaces.Dict) else LateRolloutBuffer


def attach(model: BaseAlgorithm) -> VecVisualReward:
    """Tie the buffer of an algorithm to its reward wrapper, and refuse what would go wrong.

    Args:
        model: An SB3 algorithm whose environment is, or wraps, a ``VecVisualReward``.

    Returns:
        The wrapper.

    Raises:
        ConfigError: A stock buffer where rewards may be late or missing; rewards normalised by
            ``VecNormalize``; another discount in the shaping than in the algorithm.
    """
    env = find_reward(model.get_env())
    config = env.config
    gamma = float(getattr(model, "gamma", config.shaping.gamma))
    shaped = config.shaping.form == "potential" and config.shaping.weight > 0
    if shaped and not math.isclose(gamma, config.shaping.gamma):
        raise ConfigError(
            f"the shaping discounts with {config.shaping.gamma} and the algorithm with {gamma}; "
            "give both the same gamma, or the best policy is another one"
        )
    on_policy = isinstance(model, OnPolicyAlgorithm)
    buffer: Any = getattr(model, "rollout_buffer" if on_policy else "replay_buffer", None)
    if isinstance(buffer, (LateReplayBuffer, LateRolloutBuffer)):
        buffer.source = env
        # PPO adds the value of a time-out's last state to its reward at once: it must be there.
        env.wait_at_end = on_policy
    else:
        _check_stock(env, buffer, on_policy=on_policy)
    if may_be_nan(env):
        _check_normalised(model.get_env())
    return env


def may_be_nan(env: VecVisualReward) -> bool:
    """Whether this wrapper is set up to return rewards that are NaN."""
    if env.config.mode != "sync" or env.stream or env.config.on_missing == "nan":
        return True
    return env.config.on_missing == "wait" and env.session.desk.abstains()


def find_reward(env: VecEnv | None) -> VecVisualReward:
    """Return the reward wrapper within a stack of ``VecEnvWrapper``s.

    Raises:
        ConfigError: There is none.
    """
    layer: Any = env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecVisualReward):
            return layer
        layer = layer.venv
    raise ConfigError("the environment of this algorithm has no VecVisualReward")


def _check_stock(env: VecVisualReward, buffer: Any, *, on_policy: bool) -> None:
    kind = "rollout" if on_policy else "replay"
    named = f"{type(buffer).__name__} trains on NaN"
    if may_be_nan(env):
        raise ConfigError(
            f"rewards may be late or missing here and {named}; pass {kind}_buffer_class="
            f"robo_reward.policies.buffers.{kind}_buffer_class(env.observation_space)"
        )
    if env.config.on_missing != "raise":
        logger.warning("%s where a model fails for good; the buffers here leave it out", named)


def _check_normalised(env: VecEnv | None) -> None:
    layer: Any = env
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecNormalize) and layer.norm_reward:
            raise ConfigError(
                "VecNormalize(norm_reward=True) takes NaN into its statistics; use "
                "norm_reward=False and ShapingConfig(normalise=True)"
            )
        layer = layer.venv
