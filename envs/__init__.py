"""Environments: the table-top suite, its experts, and wrappers that put a learned reward on any.

Importing this module registers the suite with Gymnasium: ``robo_reward/PickPlace-v0`` and the rest
of ``ENV_IDS``.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ == "envs":
    raise ImportError("these are the sources of robo_reward.envs: write `import robo_reward.envs`")

# Without a screen MuJoCo needs EGL, and llvmpipe is fastest in the calling thread.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")

import gymnasium as gym

if TYPE_CHECKING:
    from .reward_wrapper import VisualReward
    from .tabletop.env import TabletopEnv
    from .vector_reward_wrapper import VisualRewardVector

ENV_IDS: dict[str, tuple[str, int]] = {
    "robo_reward/Reach-v0": ("reach", 30),
    "robo_reward/Push-v0": ("push", 60),
    "robo_reward/PickPlace-v0": ("pick_place", 60),
    "robo_reward/Lift-v0": ("lift", 40),
    "robo_reward/Stack-v0": ("stack", 60),
    "robo_reward/OpenDrawer-v0": ("open_drawer", 50),
    "robo_reward/CloseDrawer-v0": ("close_drawer", 40),
    "robo_reward/PressButton-v0": ("press_button", 35),
    "robo_reward/TurnLever-v0": ("turn_lever", 40),
    "robo_reward/Tabletop-v0": ("all", 60),
}
"""Gymnasium id → (task family, steps at which an episode is cut off)."""

for _id, (_family, _steps) in ENV_IDS.items():
    if _id not in gym.registry:
        gym.register(
            _id,
            entry_point="robo_reward.envs.tabletop.env:TabletopEnv",
            kwargs={"family": _family},
            max_episode_steps=_steps,
        )

_LAZY = {
    "TabletopEnv": "tabletop.env",
    "VisualReward": "reward_wrapper",
    "VisualRewardVector": "vector_reward_wrapper",
}

__all__ = ["ENV_IDS", "TabletopEnv", "VisualReward", "VisualRewardVector"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
