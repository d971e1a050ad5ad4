"""Parts of learning: scaling, cloning, buffers, critics, the evaluator, observations, jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.sac.policies import SACPolicy

import robo_reward.envs  # noqa: F401 - registers the suite
from robo_reward.envs.tabletop.goal import HELD_STEPS
from robo_reward.errors import ConfigError
from robo_reward.frames import Frame
from robo_reward.policies.bc import CloneConfig, clone, mean_action
from robo_reward.policies.critics import StackedPolicy
from robo_reward.policies.demos import DemoConfig, record
from robo_reward.policies.episodes import Episode, EpisodeBuffer, EpisodeBuilder
from robo_reward.policies.observations import FrozenFeatures, make_options, observe
from robo_reward.policies.one_goal import JOBS, Job, OneGoal
from robo_reward.policies.oracle import oracle_camera
from robo_reward.policies.rollout import evaluate, wilson
from robo_reward.policies.sac import GuidedSAC
from robo_reward.policies.scaling import StandardFeatures, fit_scaling
from robo_reward.task import Task

OBSERVATIONS = gym.spaces.Box(-10, 10, (3,), np.float32)
ACTIONS = gym.spaces.Box(-1, 1, (2,), np.float32)


class Corridor(gym.Env[Any, Any]):
    """Walk to 1: success is being beyond 0.9, the reward is the way made."""

    observation_space = OBSERVATIONS
    action_space = ACTIONS

    def __init__(self, *, touch_and_go: bool = False) -> None:
        self.touch_and_go = touch_and_go

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-0.5, 0.0)), 0
        return self._look(), {}

    def step(self, action: Any) -> Any:
        before = self.x
        self.x += 0.2 * float(action[0])
        self.t += 1
        success = self.x > 0.9 and not (self.touch_and_go and self.t % 2)
        over = self.t >= 20
        return self._look(), self.x - before - 0.01, False, over, {"success": success}

    def _look(self) -> NDArray[np.float32]:
        return np.array([self.x, 0.0, 1.0], np.float32)


class Walker:
    def predict(self, observation: Any, *, deterministic: bool) -> tuple[NDArray[Any], None]:
        return np.array([0.0 if observation[0] > 0.92 else 1.0, 0.0], np.float32), None


def policy_of(hidden: int = 32) -> StackedPolicy:
    torch.manual_seed(0)
    return StackedPolicy(
        OBSERVATIONS,
        ACTIONS,
        lambda _: 1e-3,
        net_arch=[hidden, hidden],
        features_extractor_class=StandardFeatures,
        action_std=0.3,
    )


def test_scaling_reaches_every_network_and_is_saved() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal([5.0, 0.0, 1.0], [0.1, 2.0, 0.0], (500, 3)).astype(np.float32)
    policy = policy_of()
    fit_scaling(policy, seen)
    parts = [m for m in policy.modules() if isinstance(m, StandardFeatures)]
    assert len(parts) == 4
    scaled = parts[0](torch.as_tensor(seen))
    assert torch.allclose(scaled.mean(0), torch.zeros(3), atol=0.05)
    assert scaled[:, :2].std(0) == pytest.approx([1.0, 1.0], abs=0.05)
    fresh = policy_of()
    fresh.load_state_dict(policy.state_dict())
    observation = seen[0]
    assert fresh.predict(observation, deterministic=True)[0] == pytest.approx(
        policy.predict(observation, deterministic=True)[0]
    )


def test_the_mean_action_is_that_of_the_averaged_actor() -> None:
    policy = policy_of()
    actor: Any = policy.actor
    averaged: Any = policy.mean_actor
    observation = np.ones(3, np.float32)
    before, _ = policy.predict(observation, deterministic=True)
    with torch.no_grad():
        actor.mu.bias.add_(1.0)
    assert policy.predict(observation, deterministic=True)[0] == pytest.approx(before)
    policy.average(0.5)
    assert torch.allclose(actor.mu.bias - averaged.mu.bias, torch.full((2,), 0.5))
    policy.average(1.0)
    assert (policy.predict(observation, deterministic=True)[0] > before).all()
    learned = {id(one) for group in actor.optimizer.param_groups for one in group["params"]}
    assert not learned & {id(one) for one in averaged.parameters()}


def test_stacked_critics_are_independent() -> None:
    policy = policy_of()
    observations, actions = torch.randn(5, 3), torch.rand(5, 2)
    first, second = policy.critic(observations, actions)
    assert first.shape == (5, 1)
    assert not torch.allclose(first, second)
    first.sum().backward()
    for parameter in policy.critic.stack.parameters():
        # Layer normalisation has one scale for all; a weight of the second critic has no part.
        if parameter.dim() == 3:
            assert parameter.grad is not None
            assert parameter.grad[1].abs().sum() == 0
    assert isinstance(policy, SACPolicy)


def test_the_spread_of_actions_is_what_was_asked() -> None:
    policy = policy_of()
    _, log_std, _ = policy.actor.get_action_dist_params(torch.randn(4, 3))
    assert torch.allclose(log_std.exp(), torch.full((4, 2), 0.3))


def test_cloning_imitates_the_expert() -> None:
    env = OneGoal(gym.make("robo_reward/PickPlace-v0", looks=False), Job())
    episodes = record(env, DemoConfig(episodes=4), seed=0)
    policy = StackedPolicy(
        env.observation_space,
        env.action_space,
        lambda _: 1e-3,
        net_arch=[64, 64],
        features_extractor_class=StandardFeatures,
    )
    fit_scaling(policy, np.concatenate([one.observations for one in episodes]))
    error = clone(policy, episodes, CloneConfig(updates=600), seed=0)
    spread = np.concatenate([one.actions for one in episodes]).var(0).mean()
    assert error < 0.1 * spread
    known = torch.as_tensor(episodes[0].observations[:-1])
    off = (mean_action(policy, known).detach().numpy() - episodes[0].actions) ** 2
    assert off.mean() < 0.1 * spread


def counted(steps: int, *, terminated: bool, missing: int | None = None) -> Episode:
    """An episode whose rewards and observations count from 0."""
    builder = EpisodeBuilder(np.zeros(3, np.float32))
    for step in range(steps):
        reward = math.nan if step == missing else float(step)
        after = np.full(3, step + 1.0, np.float32)
        builder.add(np.zeros(2, np.float32), reward, after=after)
    return builder.build(terminated=terminated)


def test_rows_of_n_steps() -> None:
    buffer = EpisodeBuffer(
        50,
        OBSERVATIONS,
        ACTIONS,
        device="cpu",
        n_steps=2,
        gamma=0.5,
        handle_timeout_termination=True,
    )
    assert buffer.add_episode(counted(4, terminated=True)) == 4
    assert buffer.rewards[:4, 0].tolist() == [0.5, 2.0, 3.5, 3.0]
    assert buffer.observations[:4, 0, 0].tolist() == [0, 1, 2, 3]
    assert buffer.next_observations[:4, 0, 0].tolist() == [2, 3, 4, 4]
    assert buffer.discounts[:4, 0].tolist() == [0.25, 0.25, 0.25, 0.5]
    # Both rows that reach the end of a success bootstrap from nothing.
    assert buffer.dones[:4, 0].tolist() == [0, 0, 1, 1]
    assert buffer.add_episode(counted(4, terminated=False)) == 4
    assert buffer.dones[4:8, 0].tolist() == [0, 0, 0, 0]
    batch = buffer.sample(64)
    assert batch.discounts is not None
    assert set(batch.discounts.flatten().tolist()) == {0.25, 0.5}


def test_rows_with_a_missing_reward_are_left_out() -> None:
    buffer = EpisodeBuffer(50, OBSERVATIONS, ACTIONS, device="cpu", n_steps=2, gamma=0.5)
    assert buffer.add_episode(counted(5, terminated=True, missing=2)) == 3
    assert buffer.observations[:3, 0, 0].tolist() == [0, 3, 4]
    assert np.isfinite(buffer.rewards).all()


def learner(env: gym.Env[Any, Any], **options: Any) -> GuidedSAC:
    return GuidedSAC(
        StackedPolicy,
        env,
        policy_kwargs={"net_arch": [32, 32], "features_extractor_class": StandardFeatures},
        seed=0,
        device="cpu",
        ent_coef=0.0,
        learning_starts=0,
        **options,
    )


def test_guided_sac_learns_to_walk() -> None:
    from robo_reward.policies.watch import EpisodeWatch

    env = Corridor()
    model = learner(
        env,
        episodes=4,
        updates=80,
        gamma=0.9,
        learning_rate=2e-3,
        clone_weight=0.0,
        batch_size=64,
    )
    # A guide that stands still: what is learned comes from the reward.
    still = Episode(
        observations=np.zeros((6, 3), np.float32),
        actions=np.zeros((5, 2), np.float32),
        rewards=np.full(5, -0.01, np.float32),
        terminated=False,
    )
    model.guide([still])
    watch = EpisodeWatch()
    model.start(watch)
    before = evaluate(model.policy, Corridor(), episodes=10, seed=1)
    for _ in range(6):
        model.iterate()
    after = evaluate(model.policy, Corridor(), episodes=10, seed=1)
    assert watch.episodes == 24
    assert model.replay_buffer.size() == 24 * 20
    # None was called a success, so none went into the guide.
    assert model.guide_buffer.size() == 5
    assert after.successes == 10 > before.successes


class Gated(gym.Wrapper[Any, Any, Any, Any]):
    """Ends every other episode, as a reward wrapper does when the model says done."""

    def reset(self, **options: Any) -> Any:
        self.count = getattr(self, "count", -1) + 1
        self.steps = 0
        return super().reset(**options)

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        self.steps += 1
        return (
            observation,
            reward,
            self.count % 2 == 0 and self.steps >= 7,
            truncated,
            info,
        )


def test_only_declared_successes_enter_the_guide() -> None:
    from robo_reward.policies.watch import EpisodeWatch

    model = learner(Gated(Corridor()), episodes=4, updates=1, batch_size=8, n_steps=1)
    filler = EpisodeBuilder(np.zeros(3, np.float32))
    filler.add(np.zeros(2, np.float32), 0.0, after=np.zeros(3, np.float32))
    model.guide([filler.build(terminated=False)])
    model.start(EpisodeWatch())
    model.iterate()
    assert model.replay_buffer.size() == 7 + 20 + 7 + 20
    guided = model.guide_buffer
    assert guided.size() == 1 + 7 + 7
    assert guided.dones[:15, 0].tolist() == [0, *([0] * 6), 1, *([0] * 6), 1]
    # Observations follow one another: the end of an episode is not the start of the next.
    assert np.allclose(guided.next_observations[1:7, 0], guided.observations[2:8, 0])


def test_success_has_to_last() -> None:
    assert evaluate(Walker(), Corridor(), episodes=5, seed=0).rate == 1.0
    assert evaluate(Walker(), Corridor(touch_and_go=True), episodes=5, seed=0).rate == 0.0
    result = evaluate(Walker(), Corridor(), episodes=5, seed=0)
    assert result == evaluate(Walker(), Corridor(), episodes=5, seed=0)
    assert result.steps > HELD_STEPS


def test_wilson_interval() -> None:
    low, high = wilson(0, 10)
    assert low == 0.0
    assert high == pytest.approx(0.2775, abs=1e-3)
    low, high = wilson(50, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-3)


def test_features_follow_the_picture() -> None:
    def mean_colour(frames: Sequence[Frame], task: Task) -> NDArray[np.float32]:
        asked.append(task.instruction)
        return np.stack([np.asarray(one.image, np.float32).mean((0, 1)) / 255 for one in frames])

    asked: list[str] = []

    bare = gym.make("robo_reward/PickPlace-v0", looks=False, renderer="rays", image_size=32,
                    **make_options("features"))  # fmt: skip
    env = observe(bare, "features", encoder=mean_colour)
    assert isinstance(env, FrozenFeatures)
    assert env.observation_space.shape == (8 + 3,)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    picture = env.render()
    told = env.unwrapped.instruction  # type: ignore[attr-defined]
    assert asked[-1] == told != ""
    assert isinstance(picture, np.ndarray)
    seen = mean_colour([Frame.of(picture)], Task(instruction=told))[0]
    assert observation[8:] == pytest.approx(seen)
    # The reward is read from the very picture that the policy saw.
    assert picture is env.render()
    assert env.step(np.ones(4, np.float32))[0][8:] == pytest.approx(
        mean_colour([Frame.of(env.render())], Task(instruction=told))[0]
    )
    env.close()
    with pytest.raises(ConfigError, match="needs an encoder"):
        observe(bare, "features")
    with pytest.raises(ConfigError, match="state, features"):
        make_options("pixels")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", JOBS)
def test_jobs_are_solvable_and_repeatable(name: str) -> None:
    job = JOBS[name]
    camel = "".join(word.capitalize() for word in job.family.split("_"))
    env = OneGoal(gym.make(f"robo_reward/{camel}-v0", looks=False), job)
    first, info = env.reset(seed=4)
    assert info["instruction"] == job.instruction
    assert np.array_equal(first, env.reset(seed=4)[0])
    assert not np.array_equal(first, env.reset()[0])
    episodes = record(env, DemoConfig(episodes=5), seed=1)
    look = oracle_camera()
    limit = gym.spec(f"robo_reward/{camel}-v0").max_episode_steps
    assert limit is not None
    assert sum(len(one) < limit for one in episodes) >= 4
    assert look(env)[0, 0, 0] == 255  # the last one ended in success: progress 1
    with pytest.raises(ConfigError, match="the environment plays"):
        OneGoal(gym.make("robo_reward/Reach-v0"), job)
