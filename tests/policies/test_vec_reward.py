from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from robo_reward.envs.frame_tap import FrameTap
from robo_reward.errors import ConfigError
from robo_reward.policies.vec_reward import VecVisualReward, make_vec_reward
from robo_reward.query import Mark
from robo_reward.shaping import GateConfig, ShapingConfig
from tests.envs.pixel_world import INSTRUCTION, ChaoticSource, PixelEnv, PixelSource, delta

RAW = ShapingConfig(form="delta", kappa=1.0, sparse=False)
QUICK_GATE = GateConfig(votes=1, window=1, dwell=1)
Row = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[dict[str, Any]]]


def makers(number: int, **settings: Any) -> list[Callable[[], PixelEnv]]:
    return [lambda index=index: PixelEnv(index, **settings) for index in range(number)]  # type: ignore[misc]


def wrap(source: PixelSource, number: int = 3, **options: Any) -> VecVisualReward:
    env = {
        key: options.pop(key)
        for key in ("horizon", "done_at", "terminate_at", "jitter", "dict_obs")
        if key in options
    }
    options = {"instruction": INSTRUCTION, "shaping": RAW, **options}
    return make_vec_reward(makers(number, **env), source, **options)


def act(env: VecVisualReward) -> Any:
    return env.step(np.zeros((env.num_envs, 1), np.float32))


def play(env: VecVisualReward, steps: int) -> list[Row]:
    env.reset()
    rows = []
    for _ in range(steps):
        _, rewards, dones, infos = act(env)
        rows.append((rewards, dones, infos))
    return rows


def known(rows: list[Row], env: VecVisualReward) -> dict[tuple[int, int, int], float]:
    """Every reward by the name of its transition; none may be named twice."""
    found: dict[tuple[int, int, int], float] = {}

    def add(key: tuple[int, int, int], reward: float) -> None:
        assert key not in found
        found[key] = reward

    for rewards, _, infos in rows:
        for index, info in enumerate(infos):
            for record in info.get("late_rewards", ()):
                add(record.key, record.reward)
            if info["reward_status"] != "pending":
                add(info["reward_for"], float(rewards[index]))
    for record in env.settle():
        add(record.key, record.reward)
    return found


def test_rewards_of_all_environments_come_from_one_batch_per_step() -> None:
    source = PixelSource()
    env = wrap(source, horizon=7, jitter=True)
    rows = play(env, 40)
    for rewards, _, infos in rows:
        for index, info in enumerate(infos):
            number, episode, step = info["reward_for"]
            assert number == index
            assert rewards[index] == pytest.approx(delta(index, episode, step), abs=1e-6)
    assert len(source.batches) == 1 + 40


def test_the_last_step_of_an_episode_is_scored_on_its_own_last_frame() -> None:
    rows = play(wrap(PixelSource(), horizon=5), 12)
    ends = [row for row in rows if row[1].all()]
    assert len(ends) == 2
    rewards, _, infos = ends[0]
    for index, info in enumerate(infos):
        assert info["reward_for"] == (index, 0, 5)
        assert rewards[index] == pytest.approx(delta(index, 0, 5), abs=1e-6)
        assert info["terminal_observation"].tolist() == [index, 0, 5]
        assert info["TimeLimit.truncated"]
        assert info["episode_end"] == "truncated"


def test_model_s_done_resets_one_environment_as_a_vec_env_would() -> None:
    source = PixelSource()
    env = wrap(source, done_at=4, horizon=50, gate=QUICK_GATE, shaping="sparse")
    env.reset()
    for step in range(1, 9):
        observations, rewards, dones, infos = act(env)
        assert dones.tolist() == [step % 4 == 0] * 3
        assert rewards.tolist() == [0.0 if step % 4 == 0 else -1.0] * 3
        if step == 4:
            assert observations[1].tolist() == [1, 1, 0]
            assert infos[1]["terminal_observation"].tolist() == [1, 0, 4]
            assert not infos[1]["TimeLimit.truncated"]
            assert infos[1]["episode_end"] == "done:model"
            assert infos[1]["episode"]["r"] == -3.0
    # The questions after a reset ride with the next step's: still one batch per step.
    assert len(source.batches) == 1 + 8


def test_truth_and_the_environment_s_own_return_stay_out() -> None:
    source = PixelSource()
    venv = make_vec_env(
        lambda: FrameTap(PixelEnv(horizon=4, terminate_at=3)), n_envs=2, monitor_dir=None
    )
    env = VecVisualReward(venv, source, instruction=INSTRUCTION, shaping=RAW)
    rows = play(env, 3)
    for _, _, infos in rows:
        for info in infos:
            assert not {"success", "is_success", "visual_reward"} & set(info)
    _, dones, infos = rows[-1]
    assert dones.all()
    assert infos[0]["TimeLimit.truncated"]
    assert infos[0]["episode_end"] == "env_terminated"
    assert abs(infos[0]["episode"]["r"]) < 3
    assert env.reset_infos[0]["done_owner"] == "model"


