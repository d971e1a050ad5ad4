"""Rewards from camera frames, for reinforcement learning on robots.

The names below are imported when first used, so that ``import robo_reward`` stays light: no torch,
no mujoco, no OpenCV.
"""

from __future__ import annotations

import importlib
from pathlib import Path as _Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# A checkout without symlink support (Windows) has a text file where robo_reward/envs should be.
_here = _Path(__file__).resolve().parent
if not (_here / "envs").is_dir() and (_here.parent / "envs" / "__init__.py").is_file():
    __path__.append(str(_here.parent))

if TYPE_CHECKING:
    from robo_reward.frames import Frame as Frame
    from robo_reward.models import RewardModel as RewardModel
    from robo_reward.models import load_model as load_model
    from robo_reward.query import Mark as Mark
    from robo_reward.query import Query as Query
    from robo_reward.signals import SIGNALS as SIGNALS
    from robo_reward.signals import Score as Score
    from robo_reward.signals import Signals as Signals
    from robo_reward.signals import Status as Status
    from robo_reward.task import Task as Task

_LAZY = {
    "Frame": "robo_reward.frames",
    "Mark": "robo_reward.query",
    "Query": "robo_reward.query",
    "RewardModel": "robo_reward.models",
    "SIGNALS": "robo_reward.signals",
    "Score": "robo_reward.signals",
    "Signals": "robo_reward.signals",
    "Status": "robo_reward.signals",
    "Task": "robo_reward.task",
    "load_model": "robo_reward.models",
}

__all__ = [
    "SIGNALS",
    "Frame",
    "Mark",
    "Query",
    "RewardModel",
    "Score",
    "Signals",
    "Status",
    "Task",
    "__version__",
    "load_model",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names too."""
    return sorted({*globals(), *__all__})
