"""Signals to scalar reward: the shaper, the done gate and the per-task scale."""

from .gate import DoneGate, GateConfig
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
