"""Queries of noise: what a model is warmed up and timed with, whatever it needs to be asked."""

from __future__ import annotations

import numpy as np

from robo_reward.frames import Frame
from robo_reward.query import Query
from robo_reward.task import Task

from .base import RewardModel


def noise_queries(
    model: RewardModel,
    rows: int,
    *,
    chance: np.random.Generator,
    size: int,
    compared: bool = False,
) -> list[Query]:
    """Make queries that the model can answer, every frame of them a new one.

    Args:
        model: Decides whether the task brings a goal image.
        rows: How many.
        chance: Source of the pixels; no two frames have one content hash.
        size: Side of the frames, pixels.
        compared: Whether each has a reference frame.
    """

    def frame() -> Frame:
        return Frame.of(chance.integers(0, 256, (size, size, 3), dtype=np.uint8))

    goal = frame() if model.capabilities.goal_image else None
    task = Task(instruction="put the red cube on the blue pad", goal=goal)
    return [
        Query(task=task, newest=(frame(),), reference=(frame(),) if compared else ())
        for _ in range(rows)
    ]
