from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from robo_reward.envs.reward_episode import RewardRecord
from robo_reward.errors import ConfigError, RewardLost
from robo_reward.policies.buffers import (
    LateDictReplayBuffer,
    LateDictRolloutBuffer,
    LateReplayBuffer,
    LateRolloutBuffer,
    attach,
    replay_buffer_class,
    rollout_buffer_class,
)
from robo_reward.policies.vec_reward import VecVisualReward, make_vec_reward
from robo_reward.shaping import GateConfig, ShapingConfig
from tests.envs.pixel_world import (
    INSTRUCTION,
    ChaoticSource,
    FailingSource,
    PixelEnv,
    PixelSource,
    delta,
)

RAW = ShapingConfig(form="delta", kappa=1.0, sparse=False)
QUICK_GATE = GateConfig(votes=1, window=1, dwell=1)
STATE = spaces.Box(-1e6, 1e6, (3,), np.float32)
MOVE = spaces.Box(-1, 1, (1,), np.float32)
Key = tuple[int, int, int]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def wrap(source: PixelSource, number: int = 3, **options: Any) -> VecVisualReward:
    env = {
        key: options.pop(key)
        for key in ("horizon", "done_at", "jitter", "dict_obs")
        if key in options
    }
    makers: list[Callable[[], PixelEnv]] = [
        lambda index=index: PixelEnv(index, **env)  # type: ignore[misc]
        for index in range(number)
    ]
    options = {"instruction": INSTRUCTION, "shaping": RAW, **options}
    return make_vec_reward(makers, source, **options)


class StateOnly(BaseFeaturesExtractor):
    """Leaves the image of a Dict observation to the reward: it is too small to be convolved."""

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        super().__init__(observation_space, features_dim=3)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return observations["state"]