def test_environment_may_own_done() -> None:
    env = wrap(PixelSource(), terminate_at=3, done_owner="env", shaping="sparse")
    rewards, dones, infos = play(env, 3)[-1]
    assert rewards.tolist() == [0.0] * 3
    assert dones.all()
    assert not infos[0]["TimeLimit.truncated"]


def test_a_person_may_own_done_of_one_environment() -> None:
    env = wrap(PixelSource(), done_owner="human", shaping="sparse", horizon=50)
    play(env, 2)
    env.declare_done(1)
    observations, rewards, dones, infos = act(env)
    assert dones.tolist() == [False, True, False]
    assert rewards.tolist() == [-1.0, 0.0, -1.0]
    assert observations[1].tolist() == [1, 1, 0]
    assert infos[1]["episode_end"] == "done:human"


@pytest.mark.parametrize("mode", ["pipelined", "deferred"])
@pytest.mark.parametrize("stride", [1, 3])
def test_late_rewards_name_their_transition_under_chaos(mode: str, stride: int) -> None:
    for seed in range(2):
        source = ChaoticSource(seed=seed, error=0.1)
        env = wrap(source, 4, horizon=9, jitter=True, mode=mode, stride=stride, max_missing=1.0)
        rows = play(env, 120)
        rewards = known(rows, env)
        assert len(rewards) == 4 * 120 - env.session.waiting
        ends: dict[tuple[int, int], int] = {}
        for number, episode, step in rewards:
            ends[number, episode] = max(step, ends.get((number, episode), 0))
        seen = 0
        for (number, episode, step), reward in rewards.items():
            last = ends[number, episode] == step
            if math.isnan(reward):
                continue
            seen += 1
            asked = step % stride == 0 or last
            span = (step - 1) % stride + 1
            expected = delta(number, episode, step, span=span) if asked else 0.0
            assert reward == pytest.approx(expected, abs=1e-6), (number, episode, step)
        assert seen > 0.7 * len(rewards)


def test_pipelined_returns_nan_and_the_reward_with_the_next_step() -> None:
    source = PixelSource(looks=1000)
    rows = play(wrap(source, 2, horizon=5, mode="pipelined"), 11)
    assert all(np.isnan(rewards).all() for rewards, _, _ in rows)
    for before, after in itertools.pairwise(rows):
        for index in range(2):
            (record,) = after[2][index]["late_rewards"]
            assert record.key == before[2][index]["reward_for"]
            assert record.reward == pytest.approx(delta(*record.key), abs=1e-6)


def test_deferred_waits_for_nothing_below_its_limit() -> None:
    rows = play(
        wrap(PixelSource(looks=10**9), 2, mode="deferred", max_in_flight=8, horizon=100), 20
    )
    late = [len(row[2][0]["late_rewards"]) for row in rows]
    assert late[:7] == [0] * 7
    assert sum(late) == 20 - 8


def test_a_late_done_ends_the_episode_at_the_transition_it_names() -> None:
    env = wrap(
        PixelSource(looks=1000),
        2,
        done_at=4,
        horizon=50,
        gate=QUICK_GATE,
        shaping="sparse",
        mode="pipelined",
    )
    rows = play(env, 12)
    rewards, dones, infos = rows[4]
    assert dones.all()
    assert infos[0]["TimeLimit.truncated"]
    assert infos[0]["reward_for"] == (0, 0, 5)
    assert infos[0]["reward_status"] == "cancelled"
    assert np.isnan(rewards).all()
    (record,) = infos[0]["late_rewards"]
    assert (record.key, record.reward, record.terminated) == ((0, 0, 4), 0.0, True)
    assert infos[0]["episode"] == {"r": -3.0, "l": 4, "t": infos[0]["episode"]["t"]}
    assert rows[5][2][0]["reward_for"] == (0, 1, 1)


def test_a_late_done_of_an_episode_that_timed_out_is_still_a_terminal() -> None:
    env = wrap(PixelSource(looks=1000), 1, done_at=4, horizon=4, gate=QUICK_GATE, mode="pipelined")
    rows = play(env, 6)
    assert rows[3][1].all()
    (record,) = rows[4][2][0]["late_rewards"]
    assert (record.key, record.terminated) == ((0, 0, 4), True)
    assert not rows[4][1].any()


