"""SAC that begins as a clone and keeps learning from demonstrations and its own successes.

What differs from SAC (Haarnoja et al. 2018), each a few lines below ``train``:

* half of every batch comes from the guide buffer, as in RLPD (Ball et al. 2023); it holds the
  demonstrations and every episode that the owner of done called a success;
* returns over n steps, see ``EpisodeBuffer``;
* a cloning term on that half where the critic agrees that the guide's action is better, as in
  Nair et al. 2018 (the Q-filter);
* the spread of the actions is fixed and there is no entropy bonus: both start a clone's grasp over;
* the actor only clones until the critic knows something (``actor_delay`` updates);
* the policy that is evaluated has the average of the actor's weights over the last updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import (
    ReplayBufferSamples,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional

from .critics import StackedPolicy
from .episodes import Episode, EpisodeBuffer, EpisodeBuilder


class GuidedSAC(SAC):
    """SAC with a guide buffer.

    Args:
        policy: ``StackedPolicy``.
        env: The reward-wrapped environment.
        episodes: Episodes of an iteration.
        updates: Updates of an iteration.
        clone_weight: Weight of the cloning term.
        clone_always: Share of the cloning term that the Q-filter does not touch, [0, 1].
        actor_delay: Updates in which the actor only clones.
        average: Share of the actor that goes into its average at every update, see
            ``StackedPolicy``.
        reward_scale: Factor on the rewards inside the updates, to keep values near 1.
        guide_size: Transitions that the guide buffer holds; the oldest go first.
        n_steps: Steps of a return, see ``EpisodeBuffer``.
        gamma: Discount.
        **options: Those of SAC.
    """

    policy: StackedPolicy
    replay_buffer: EpisodeBuffer
    guide_buffer: EpisodeBuffer

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        episodes: int = 16,
        updates: int = 500,
        clone_weight: float = 1.0,
        clone_always: float = 0.0,
        actor_delay: int = 0,
        average: float = 1.0,
        reward_scale: float = 1.0,
        guide_size: int = 30_000,
        n_steps: int = 3,
        gamma: float = 0.95,
        **options: Any,
    ) -> None:
        self.episodes = episodes
        self.updates = updates
        self.clone_weight = clone_weight
        self.clone_always = clone_always
        self.actor_delay = actor_delay
        self.average = average
        self.reward_scale = reward_scale
        self.guide_size = guide_size
        self._builder: EpisodeBuilder | None = None
        self._callback: BaseCallback | None = None
        super().__init__(
            policy,
            env,
            gamma=gamma,
            replay_buffer_class=EpisodeBuffer,
            replay_buffer_kwargs={"n_steps": n_steps, "gamma": gamma},
            **options,
        )

    def _setup_model(self) -> None:
        super()._setup_model()
        self.guide_buffer = EpisodeBuffer(
            self.guide_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            **self.replay_buffer_kwargs,
        )

    def guide(self, episodes: Sequence[Episode]) -> None:
        """Add demonstrations."""
        for episode in episodes:
            self.guide_buffer.add_episode(episode)

    def start(self, callback: BaseCallback) -> None:
        """Reset the environment; ``iterate`` follows."""
        _, self._callback = self._setup_learn(10**9, callback)
        self._callback.on_training_start(locals(), globals())

    def iterate(self) -> None:
        """Play the episodes of an iteration into the buffers, then do its updates."""
        assert self._callback is not None, "call start before iterate"
        assert self.env is not None  # given to the constructor
        number = TrainFreq(self.episodes, TrainFrequencyUnit.EPISODE)
        self.collect_rollouts(self.env, self._callback, number, self.replay_buffer)
        self.train(self.updates, self.batch_size)

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """Do updates; see the top of this module."""
        self.policy.set_training_mode(True)
        sums: dict[str, float] = {}
        for _ in range(gradient_steps):
            for name, value in self._update(batch_size).items():
                sums[name] = sums.get(name, 0.0) + value.item()
            self._n_updates += 1
        for name, total in sums.items():
            self.logger.record(f"train/{name}", total / gradient_steps)
        self.logger.record("train/n_updates", self._n_updates)
        self.policy.set_training_mode(False)

    def _update(self, batch_size: int) -> dict[str, th.Tensor]:
        half = batch_size // 2
        online = self.replay_buffer.sample(half)
        guide = self.guide_buffer.sample(batch_size - half)
        losses = self._update_critic(_join(online, guide))
        losses |= self._update_actor(online, guide)
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        self.policy.average(self.average)
        return losses

    def _update_critic(self, batch: ReplayBufferSamples) -> dict[str, th.Tensor]:
        with th.no_grad():
            actions, _ = self._act(batch.next_observations)
            ahead = self.policy.critic_target.values(batch.next_observations, actions).amin(0)
            assert batch.discounts is not None  # an EpisodeBuffer gives them
            ahead = (1 - batch.dones) * batch.discounts * ahead
            target = self.reward_scale * batch.rewards + ahead
        values = self.policy.critic.values(batch.observations, batch.actions)
        loss = functional.mse_loss(values, target.expand_as(values))
        _step(self.critic.optimizer, loss)
        return {"critic_loss": loss.detach(), "value": values.detach().mean()}

    def _update_actor(
        self, online: ReplayBufferSamples, guide: ReplayBufferSamples
    ) -> dict[str, th.Tensor]:
        observations = th.cat([online.observations, guide.observations])
        actions, best = self._act(observations)
        best = best[len(online.observations) :]
        off = (best - guide.actions).square().mean(1, keepdim=True)
        kept = self._filter(guide, best.detach())
        clone = (kept * off).mean()
        loss = self.clone_weight * clone
        if self._n_updates >= self.actor_delay:
            loss = loss - self.policy.critic.values(observations, actions).amin(0).mean()
        _step(self.actor.optimizer, loss)
        return {
            "actor_loss": loss.detach(),
            "clone_loss": clone.detach(),
            "clone_kept": kept.mean(),
        }

    def _act(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return a sampled and the best action, ``(B, m)`` each in [-1, 1], with gradients."""
        mean, log_std, _ = self.actor.get_action_dist_params(observations)
        return th.tanh(mean + log_std.exp() * th.randn_like(mean)), th.tanh(mean)

    def _filter(self, guide: ReplayBufferSamples, best: th.Tensor) -> th.Tensor:
        """Return per guide row how much of the cloning term counts, ``(B, 1)``."""
        if self.clone_always >= 1.0:
            return th.ones(len(best), 1)
        with th.no_grad():
            theirs = self.policy.critic.values(guide.observations, guide.actions).mean(0)
            ours = self.policy.critic.values(guide.observations, best).mean(0)
        return (theirs > ours).float().clamp(min=self.clone_always)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray[Any, Any],
        new_obs: Any,
        reward: np.ndarray[Any, Any],
        dones: np.ndarray[Any, Any],
        infos: list[dict[str, Any]],
    ) -> None:
        if self._builder is None:
            self._builder = EpisodeBuilder(np.asarray(self._last_obs)[0])
        self._last_obs = new_obs
        after = infos[0]["terminal_observation"] if dones[0] else new_obs[0]
        self._builder.add(buffer_action[0], float(reward[0]), after=after)
        if dones[0]:
            episode = self._builder.build(terminated=not infos[0].get("TimeLimit.truncated", False))
            self.replay_buffer.add_episode(episode)
            if episode.terminated:
                # The owner of done says that this one succeeded: it is as good as a demonstration.
                self.guide([episode])
            self._builder = None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "guide_buffer", "_builder", "_callback"]


def _join(first: ReplayBufferSamples, second: ReplayBufferSamples) -> ReplayBufferSamples:
    pairs = zip(first, second, strict=True)
    return ReplayBufferSamples(*(th.cat(pair) for pair in pairs))  # type: ignore[arg-type]


def _step(optimizer: th.optim.Optimizer, loss: th.Tensor) -> None:
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    optimizer.zero_grad()
    # The actor's loss runs through the critics: their gradients would be computed for nothing.
    th.autograd.backward(loss, inputs=[one for one in parameters if one.requires_grad])
    optimizer.step()
