"""Distance to a goal image: what rewards were before models read instructions.

Two baselines: distance of pixels, and distance of features of a random convolution (frozen, never
trained), as a reward study has them beside its own model. Progress is 1 at the goal image and falls
linearly with the distance, to 0 at ``scale``. They read ``Task.goal`` and no language. Licence:
Apache-2.0.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError
from robo_reward.frames import Frame, Image
from robo_reward.models.base import Capabilities, Feature, RewardModel, ScoreArrays
from robo_reward.query import Query
from robo_reward.task import Task

SIDE = 24
"""Pictures are averaged down to this many cells a side."""
KERNEL = 5
STRIDE = 2
FILTERS = 32
SEED = 0
SCALES = {"pixels": 0.5, "random": 0.3}

Vector = NDArray[np.float32]


class GoalReward(RewardModel):
    """Progress by distance to the goal image: 1 there, 0 at a scale, linear between.

    A subclass gives ``_encode`` and ``_distances``; it may take the scale from the task. The goal
    is ``Task.goal``, or, for a model that reads one, the last frame of the demonstration.
    """

    scale: float

    @abstractmethod
    def _distances(self, views: Sequence[Feature], goals: Sequence[Feature]) -> Vector:
        """Return how far n frames are from their goals, ``(n,)``, 0 at the goal."""

    def _curve(
        self,
        queries: Sequence[Query],
        views: Sequence[tuple[Feature, ...]],
        starts: Sequence[Feature | None],
    ) -> Vector:
        """Return the progress of n frames, one per query, ``(n,)``."""
        goals = self.encode([self._goal(query.task) for query in queries])
        far = self._distances([view[0] for view in views], goals)
        scales = self._scales(queries, goals, starts)
        # Who begins at the goal is there as long as nothing moves.
        share = np.where(far == 0.0, 0.0, far / np.maximum(scales, 1e-12))
        progress: Vector = np.clip(1.0 - share, 0.0, 1.0).astype(np.float32)
        return progress

    def _scales(
        self,
        queries: Sequence[Query],
        goals: Sequence[Feature],
        starts: Sequence[Feature | None],
    ) -> Vector:
        """Return the distance at which progress is 0 for each query, ``(n,)``."""
        return np.full(len(queries), self.scale, np.float32)

    def _goal(self, task: Task) -> Frame:
        if task.goal is not None:
            return task.goal
        if not (task.demo and self.capabilities.demo):
            raise ConfigError(f"{self.name} needs a goal image with the task")
        return task.demo[-1]


class GoalDistance(GoalReward):
    """Progress by distance to the goal image in some feature space.

    Args:
        device: Ignored; numpy needs none.
        features: ``"pixels"``, or ``"random"`` for one random convolution, rectified and pooled.
        scale: Distance at which progress is 0: root mean square over features whose unit is that
            of pixels in [0, 1]. The default is one that nineteen of twenty pairs of scenes of the
            table-top suite's train split stay below.

    Raises:
        ConfigError: No such features, or a scale that is not positive.
    """

    def __init__(
        self, *, device: str = "cpu", features: str = "pixels", scale: float | None = None
    ) -> None:
        if features not in SCALES:
            raise ConfigError(f"features must be pixels or random, got {features!r}")
        scale = SCALES[features] if scale is None else scale
        if scale <= 0:
            raise ConfigError(f"scale must be > 0, got {scale:g}")
        super().__init__(
            name="goal-distance" if features == "pixels" else "random-features",
            version=f"{scale:g}",
            capabilities=Capabilities(max_views=1, goal_image=True, licence="Apache-2.0"),
        )
        self.features = features
        self.scale = scale
        self._filters = _random_filters()

    @classmethod
    def random(cls, *, device: str = "cpu", scale: float | None = None) -> GoalDistance:
        """Make the one with random features."""
        return cls(device=device, features="random", scale=scale)

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        cells = [_cells(image) for image in images]
        if self.features == "pixels":
            return [cell.ravel() for cell in cells]
        return [_convolved(cell, self._filters) for cell in cells]

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        starts = [None] * len(queries)
        progress = self._curve(queries, newest, starts)
        before = [old or new for old, new in zip(reference, newest, strict=True)]
        delta = progress - self._curve(queries, before, starts)
        return ScoreArrays(
            progress=progress,
            progress_delta=delta,
            done=progress,
            contrastive=np.sign(delta),
            uncertainty=np.zeros(len(queries), np.float32),
        )

    def _distances(self, views: Sequence[Feature], goals: Sequence[Feature]) -> Vector:
        far = [
            np.sqrt(np.mean((view - goal) ** 2)) for view, goal in zip(views, goals, strict=True)
        ]
        return np.array(far, np.float32)


def _cells(image: Image) -> Vector:
    """Average the picture over ``SIDE`` × ``SIDE`` cells, ``(SIDE, SIDE, 3)`` in [0, 1]."""
    rows = np.linspace(0, image.shape[0], SIDE + 1).astype(int)
    columns = np.linspace(0, image.shape[1], SIDE + 1).astype(int)
    # A picture smaller than the grid repeats its pixels.
    tall = np.add.reduceat(image.astype(np.float32), np.minimum(rows[:-1], rows[-1] - 1), axis=0)
    both = np.add.reduceat(tall, np.minimum(columns[:-1], columns[-1] - 1), axis=1)
    area = np.maximum(np.diff(rows), 1)[:, None] * np.maximum(np.diff(columns), 1)
    cells: Vector = both / (255.0 * area[:, :, None].astype(np.float32))
    return cells


def _random_filters() -> Vector:
    filters = np.random.default_rng(SEED).normal(size=(KERNEL * KERNEL * 3, FILTERS))
    # Unit length, so that features keep the unit of the pixels.
    filters /= np.linalg.norm(filters, axis=0)
    return filters.astype(np.float32)


def _convolved(cells: Vector, filters: Vector) -> Vector:
    windows = np.lib.stride_tricks.sliding_window_view(cells, (KERNEL, KERNEL), axis=(0, 1))
    patches = windows[::STRIDE, ::STRIDE].reshape(-1, 3 * KERNEL * KERNEL)
    features: Vector = np.maximum(patches @ filters, 0.0).ravel()
    return features
