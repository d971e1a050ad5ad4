"""``VisualReward`` on an environment that nobody here wrote: Meta-World."""

from __future__ import annotations

import math
from typing import Any

import pytest

from robo_reward.client.local import LocalSource
from robo_reward.envs.reward_wrapper import VisualReward
from robo_reward.errors import ConfigError
from robo_reward.models.oracle_pixels import OraclePixels

pytestmark = [
    pytest.mark.external,
    pytest.mark.filterwarnings("ignore"),  # theirs, of every kind
]

gymnasium = pytest.importorskip("gymnasium")
metaworld = pytest.importorskip("metaworld")
INSTRUCTION = "pick up the puck and hold it at the goal"
PRIVATE = ("success", "near_object", "grasp_success", "grasp_reward", "in_place_reward")


def make(**settings: Any) -> Any:
    return gymnasium.make("Meta-World/MT1", env_name="pick-place-v3", seed=0, **settings)


def upright(env: Any) -> Any:
    """Meta-World's corner cameras render upside down."""
    return env.render()[::-1]


def test_the_expert_is_rewarded_from_frames_and_its_success_is_not_told() -> None:
    from metaworld.policies import ENV_POLICY_MAP

    expert = ENV_POLICY_MAP["pick-place-v3"]()
    base = make(render_mode="rgb_array", camera_name="corner2", width=96, height=96)
    with LocalSource(OraclePixels()) as source:
        env = VisualReward(
            base,
            source,
            instruction=INSTRUCTION,
            cameras={"corner": upright},
            stride=5,
            truth_keys=PRIVATE,
        )
        observation, _ = env.reset(seed=0)
        asked = 0
        for step in range(1, 23):
            observation, reward, _, _, info = env.step(expert.get_action(observation))
            assert math.isfinite(reward)
            assert not set(PRIVATE) & set(info)
            asked += "score" in info
            assert ("score" in info) == (step % 5 == 0)
        assert asked == 4
        env.close()


def test_without_a_camera_it_says_what_to_do() -> None:
    with LocalSource(OraclePixels()) as source:
        base = make()
        with pytest.raises(ConfigError, match=r"render_mode=\"rgb_array\""):
            VisualReward(base, source, instruction=INSTRUCTION)
        base.close()
