"""Base of the models that are small heads on frozen features: classifier, preference reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from robo_reward.errors import MissingDependency, require
from robo_reward.frames import Image
from robo_reward.models.base import Capabilities, Feature, ModelCard, RewardModel
from robo_reward.query import Query
from robo_reward.task import Task

MAX_VIEWS = 4


class HeadedModel(RewardModel):
    """Loads a folder that ``train-reward --preset`` wrote, and asks its heads.

    A subclass gives ``named``, ``preset``, its card and ``_score``.

    Args:
        checkpoint: The folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Raises:
        MissingDependency: There is no such folder, or nothing in it.
        DatasetError: The folder is broken or of another model.
    """

    card: ClassVar[ModelCard]
    named: ClassVar[str]
    """Name in the registry, which the folder must be of."""
    preset: ClassVar[str]
    """What ``train-reward --preset`` calls it."""

    def __init__(self, checkpoint: str = "", *, device: str = "auto") -> None:
        how = f"train one with `robo-reward train-reward --preset {self.preset} --data RECORDINGS`"
        name, signals = self.named, self.card.capabilities.signals
        self._torch = require("torch", extra="train")
        from robo_reward.models.backbones import digest
        from robo_reward.models.frozen_features import FrozenFeatures
        from robo_reward.models.heads import Heads

        self.folder = Path(checkpoint)
        if not checkpoint or not self.folder.is_dir():
            raise MissingDependency(f"{name} needs the folder of a trained one; {how}")
        heads = Heads.load(self.folder, expected=name, how=how)
        self.features = FrozenFeatures.load(self.folder, heads.config.features, device=device)
        encoder = self.features.encoder
        self.heads = heads.to(encoder.device)
        self.instruction = heads.config.instruction
        parameters = encoder.parameters + sum(p.numel() for p in heads.parameters())
        compact = encoder.compact if self.features.reads_text else None
        # Sentences go through the network of the compact model, beyond its encoder.
        frozen = encoder.module if compact is None else compact.network
        super().__init__(
            name=name,
            version=digest(heads, digest(frozen).encode()),
            capabilities=Capabilities(
                signals=signals,
                max_views=MAX_VIEWS,
                licence="Apache-2.0" if encoder.compact is not None else "that of its backbone",
                memory_mb=parameters * 4 / 2**20,
                parameters=parameters,
            ),
            prompt_id="" if compact is None else compact.prompt_id,
        )

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        return self.features.encode(images)

    def _asked(self, queries: Sequence[Query], views: Sequence[tuple[Feature, ...]]) -> list[Any]:
        """Return what the heads say of each view of n queries, ``(views, members)`` each."""
        kept = [view for row in views for view in row]
        texts = [query.task.text for query, row in zip(queries, views, strict=True) for _ in row]
        if not kept:
            return [self._torch.empty(0, self.heads.config.members) for _ in views]
        with self._torch.inference_mode():
            said = self.heads(self.features.vectors(kept, texts)).cpu()
        return list(said.split([len(row) for row in views]))
