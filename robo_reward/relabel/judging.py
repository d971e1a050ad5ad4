"""Asks a model, or a node, about the batches of one episode.

What a batch is asked depends on the episode and the batch's number alone, never on what was asked
before: so the labels are the same bytes for any number of workers, and after any interruption.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from robo_reward.client.guarded import answer_each
from robo_reward.client.local import describe
from robo_reward.client.source import ModelInfo, Source
from robo_reward.errors import ModelError, RewardLost
from robo_reward.frames import Frame
from robo_reward.models.base import Feature, RewardModel
from robo_reward.query import Query
from robo_reward.signals import OUTAGE, Score
from robo_reward.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Which judge to open; plain values, so that a worker process can be told.

    Attributes:
        model: Name, folder or hub id of the reward model.
        device: Where it runs.
        calibration: File of ``robo-reward calibrate``.
        abstain_above: Uncertainty above which there is no score; ``None`` for the calibration's.
        node: Address of a reward node that is asked instead.
        timeout_s: How long a node may take, seconds.
        keys: Folder of the keys that a node behind CURVE asks for.
    """

    model: str = "compact"
    device: str = "auto"
    calibration: str | None = None
    abstain_above: float | None = None
    node: str | None = None
    timeout_s: float = 60.0
    keys: str | None = None


@contextlib.contextmanager
def open_judge(config: JudgeConfig) -> Iterator[Judge]:
    """Load the model, or connect to the node; closed at the end of the block."""
    if config.node is not None:
        from robo_reward.client import connect

        with connect(
            config.node,
            deadline_s=config.timeout_s,
            connect_timeout_s=min(config.timeout_s, 10.0),
            priority="offline",
            keys=None if config.keys is None else Path(config.keys),
        ) as source:
            yield SourceJudge(source, timeout_s=config.timeout_s)
        return
    from robo_reward.models import load_model

    model = load_model(
        config.model,
        device=config.device,
        calibration=config.calibration,
        abstain_above=config.abstain_above,
    )
    try:
        yield ModelJudge(model)
    finally:
        model.close()


class Judge(Protocol):
    """What answers the queries of a run."""

    def info(self) -> ModelInfo:
        """Say which model answers."""
        ...

    def begin(self, task: Task) -> None:
        """A new episode; ``task`` may hold a goal image."""
        ...

    def show(self, batch: Sequence[Sequence[Frame]], task: Task) -> None:
        """Look at a batch: the frames of each instant."""
        ...

    def score(self, queries: Sequence[Query]) -> list[Score]:
        """Return one score per query."""
        ...


class ModelJudge:
    """A model in this process.

    Its cache is emptied before every batch, and only what the batch before it made of its last
    instant is put back. So a frame is encoded once; only one that comes again in a later batch,
    pixel by pixel, is encoded again, because the composition of a batch decides the last bits of
    its rows. A model that looks back keeps the whole episode in its cache; after an interruption
    such an episode is shown from its begin.
    """

    def __init__(self, model: RewardModel) -> None:
        self.model = model
        self._goal: list[tuple[Frame, Feature]] = []
        self._kept: list[tuple[Frame, Feature]] = []

    def info(self) -> ModelInfo:
        """Say which model answers."""
        return describe(self.model)

    def begin(self, task: Task) -> None:
        """Forget the last episode; look at the goal."""
        self.model.cache.clear()
        frames = [task.goal] if task.goal is not None and self._apart else []
        self._goal = list(zip(frames, self.model.encode(frames), strict=True))
        self._kept = []

    def show(self, batch: Sequence[Sequence[Frame]], task: Task) -> None:
        """Encode the frames of a batch together."""
        if not self.model.capabilities.history:
            self.model.cache.clear()
        if not self._apart:
            return  # encoded with the queries, which name the sentence
        self.model.encode(frame for frames in batch for frame in frames)
        for frame, feature in (*self._goal, *self._kept):
            self.model.remember([frame], [feature])
        self._kept = list(zip(batch[-1], self.model.encode(batch[-1]), strict=True))

    def score(self, queries: Sequence[Query]) -> list[Score]:
        """Return one score per query; a row that fails by itself is ``model_error``."""
        scores, _ = answer_each(self.model, queries)
        return scores

    @property
    def _apart(self) -> bool:
        return not self.model.capabilities.encoder_needs_task


class SourceJudge:
    """A reward node, or any other source.

    Args:
        source: Sends the frames; keeps those that were sent.
        timeout_s: How long a batch may take before the run stops.
    """

    def __init__(self, source: Source, *, timeout_s: float) -> None:
        self.source = source
        self.timeout_s = timeout_s
        self._known = source.info()

    def info(self) -> ModelInfo:
        """Say which model answers."""
        return self._known

    def begin(self, task: Task) -> None:
        """Nothing is kept between episodes."""

    def show(self, batch: Sequence[Sequence[Frame]], task: Task) -> None:
        """The frames ride along with the queries."""

    def score(self, queries: Sequence[Query]) -> list[Score]:
        """Return one score per query.

        Raises:
            RewardLost: A score stayed away: an outage is no label.
            ModelError: The node has another model by now.
        """
        pending = self.source.submit(queries, deadline_s=self.timeout_s)
        scores = pending.result(timeout_s=self.timeout_s)
        for score in scores:
            if score.status in OUTAGE:
                raise RewardLost(
                    f"no score within {self.timeout_s:g} s ({score.detail or score.reason}); "
                    "what was scored is kept: run the same command again"
                )
            if score.ok and score.identity.model != self._known.model:
                raise ModelError(
                    f"the node answers with {score.identity.model}, at the begin it was "
                    f"{self._known.model}; one table holds the labels of one model"
                )
        return scores
