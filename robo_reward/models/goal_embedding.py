"""Distance to a goal image in the features of a vision backbone: VIP's and LIV's form of reward.

The picture and the goal image are embedded by a frozen backbone of transformers (Dinov2, SigLIP,
ViT, ResNet, …) or by the encoder of the compact model, and pooled. ``metric="cosine"`` is
1 - cos(φ(o), φ(g)), LIV's similarity turned round (arXiv 2306.00958); ``"l2"`` is ‖φ(o) - φ(g)‖ of
unit vectors, VIP's (arXiv 2210.00030).

A distance has no zero of progress, so one has to be chosen. With a demonstration in the task it is
the demonstration's first frame: progress is 1 - d(o, g) / d(o₀, g), the share of the way that is
behind, the same for every episode and every camera stream of the task. Otherwise it is, with
``since="start"``, the episode's own first frame, which comes as the query's history; a frame
without a past is taken for the first one. With ``since="scale"`` it is a fixed distance, by default
that of vectors at a right angle; with the cosine, progress then is the cosine, which backbones keep
in a band that is narrow and different for each.

``progress_delta`` is a difference of progress, VIP's potential. Nothing else is given. No language
is read. Licence: that of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from robo_reward.errors import ConfigError, require
from robo_reward.frames import Image
from robo_reward.models.base import Capabilities, Feature, Instants, ModelCard, ScoreArrays
from robo_reward.query import Query
from robo_reward.task import Task

from .goal_distance import GoalReward, Vector

CHECKPOINT = "facebook/dinov2-small"
SIGNALS = ("progress", "progress_delta")
RIGHT_ANGLE = {"cosine": 1.0, "l2": 2.0**0.5}
"""Metric → distance of two unit vectors at a right angle."""


class GoalEmbedding(GoalReward):
    """Progress by distance to the goal image in some backbone's features.

    Args:
        checkpoint: Folder or hub id of a vision backbone, or ``"compact"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        metric: ``"cosine"`` or ``"l2"``, both of unit vectors.
        pooled: Whether the patches of a picture are averaged, as a backbone for whole pictures is
            used; otherwise they are compared cell by cell, which keeps where things are.
        since: Where progress is 0: at the ``"start"`` of the episode, or at a ``"scale"``.
        scale: The distance of the latter; 0 takes that of a right angle.
        image_size: Side of the input, pixels; 0 takes the backbone's own.

    Raises:
        ConfigError: A setting makes no sense.
        ModelNotFound: There is no such backbone.
    """

    card = ModelCard(
        capabilities=Capabilities(
            signals=SIGNALS,
            history=1,
            goal_image=True,
            demo=True,
            licence="Apache-2.0",
            parameters=22_056_576,
        ),
        weights=CHECKPOINT,
    )

    def __init__(
        self,
        checkpoint: str = CHECKPOINT,
        *,
        device: str = "auto",
        metric: Literal["cosine", "l2"] = "cosine",
        pooled: bool = True,
        since: Literal["start", "scale"] = "start",
        scale: float = 0.0,
        image_size: int = 0,
    ) -> None:
        if metric not in RIGHT_ANGLE:
            raise ConfigError(f"metric must be cosine or l2, got {metric!r}")
        if since not in ("start", "scale"):
            raise ConfigError(f"since must be start or scale, got {since!r}")
        if scale < 0:
            raise ConfigError(f"scale must be >= 0, got {scale:g}")
        require("torch", extra="vlm")
        from robo_reward.models.backbones import digest
        from robo_reward.models.frame_encoder import FrameEncoder

        self.encoder = FrameEncoder(checkpoint, device=device, image_size=image_size)
        self.metric, self.pooled, self.since = metric, pooled, since
        self.scale = scale or RIGHT_ANGLE[metric]
        settings = f"{metric} {pooled} {since} {self.scale!r} {self.encoder.size}".encode()
        parameters = self.encoder.parameters
        super().__init__(
            name="goal-embedding",
            version=digest(self.encoder.module, settings),
            capabilities=Capabilities(
                signals=SIGNALS,
                history=int(since == "start"),
                goal_image=True,
                demo=True,
                memory_mb=parameters * 4 / 2**20,
                parameters=parameters,
            ),
        )

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        features: list[Feature] = []
        for found in self.encoder.maps(images):
            cells = found.float().flatten(1)
            vector = cells.mean(1) if self.pooled else cells.flatten()
            features.append((vector / vector.norm().clamp(min=1e-12)).cpu().numpy())
        return features

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        starts = self._starts(newest, reference, history)
        progress = self._curve(queries, newest, starts)
        before = [old or new for old, new in zip(reference, newest, strict=True)]
        none = np.full(len(queries), np.nan, np.float32)
        return ScoreArrays(
            progress=progress,
            progress_delta=progress - self._curve(queries, before, starts),
            done=none,
            contrastive=none,
            uncertainty=none,
        )

    def _distances(self, views: Sequence[Feature], goals: Sequence[Feature]) -> Vector:
        gaps = np.linalg.norm(np.stack(views) - np.stack(goals), axis=1)
        # Of unit vectors: 1 - cos is half the squared distance, and exactly 0 for equal ones.
        far: Vector = 0.5 * gaps**2 if self.metric == "cosine" else gaps
        return far

    def _starts(
        self,
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> Sequence[Feature | None]:
        """Return the frame of each query at which progress is 0, ``None`` for the scale."""
        if self.since == "scale":
            return [None] * len(newest)
        rows = zip(history, reference, newest, strict=True)
        return [(past[0] if past else before or now)[0] for past, before, now in rows]

    def _scales(
        self,
        queries: Sequence[Query],
        goals: Sequence[Feature],
        starts: Sequence[Feature | None],
    ) -> Vector:
        shown = [row for row, query in enumerate(queries) if query.task.demo]
        begun = list(starts)
        for row, feature in zip(
            shown, self.encode([queries[row].task.demo[0] for row in shown]), strict=True
        ):
            begun[row] = feature
        scales = super()._scales(queries, goals, starts)
        known = [row for row, feature in enumerate(begun) if feature is not None]
        if known:
            scales[known] = self._distances(
                [begun[row] for row in known], [goals[row] for row in known]
            )
        if not scales[shown].all():
            raise ConfigError("the demonstration begins with the goal image: it shows no way there")
        return scales
