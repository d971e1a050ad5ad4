"""Baselines: what a figure is worth when a model without any skill reaches it.

Three models that take one shortcut each, so that tables show what it earns and the evaluation can
prove that it finds it out. They are asked and answer like any other model; never use one as a
reward. Licence: Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robo_reward.frames import Image
from robo_reward.models.base import Capabilities, Feature, RewardModel, ScoreArrays
from robo_reward.query import Query
from robo_reward.task import Task

from .registry import load_model

ANY_INSTRUCTION = "put the red cube on the blue pad"
"""What the language-blind model is always asked: a sentence like any other of the suite."""


class _Sightless(RewardModel):
    """A model whose answer does not depend on pictures."""

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        return [None] * len(images)


class TimeCounter(_Sightless):
    """Progress is the number of the step: the shortcut that every successful recording invites.

    Its VOC is 1 and its VROC -1; delta and contrastive say "forwards" whatever is compared, so
    they are not antisymmetric as the contract has it. That is what it is there to show.

    Args:
        device: Ignored; there is nothing to place.
        horizon: Steps from progress 0 to progress 1, where it stays.
    """

    def __init__(self, *, device: str = "cpu", horizon: int = 60) -> None:
        if horizon < 1:
            raise ValueError(f"horizon must be >= 1, got {horizon}")
        super().__init__(
            name="time-counter",
            version=f"{horizon}",
            capabilities=Capabilities(max_views=8, licence="Apache-2.0"),
        )
        self.horizon = horizon

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        steps = np.array([query.step for query in queries], np.float32)
        progress = np.minimum(steps / self.horizon, 1.0)
        compared = np.array([bool(query.reference) for query in queries], np.float32)
        return ScoreArrays(
            progress=progress,
            progress_delta=compared * np.float32(1.0 / self.horizon),
            done=(progress >= 1.0).astype(np.float32),
            contrastive=compared,
            uncertainty=np.zeros(len(queries), np.float32),
        )


class Constant(_Sightless):
    """One value for everything: the floor of every figure, and the test of the rules for ties.

    Args:
        device: Ignored; there is nothing to place.
        value: Progress and done, [0, 1].
    """

    def __init__(self, *, device: str = "cpu", value: float = 0.5) -> None:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"value must be in [0, 1], got {value}")
        super().__init__(
            name="constant",
            version=f"{value:g}",
            capabilities=Capabilities(max_views=8, licence="Apache-2.0"),
        )
        self.value_of_all = value

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        same = np.full(len(queries), self.value_of_all, np.float32)
        zero = np.zeros(len(queries), np.float32)
        return ScoreArrays(
            progress=same, progress_delta=zero, done=same, contrastive=zero, uncertainty=zero + 1
        )


class LanguageBlind(RewardModel):
    """Another model that is asked the same sentence whatever was asked.

    Args:
        device: Where the other model runs.
        model: Name, folder or hub id of the other model.
        instruction: The sentence.
    """

    def __init__(
        self, *, device: str = "auto", model: str = "compact", instruction: str = ANY_INSTRUCTION
    ) -> None:
        self.inner = load_model(model, device=device)
        self.instruction = instruction
        name, _, version = self.inner.model_id.partition("@")
        super().__init__(
            name="language-blind" if name == "compact" else f"language-blind-{name}",
            version=version,
            capabilities=self.inner.capabilities,
            prompt_id=self.inner.prompt_id,
        )

    def close(self) -> None:
        """Close the other model."""
        self.inner.close()

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        asked = None if task is None else self._deaf(task)
        return self.inner._encode(images, asked)

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        asked = [replace(query, task=self._deaf(query.task)) for query in queries]
        return self.inner._score(asked, newest, reference, history)

    def _deaf(self, task: Task) -> Task:
        return replace(task, instruction=self.instruction, stage=None)
