from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from robo_reward.envs.frame_tap import FrameTap
from robo_reward.envs.vector_reward_wrapper import VisualRewardVector
from robo_reward.errors import ConfigError
from robo_reward.shaping import GateConfig, ShapingConfig
from tests.envs.pixel_world import INSTRUCTION, ChaoticSource, PixelEnv, PixelSource, delta

RAW = ShapingConfig(form="delta", kappa=1.0, sparse=False)
QUICK_GATE = GateConfig(votes=1, window=1, dwell=1)
AUTORESET = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def tapped(number: int, *, stride: int = 1, **settings: Any) -> list[Callable[[], FrameTap]]:
    return [
        lambda index=index: FrameTap(PixelEnv(index, **settings), stride=stride)  # type: ignore[misc]
        for index in range(number)
    ]


def wrap(
    source: PixelSource,
    number: int = 3,
    *,
    autoreset: AutoresetMode = AutoresetMode.NEXT_STEP,
    env: dict[str, Any] | None = None,
    **options: Any,
) -> VisualRewardVector:
    functions = tapped(number, stride=options.get("stride", 1), **(env or {}))
    venv: Any = SyncVectorEnv(functions, autoreset_mode=autoreset)
    options = {"instruction": INSTRUCTION, "shaping": RAW, **options}
    return VisualRewardVector(venv, source, **options)


def act(env: VisualRewardVector) -> Any:
    return np.zeros((env.num_envs, 1), np.float32)


@pytest.mark.parametrize("autoreset", AUTORESET)
def test_every_transition_is_scored_on_its_own_frame(autoreset: AutoresetMode) -> None:
    source = PixelSource()
    env = wrap(source, autoreset=autoreset, env={"horizon": 4, "jitter": True})
    env.reset(seed=1)
    seen = set()
    for _ in range(40):
        _, rewards, terminated, truncated, infos = env.step(act(env))
        assert not terminated.any()
        for index, key in enumerate(map(tuple, infos["reward_for"].tolist())):
            if infos["reward_status"][index] == "reset":
                assert math.isnan(rewards[index])
                assert not truncated[index]
                continue
            seen.add(key)
            assert rewards[index] == pytest.approx(delta(*key), abs=1e-6)
    ends = {key for key in seen if key[2] == 4 + key[1] % 3}
    assert len(ends) >= 18
    assert len(source.batches) == 1 + 40


def test_next_step_resets_are_no_transitions() -> None:
    env = wrap(PixelSource(), 2, env={"horizon": 3})
    env.reset()
    status = [env.step(act(env))[4]["reward_status"].tolist() for _ in range(5)]
    assert status == [["ok", "ok"]] * 3 + [["reset", "reset"]] + [["ok", "ok"]]


def test_same_step_keeps_the_final_observation() -> None:
    env = wrap(PixelSource(), 2, autoreset=AutoresetMode.SAME_STEP, env={"horizon": 3})
    env.reset()
    for _ in range(3):
        observations, rewards, _, truncated, infos = env.step(act(env))
    assert truncated.all()
    assert infos["final_obs"][1].tolist() == [1, 0, 3]
    assert observations[1].tolist() == [1, 1, 0]
    assert rewards[1] == pytest.approx(delta(1, 0, 3), abs=1e-6)


@pytest.mark.parametrize("autoreset", AUTORESET)
def test_model_s_done_ends_an_episode_in_the_mode_of_the_environment(
    autoreset: AutoresetMode,
) -> None:
    env = wrap(
        PixelSource(),
        2,
        autoreset=autoreset,
        env={"done_at": 3, "horizon": 50},
        gate=QUICK_GATE,
        shaping="sparse",
    )
    env.reset()
    for _ in range(3):
        observations, rewards, terminated, truncated, infos = env.step(act(env))
    assert terminated.all()
    assert not truncated.any()
    assert rewards.tolist() == [0.0, 0.0]
    if autoreset is AutoresetMode.SAME_STEP:
        assert infos["final_obs"][0].tolist() == [0, 0, 3]
        assert observations.tolist() == [[0, 1, 0], [1, 1, 0]]
    else:
        assert observations.tolist() == [[0, 0, 3], [1, 0, 3]]
        observations, _, terminated, _, infos = env.step(act(env))
        assert observations.tolist() == [[0, 1, 0], [1, 1, 0]]
        assert infos["reward_status"].tolist() == ["reset", "reset"]
        assert not terminated.any()
    assert env.step(act(env))[4]["reward_for"].tolist() == [[0, 1, 1], [1, 1, 1]]


def test_disabled_resets_by_mask() -> None:
    env = wrap(
        PixelSource(), 2, autoreset=AutoresetMode.DISABLED, env={"horizon": 3, "jitter": True}
    )
    env.reset()
    for _ in range(3):
        _, _, _, truncated, _ = env.step(act(env))
    assert truncated.all()
    env.reset(options={"reset_mask": np.array([True, True])})
    for _ in range(2):
        _, rewards, _, _, infos = env.step(act(env))
    assert infos["reward_for"].tolist() == [[0, 1, 2], [1, 1, 2]]
    env.reset(options={"reset_mask": np.array([True, False])})
    _, rewards, _, _, infos = env.step(act(env))
    assert infos["reward_for"].tolist() == [[0, 2, 1], [1, 1, 3]]
    assert rewards.tolist() == pytest.approx([delta(0, 2, 1), delta(1, 1, 3)], abs=1e-6)