def test_waiting_at_the_end_gives_the_last_reward_at_once() -> None:
    env = wrap(PixelSource(looks=1000), 2, horizon=5, mode="pipelined")
    env.wait_at_end = True
    rows = play(env, 10)
    for index in (4, 9):
        assert np.isfinite(rows[index][0]).all()
    assert np.isnan(rows[3][0]).all()


def test_dict_observations_are_reset_key_by_key() -> None:
    env = wrap(
        PixelSource(), 2, done_at=3, dict_obs=True, gate=QUICK_GATE, cameras={"front": "front"}
    )
    env.reset()
    for _ in range(3):
        observations, _, dones, infos = act(env)
    assert dones.all()
    assert observations["state"].tolist() == [[0, 1, 0], [1, 1, 0]]
    assert infos[1]["terminal_observation"]["state"].tolist() == [1, 0, 3]


def test_a_task_that_changes_starts_its_own_differences() -> None:
    source = PixelSource()
    env = wrap(source, 2, shaping=ShapingConfig(gamma=1.0, kappa=1.0, sparse=False))
    play(env, 2)
    env.set_task("pull the drawer", indices=[1])
    _, rewards, _, _ = act(env)
    assert rewards[1] == pytest.approx(delta(1, 0, 3), abs=1e-6)
    last = [(query.env, query.step, query.task.instruction) for query in source.batches[-1]]
    assert sorted(last) == [
        (0, 3, INSTRUCTION),
        (1, 2, "pull the drawer"),
        (1, 3, "pull the drawer"),
    ]


def test_stream_mode_sends_marks() -> None:
    source = PixelSource()
    env = wrap(source, 2, camera_stream=("front",))
    play(env, 3)
    assert all(isinstance(query, Mark) for query in source.asked)
    assert len(source.batches) == 4


def test_followed_scenes_carry_the_names_of_their_marks() -> None:
    heard: list[tuple[int, int, int]] = []

    class Sink:
        def publish(self, source: Any, *, env: int = 0, episode: int = 0, step: int) -> int:
            heard.append((env, episode, step))
            return len(heard)

    class Followed(PixelEnv):
        def scene_config(self) -> bytes:
            return b""

        def scene_state(self) -> Any:
            return np.zeros(1)

    source = PixelSource()
    play(wrap(source, 1), 1)  # takes index 0 of this source
    source.batches.clear()
    env = make_vec_reward(
        [lambda: Followed(horizon=3), lambda: Followed(1, horizon=3)],
        source,
        camera_stream=("front",),
        scene=Sink(),
        instruction=INSTRUCTION,
        shaping=RAW,
    )
    play(env, 7)
    asked = [(query.env, query.episode, query.step) for query in source.asked]
    assert sorted(asked) == sorted(heard)
    assert {name[0] for name in heard} == {1, 2}
    with pytest.raises(ConfigError, match="this process"):
        make_vec_reward([PixelEnv], source, camera_stream=("a",), scene=Sink(), processes=True)


def test_processes_give_the_same_rewards() -> None:
    functions: Any = [
        lambda: FrameTap(PixelEnv(horizon=3)),
        lambda: FrameTap(PixelEnv(1, horizon=3)),
    ]
    env = VecVisualReward(
        SubprocVecEnv(functions, start_method="fork"),
        PixelSource(),
        instruction=INSTRUCTION,
        shaping=RAW,
    )
    try:
        for rewards, _, infos in play(env, 8):
            for index, info in enumerate(infos):
                assert rewards[index] == pytest.approx(delta(*info["reward_for"]), abs=1e-6)
    finally:
        env.close()


def test_what_cannot_be_right_is_refused() -> None:
    source = PixelSource()
    with pytest.raises(ConfigError, match="FrameTap"):
        VecVisualReward(DummyVecEnv([PixelEnv]), source, instruction=INSTRUCTION)
    tapped = DummyVecEnv([lambda: FrameTap(PixelEnv(), stride=2)])
    with pytest.raises(ConfigError, match="stride"):
        VecVisualReward(tapped, source, instruction=INSTRUCTION)
    with pytest.raises(ConfigError, match="directly around"):
        VecVisualReward(VecMonitor(tapped), source, instruction=INSTRUCTION, stride=2)
    with pytest.raises(ConfigError, match="stream=True"):
        VecVisualReward(tapped, source, stride=2, camera_stream=("front",))


def test_closing_gives_up_what_is_open() -> None:
    source = PixelSource(looks=10**9)
    env = wrap(source, 2, mode="deferred", horizon=100)
    play(env, 5)
    env.close()
    assert env.stats()["dropped"] == 10
    assert all(answer.cancelled for answer in source.answers)