def nets(env: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(env.observation_space, spaces.Dict):
        return "MultiInputPolicy", {"net_arch": [8], "features_extractor_class": StateOnly}
    return "MlpPolicy", {"net_arch": [8]}


def sac(env: Any, **options: Any) -> SAC:
    options = {"replay_buffer_class": replay_buffer_class(env.observation_space), **options}
    policy, policy_kwargs = nets(env)
    return SAC(
        policy,
        env,
        learning_starts=20,
        batch_size=16,
        buffer_size=3000,
        policy_kwargs=policy_kwargs,
        device="cpu",
        seed=0,
        **options,
    )


def ppo(env: Any, **options: Any) -> PPO:
    options = {"rollout_buffer_class": rollout_buffer_class(env.observation_space), **options}
    policy, policy_kwargs = nets(env)
    return PPO(
        policy,
        env,
        n_steps=32,
        batch_size=16,
        n_epochs=1,
        policy_kwargs=policy_kwargs,
        device="cpu",
        seed=0,
        **options,
    )


def check_rows(buffer: LateReplayBuffer, *, span: int = 1) -> int:
    """Every row that may be sampled holds the reward of the state its next observation names."""
    checked = 0
    observations: Any = buffer.next_observations
    before: Any = buffer.observations
    if isinstance(observations, dict):
        observations, before = observations["state"], before["state"]
    for row, env in np.argwhere(buffer.known):
        number, episode, step = observations[row, env].astype(int).tolist()
        assert before[row, env].astype(int).tolist() == [number, episode, step - 1]
        assert number == env
        expected = delta(number, episode, step, span=span)
        assert buffer.rewards[row, env] == pytest.approx(expected, abs=1e-5)
        checked += 1
    return checked


@pytest.mark.parametrize("mode", ["sync", "pipelined", "deferred"])
@pytest.mark.parametrize("dict_obs", [False, True])
def test_every_reward_lands_in_the_row_it_names_while_sac_learns(mode: str, dict_obs: bool) -> None:
    source = ChaoticSource(seed=1, error=0.1)
    cameras = {"front": "front"} if dict_obs else None
    env = wrap(
        source,
        3,
        horizon=9,
        jitter=True,
        mode=mode,
        dict_obs=dict_obs,
        max_missing=1.0,
        cameras=cameras,
    )
    model = sac(env)
    attach(model)
    buffer = model.replay_buffer
    assert isinstance(buffer, LateReplayBuffer)
    assert isinstance(buffer, LateDictReplayBuffer) == dict_obs
    model.learn(300)
    buffer.write(env.settle())
    stored = buffer.pos * buffer.n_envs
    assert check_rows(buffer) == buffer.usable == int(buffer.known.sum())
    assert buffer.usable + buffer.tickets.lost + len(buffer.tickets) == stored
    assert 0 < buffer.tickets.lost < 0.3 * stored
    assert len(buffer.tickets) == 0
    weights = torch.cat([part.flatten() for part in model.policy.parameters()])
    assert torch.isfinite(weights).all()


def test_rows_go_on_being_right_when_the_buffer_wraps_around() -> None:
    env = wrap(ChaoticSource(seed=2), horizon=9, mode="deferred", jitter=True)
    model = sac(env)
    model.replay_buffer = LateReplayBuffer(15, STATE, MOVE, device="cpu", n_envs=3)
    attach(model)
    model.learn(400)
    buffer = model.replay_buffer
    buffer.write(env.settle())
    assert buffer.full
    assert check_rows(buffer) > 5
    assert buffer.usable == int(buffer.known.sum())
    assert buffer.tickets.overwritten > 0


def test_a_late_done_becomes_a_terminal_in_its_own_row() -> None:
    env = wrap(
        PixelSource(looks=10**6), 2, done_at=4, horizon=50, gate=QUICK_GATE, mode="pipelined"
    )
    model = sac(env)
    attach(model)
    model.learn(60)
    buffer = model.replay_buffer
    assert isinstance(buffer, LateReplayBuffer)
    buffer.write(env.settle())
    steps = buffer.next_observations[: buffer.pos, :, 2]
    known = buffer.known[: buffer.pos]
    ends = (buffer.dones * (1 - buffer.timeouts))[: buffer.pos]
    assert (steps[known] <= 4).all()
    assert (~known == (steps == 5)).all()
    assert ((ends == 1)[known] == (steps == 4)[known]).all()


def test_missing_potential_leaves_out_both_rows_that_use_it() -> None:
    source = FailingSource(lambda query: "MODEL_ERROR" if query.step == 5 else None)
    shaping = ShapingConfig(gamma=0.99, kappa=1.0)
    env = wrap(source, 1, horizon=10, shaping=shaping, max_missing=1.0)
    model = sac(env)
    attach(model)
    model.learn(50)
    buffer = model.replay_buffer
    assert isinstance(buffer, LateReplayBuffer)
    steps = buffer.next_observations[: buffer.pos, 0, 2]
    assert sorted(set(steps[~buffer.known[: buffer.pos, 0]].tolist())) == [5.0, 6.0]


def fill(buffer: LateReplayBuffer, status: list[str], *, first: int = 0) -> None:
    for index, one in enumerate(status, start=first):
        reward = float(index) if one == "ok" else math.nan
        info = {"reward_for": (0, 0, index), "reward_status": one}
        state = np.full((1, 3), index, np.float32)
        buffer.add(
            state, state + 1, np.zeros((1, 1)), np.array([reward]), np.array([False]), [info]
        )


def test_sampling_draws_known_rows_alone_and_all_of_them() -> None:
    buffer = LateReplayBuffer(100, STATE, MOVE, device="cpu")
    fill(buffer, ["ok", "pending", "model_error", "ok"] * 10)
    assert buffer.usable == 20
    batch = buffer.sample(2000)
    drawn = set(batch.rewards.flatten().tolist())
    assert drawn == {float(i) for i in range(40) if i % 4 in (0, 3)}
    assert (batch.observations[:, 0] == batch.rewards[:, 0]).all()


def test_sampling_finds_the_one_known_row_among_many() -> None:
    buffer = LateReplayBuffer(500, STATE, MOVE, device="cpu")
    fill(buffer, ["pending"] * 400 + ["ok"] + ["pending"] * 90)
    assert set(buffer.sample(64).rewards.flatten().tolist()) == {400.0}


def test_an_empty_buffer_says_so() -> None:
    buffer = LateReplayBuffer(10, STATE, MOVE, device="cpu")
    fill(buffer, ["pending"] * 3)
    with pytest.raises(RewardLost, match="no transition"):
        buffer.sample(4)
    buffer.write([RewardRecord(env=0, episode=0, step=1, reward=7.0, terminated=True)])
    batch = buffer.sample(4)
    assert batch.rewards.flatten().tolist() == [7.0] * 4
    assert batch.dones.flatten().tolist() == [1.0] * 4


def test_records_of_rows_that_are_gone_change_nothing() -> None:
    buffer = LateReplayBuffer(4, STATE, MOVE, device="cpu")
    fill(buffer, ["pending"] * 4)
    fill(buffer, ["ok"] * 2, first=4)
    buffer.write([RewardRecord(env=0, episode=0, step=step, reward=99.0) for step in (0, 1, 2)])
    assert buffer.rewards[:, 0].tolist()[:3] == [4.0, 5.0, 99.0]
    assert buffer.known[:, 0].tolist() == [True, True, True, False]
    assert (buffer.tickets.overwritten, len(buffer.tickets)) == (2, 1)


@pytest.mark.parametrize("mode", ["sync", "pipelined", "deferred"])
@pytest.mark.parametrize("dict_obs", [False, True])
def test_ppo_trains_on_known_rows_alone(mode: str, dict_obs: bool) -> None:
    source = ChaoticSource(seed=4, error=0.1)
    cameras = {"front": "front"} if dict_obs else None
    env = wrap(
        source,
        2,
        horizon=9,
        jitter=True,
        mode=mode,
        dict_obs=dict_obs,
        max_missing=1.0,
        cameras=cameras,
    )
    model = ppo(env)
    attach(model)
    buffer = model.rollout_buffer
    assert isinstance(buffer, LateRolloutBuffer)
    assert isinstance(buffer, LateDictRolloutBuffer) == dict_obs
    model.learn(256)
    assert len(buffer.tickets) == 0
    assert buffer.tickets.lost > 0
    rows = sum(len(batch.returns) for batch in buffer.get(7))
    assert rows == int(np.isfinite(buffer.rewards).sum()) < 64
    weights = torch.cat([part.flatten() for part in model.policy.parameters()])
    assert torch.isfinite(weights).all()


def rollout(rewards: list[float], *, starts: list[int], ends: list[int]) -> LateRolloutBuffer:
    buffer = LateRolloutBuffer(len(rewards), STATE, MOVE, device="cpu", gamma=0.9, gae_lambda=0.8)
    source: Any = type("Env", (), {"settle": lambda self: [], "last_infos": []})()
    buffer.source = source
    for index, reward in enumerate(rewards):
        source.last_infos = [{"reward_status": "ok" if math.isfinite(reward) else "model_error"}]
        buffer.add(
            np.full((1, 3), index, np.float32),
            np.zeros((1, 1)),
            np.array([reward]),
            np.array([float(index in starts)]),
            torch.tensor([float(index)]),
            torch.tensor([0.0]),
        )
    for index in ends:
        buffer.ends[index] = True
    return buffer


def test_advantages_are_those_of_the_stock_buffer_where_nothing_is_missing() -> None:
    rewards = [1.0, -2.0, 0.5, 3.0, -1.0, 2.0]
    ours = rollout(rewards, starts=[0, 3], ends=[])
    stock = RolloutBuffer(6, STATE, MOVE, device="cpu", gamma=0.9, gae_lambda=0.8)
    for index, reward in enumerate(rewards):
        stock.add(
            np.full((1, 3), index, np.float32),
            np.zeros((1, 1)),
            np.array([reward]),
            np.array([float(index in (0, 3))]),
            torch.tensor([float(index)]),
            torch.tensor([0.0]),
        )
    for buffer in (ours, stock):
        buffer.compute_returns_and_advantage(torch.tensor([2.5]), np.array([False]))
    assert ours.advantages.flatten().tolist() == pytest.approx(stock.advantages.flatten().tolist())
    assert ours.returns.flatten().tolist() == pytest.approx(stock.returns.flatten().tolist())


def test_advantages_do_not_run_across_a_row_that_is_left_out() -> None:
    buffer = rollout([1.0, 2.0, math.nan, 4.0], starts=[0], ends=[])
    buffer.compute_returns_and_advantage(torch.tensor([9.0]), np.array([False]))
    got = buffer.advantages.flatten().tolist()
    # The row before the gap bootstraps from the value of its next state and stops there.
    second = 2.0 + 0.9 * 2.0 - 1.0
    assert got[1] == pytest.approx(second)
    assert got[0] == pytest.approx(1.0 + 0.9 * 1.0 - 0.0 + 0.9 * 0.8 * second)
    assert got[3] == pytest.approx(4.0 + 0.9 * 9.0 - 3.0)
    drawn = sorted(v for batch in buffer.get(2) for v in batch.old_values.tolist())
    assert drawn == [0.0, 1.0, 3.0]


def test_a_late_done_cuts_the_returns_at_its_own_row() -> None:
    buffer = rollout([1.0, 2.0, math.nan, 4.0], starts=[0, 3], ends=[1])
    buffer.compute_returns_and_advantage(torch.tensor([9.0]), np.array([False]))
    assert buffer.advantages[1, 0] == pytest.approx(2.0 - 1.0)


def test_time_outs_bootstrap_in_pipelined_mode_as_in_sync() -> None:
    def returns(mode: str) -> list[float]:
        env = wrap(PixelSource(looks=10**6), 2, horizon=5, mode=mode)
        model = ppo(env, learning_rate=0.0)
        attach(model)
        model.learn(64)
        result: list[float] = model.rollout_buffer.returns.flatten().tolist()
        return result

    assert returns("pipelined") == pytest.approx(returns("sync"), abs=1e-5)


def test_stock_buffers_are_refused_where_rewards_may_be_nan() -> None:
    for options in ({"mode": "pipelined"}, {"on_missing": "nan"}, {"camera_stream": ("front",)}):
        env = wrap(PixelSource(), 1, **options)
        with pytest.raises(ConfigError, match="replay_buffer_class"):
            attach(sac(env, replay_buffer_class=ReplayBuffer))
        with pytest.raises(ConfigError, match="rollout_buffer_class"):
            attach(ppo(env, rollout_buffer_class=RolloutBuffer))
    attach(sac(wrap(PixelSource(), 1), replay_buffer_class=ReplayBuffer))
    abstaining = PixelSource()
    abstaining.model.limit(0.5)
    with pytest.raises(ConfigError, match="replay_buffer_class"):
        attach(sac(wrap(abstaining, 1), replay_buffer_class=ReplayBuffer))
    attach(sac(wrap(abstaining, 1, on_missing="raise"), replay_buffer_class=ReplayBuffer))


def test_attach_refuses_what_would_go_wrong_silently() -> None:
    env = wrap(PixelSource(), 1, shaping="potential")
    with pytest.raises(ConfigError, match="same gamma"):
        attach(sac(env, gamma=0.9))
    late = wrap(PixelSource(), 1, mode="pipelined")
    with pytest.raises(ConfigError, match="norm_reward"):
        attach(sac(VecNormalize(late)))
    assert attach(sac(VecNormalize(late, norm_reward=False))) is late
    with pytest.raises(ConfigError, match="no VecVisualReward"):
        attach(sac(DummyVecEnv([PixelEnv])))
    with pytest.raises(ConfigError, match="attach"):
        ppo(late).learn(32)


def test_a_saved_buffer_goes_on_without_its_sockets(tmp_path: Any) -> None:
    env = wrap(PixelSource(), 2, horizon=9, mode="deferred")
    model = sac(env)
    attach(model)
    model.learn(60)
    model.save_replay_buffer(tmp_path / "buffer")
    before = model.replay_buffer.usable  # type: ignore[union-attr]
    model.load_replay_buffer(tmp_path / "buffer")
    buffer = model.replay_buffer
    assert isinstance(buffer, LateReplayBuffer)
    assert buffer.source is None
    assert buffer.usable == before
    attach(model)
    model.learn(30, reset_num_timesteps=False)


def test_logs_show_the_return_that_the_model_gave() -> None:
    env = wrap(PixelSource(), 2, horizon=5)
    model = sac(env)
    attach(model)
    model.learn(40)
    assert model.ep_info_buffer
    expected = {
        round(sum(delta(n, e, s) for s in range(1, 6)), 3) for n in range(2) for e in range(10)
    }
    assert {round(episode["r"], 3) for episode in model.ep_info_buffer} <= expected