@pytest.mark.parametrize("autoreset", AUTORESET)
@pytest.mark.parametrize(("mode", "stride"), [("pipelined", 1), ("deferred", 1), ("deferred", 3)])
def test_late_rewards_name_their_transition_under_chaos(
    autoreset: AutoresetMode, mode: str, stride: int
) -> None:
    source = ChaoticSource(seed=3, error=0.05)
    env = wrap(
        source,
        autoreset=autoreset,
        env={"horizon": 7, "jitter": True, "done_at": 8},
        gate=QUICK_GATE,
        mode=mode,
        stride=stride,
        max_missing=1.0,
    )
    env.reset()
    found: dict[tuple[int, ...], tuple[float, bool]] = {}
    for _ in range(120):
        _, rewards, _, _, infos = env.step(act(env))
        late = list(itertools.chain.from_iterable(infos["late_rewards"]))
        for record in late:
            assert record.key not in found
            found[record.key] = (record.reward, record.terminated)
        for index, key in enumerate(map(tuple, infos["reward_for"].tolist())):
            if infos["reward_status"][index] not in ("pending", "reset"):
                assert key not in found
                found[key] = (float(rewards[index]), False)
    for record in env.settle():
        found[record.key] = (record.reward, record.terminated)
    right = 0
    for (number, episode, step), (reward, terminated) in found.items():
        if math.isnan(reward):
            continue
        if terminated:
            assert step >= 8
        if stride == 1:
            assert reward == pytest.approx(delta(number, episode, step), abs=1e-6)
        right += 1
    assert right > 200


def test_environment_s_own_termination_comes_out_as_truncation() -> None:
    env = wrap(PixelSource(), 2, env={"terminate_at": 2})
    env.reset()
    env.step(act(env))
    _, _, terminated, truncated, _ = env.step(act(env))
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [True, True])
    assert env.stats()["env_terminated"] == 2


@pytest.mark.parametrize("autoreset", AUTORESET)
def test_truth_stays_out_also_of_what_is_nested(autoreset: AutoresetMode) -> None:
    env = wrap(PixelSource(), 2, autoreset=autoreset, env={"horizon": 2})
    _, infos = env.reset()
    hidden = {"success", "_success", "is_success", "_is_success", "visual_reward"}
    assert not hidden & set(infos)
    assert infos["done_owner"] == "model"
    for _ in range(3):
        infos = env.step(act(env))[4]
        assert not hidden & set(infos)
        assert not hidden & set(infos.get("final_info", {}))


def test_a_person_may_own_done_of_one_environment() -> None:
    env = wrap(PixelSource(), 2, done_owner="human", shaping="sparse")
    env.reset()
    env.declare_done(1)
    _, rewards, terminated, _, _ = env.step(act(env))
    assert terminated.tolist() == [False, True]
    assert rewards.tolist() == [-1.0, 0.0]
    assert env.step(act(env))[4]["reward_status"].tolist() == ["ok", "reset"]


def test_statistics_wrapper_counts_the_model_s_return() -> None:
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(
        wrap(PixelSource(), 2, env={"horizon": 5})
    )
    env.reset()
    returns = []
    for _ in range(12):
        _, _, _, _, infos = env.step(act(env.env))  # type: ignore[arg-type]
        if "episode" in infos:
            returns.append(infos["episode"]["r"].tolist())
    expected = [sum(delta(n, 0, step) for step in range(1, 6)) for n in range(2)]
    assert returns[0] == pytest.approx(expected, abs=1e-5)


def test_processes_give_the_same_rewards() -> None:
    venv: Any = AsyncVectorEnv(tapped(2, horizon=3, done_at=2), context="fork")
    env = VisualRewardVector(
        venv, PixelSource(), instruction=INSTRUCTION, shaping=RAW, gate=QUICK_GATE
    )
    try:
        env.reset()
        seen = set()
        for _ in range(8):
            _, rewards, _, _, infos = env.step(act(env))
            for index, key in enumerate(map(tuple, infos["reward_for"].tolist())):
                if infos["reward_status"][index] == "ok":
                    seen.add(key)
                    assert rewards[index] == pytest.approx(delta(*key), abs=1e-6)
        assert {(0, 0, 2), (0, 1, 1), (1, 1, 2)} <= seen
    finally:
        env.close()


def test_what_cannot_be_right_is_refused() -> None:
    bare: Any = SyncVectorEnv([PixelEnv])
    with pytest.raises(ConfigError, match="FrameTap"):
        VisualRewardVector(bare, PixelSource(), instruction=INSTRUCTION)
    other: Any = SyncVectorEnv(tapped(1, stride=2))
    with pytest.raises(ConfigError, match="same stride"):
        VisualRewardVector(other, PixelSource(), instruction=INSTRUCTION)
    with pytest.raises(ConfigError, match="stream=True"):
        VisualRewardVector(other, PixelSource(), stride=2, camera_stream=("front",))
