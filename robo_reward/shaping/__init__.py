"""Signals to scalar reward: the shaper, the done gate and the per-task scale."""

from robo_reward.gate_config import GateConfig

from .gate import DoneGate
from .normalise import TaskScale
from .shaper import PRESETS, EpisodeShaping, RewardTerms, Shaper, ShapingConfig, preset

__all__ = [
    "PRESETS",
    "DoneGate",
    "EpisodeShaping",
    "GateConfig",
    "RewardTerms",
    "Shaper",
    "ShapingConfig",
    "TaskScale",
    "preset",
]
