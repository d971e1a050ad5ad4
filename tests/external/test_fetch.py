"""``VisualReward`` on an environment that nobody here wrote: Gymnasium-Robotics Fetch."""

from __future__ import annotations

import math
from typing import Any

import pytest

from robo_reward.client.local import LocalSource
from robo_reward.envs.reward_wrapper import VisualReward
from robo_reward.models.oracle_pixels import OraclePixels

pytestmark = [
    pytest.mark.external,
    pytest.mark.filterwarnings("ignore"),  # theirs, of every kind
]

gymnasium = pytest.importorskip("gymnasium")
robotics = pytest.importorskip("gymnasium_robotics")
INSTRUCTION = "pick up the cube and hold it at the red ball"


@pytest.fixture
def fetch() -> Any:
    gymnasium.register_envs(robotics)
    return gymnasium.make(
        "FetchPickAndPlace-v4", render_mode="rgb_array", width=96, height=96, max_episode_steps=6
    )


@pytest.mark.parametrize("mode", ["sync", "pipelined"])
def test_an_episode_is_rewarded_from_its_frames(fetch: Any, mode: str) -> None:
    heard: list[tuple[int, ...]] = []

    def listener(question: Any, score: Any, action: Any) -> None:
        heard.append((question.episode, question.step, *question.newest[0].image.shape))

    with LocalSource(OraclePixels()) as source:
        env = VisualReward(fetch, source, instruction=INSTRUCTION, mode=mode, listeners=[listener])
        observation, info = env.reset(seed=1)
        assert set(observation) == {"observation", "achieved_goal", "desired_goal"}
        late, at_once = [], 0
        for step in range(1, 7):
            _, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert "is_success" not in info
            assert not terminated
            assert truncated == (step == 6)
            assert math.isfinite(reward) == (info["reward_status"] == "ok")
            at_once += math.isfinite(reward)
            late += info.get("late_rewards", ())
        late += env.settle()
        assert at_once + sum(record.known for record in late) == 6
        assert at_once == 6 or mode == "pipelined"
        assert heard == [(0, step, 96, 96, 3) for step in range(7)]
        assert env.stats()["ok"] == 7
        env.close()


def test_two_cameras_and_a_veto_from_proprioception(fetch: Any) -> None:
    def side(env: Any) -> Any:
        return env.unwrapped.render()[:, ::-1]

    def gripper_closed(observation: Any, info: Any) -> bool:
        return bool(observation["observation"][9] < 0.02)

    with LocalSource(OraclePixels()) as source:
        env = VisualReward(
            fetch,
            source,
            instruction=INSTRUCTION,
            cameras={"front": lambda env: env.render(), "mirror": side},
            veto=gripper_closed,
            shaping="delta",
        )
        env.reset(seed=1)
        _, reward, _, _, info = env.step(env.action_space.sample())
        assert math.isfinite(reward)
        assert len(set(info["score"]["identity"]["frames"])) == 2
        env.close()
