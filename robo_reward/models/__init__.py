"""Reward models: one file each, found by name through ``load_model``."""

from robo_reward.models.base import (
    Capabilities,
    FeatureCache,
    ModelCard,
    RewardModel,
    ScoreArrays,
)
from robo_reward.models.registry import known_models, load_model

__all__ = [
    "Capabilities",
    "FeatureCache",
    "ModelCard",
    "RewardModel",
    "ScoreArrays",
    "known_models",
    "load_model",
]
