"""Asking one model about one episode: forwards, backwards, in pairs, and in other words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robo_reward.client.local import describe
from robo_reward.client.source import ModelInfo, Source
from robo_reward.datasets.clips import clip_queries, episode_views, spread_places
from robo_reward.datasets.episode import Episode
from robo_reward.errors import DatasetError
from robo_reward.frames import Frame
from robo_reward.history import Views, looked_back
from robo_reward.models.base import RewardModel, ScoreArrays
from robo_reward.query import Query
from robo_reward.shaping import GateConfig
from robo_reward.signals import RANGES, SIGNALS, Score, Status
from robo_reward.task import Task

STRIP = 8
"""Frames of a film strip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """What is asked of a model about each episode.

    Attributes:
        batch_size: Queries per call; the last batch of an episode may be shorter.
        cameras: Cameras to use, in order; empty takes the episode's first ones, as many as the
            model has views.
        reverse: Whether the clip is scored once more from its last frame to its first.
        mismatches: How many of an episode's false instructions are asked about, in every frame.
        wordings: How many true paraphrases of each kind are asked about in the last frame.
        other_tasks: Whether successes are asked about under the instructions of other tasks.
        one_shot: Whether a model that reads a demonstration is given one of the task.
        sanity: Number of successes that the sanity clips are made from; 0 for none.
        pairs: Pairs of frames for the direction metrics, each an eighth of the episode apart.
        resamples: Bootstrap resamples over episodes.
        seed: Seed of the bootstrap.
        gate: Operating point of the done gate; ``None`` takes that of the model's calibration.
        timeout_s: How long a source may take for one batch, seconds.

    Raises:
        ValueError: A number is out of range.
    """

    batch_size: int = 64
    cameras: tuple[str, ...] = ()
    reverse: bool = True
    mismatches: int = 3
    wordings: int = 6
    other_tasks: bool = True
    one_shot: bool = False
    sanity: int = 40
    pairs: int = 16
    resamples: int = 1000
    seed: int = 0
    gate: GateConfig | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing would be measured."""
        for name in ("batch_size", "mismatches", "wordings", "sanity", "pairs", "resamples"):
            low = int(name == "batch_size")
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be >= {low}, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpisodeScores:
    """What one model said of one episode of T frames; NaN where there was no score.

    Attributes:
        forward: Signals of every frame against the one before it, ``(T,)`` each.
        backward: ``(T,)`` progress of the clip played backwards, in playing order; empty if not
            asked.
        wrong: False instruction → signals of every frame under it.
        wordings: Kind of wording → final progress ``(k,)`` under the episode's own sentence and
            its paraphrases of this kind.
        other_tasks: Task → final progress under an instruction of it that is false here.
        pair_starts: ``(n,) int`` reference frame of each pair, chronological.
        pair_ends: ``(n,) int`` newest frame of each pair.
        pair_delta: ``(n,)`` predicted change of each pair.
        pair_contrastive: ``(n,)`` of each pair.
        swapped_contrastive: ``(n,)`` of the same pairs asked the other way round.
        missing: Status → number of queries that got no score.
        queries: Number of queries asked.
    """

    forward: ScoreArrays
    backward: NDArray[np.float32]
    wrong: dict[str, ScoreArrays]
    wordings: dict[str, NDArray[np.float32]]
    other_tasks: dict[str, float]
    pair_starts: NDArray[np.int64]
    pair_ends: NDArray[np.int64]
    pair_delta: NDArray[np.float32]
    pair_contrastive: NDArray[np.float32]
    swapped_contrastive: NDArray[np.float32]
    missing: dict[str, int] = field(default_factory=dict)
    queries: int = 0


class Asker:
    """Puts queries to a model in this process or to a source, in batches, and counts refusals.

    Args:
        model: A reward model, or a source such as a node's client.
        options: Batch size and time-out.
        demos: Task family → frames of a success, for a model that reads one or its last frame.
    """

    def __init__(
        self,
        model: RewardModel | Source,
        *,
        options: EvalOptions,
        demos: Mapping[str, Sequence[Frame]] | None = None,
    ) -> None:
        self.model = model
        self.options = options
        self.demos = demos or {}
        self.queries = 0
        self.missing: Counter[str] = Counter()

    @property
    def max_views(self) -> int:
        """Number of cameras that one query may hold."""
        return self._info().max_views

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that the model gives."""
        return self._info().signals

    @property
    def model_id(self) -> str:
        """Model name and weight hash."""
        return self._info().model

    def task(self, episode: Episode, text: str) -> Task:
        """Return what is asked of an episode: a sentence, and what a model that reads it is shown.

        Goal image and demonstration are those of the episode's family under every sentence: a model
        that reads only them is thereby seen to ignore language.

        Raises:
            DatasetError: The model needs a goal image or a demonstration; there is none.
        """
        info = self._info()
        one_shot = self.options.one_shot and info.demo
        if not info.goal_image and not one_shot:
            return Task(instruction=text)
        family = str(episode.meta.get("family", "all"))
        if family not in self.demos:
            raise DatasetError(f"{self.model_id} needs a success of {family} to be shown")
        shown = tuple(self.demos[family])
        return Task(
            instruction=text,
            goal=shown[-1] if info.goal_image else None,
            demo=shown if one_shot else (),
        )

    @property
    def history(self) -> int:
        """Number of earlier instants that a query may hold."""
        return self._info().history

    def play(self, views: Sequence[Views], task: Task, *, clip: int) -> list[Query]:
        """Make the queries of a clip that is played from its first instant to its last."""
        return clip_queries(views, task, clip=clip, history=self.history)

    @property
    def calibration_id(self) -> str:
        """Id of the calibration that the model answers with."""
        return self._info().calibration

    def gate(self, instruction: str) -> GateConfig:
        """Operating point for an instruction: that of the options, of the model, or the default."""
        return self.options.gate or self._info().gate(instruction) or GateConfig()

    def _info(self) -> ModelInfo:
        return describe(self.model) if isinstance(self.model, RewardModel) else self.model.info()

    def ask(self, queries: Sequence[Query]) -> ScoreArrays:
        """Return one row per query, clipped to the signals' ranges; NaN where there is no score."""
        size = self.options.batch_size
        parts = [self._batch(queries[i : i + size]) for i in range(0, len(queries), size)]
        self.queries += len(queries)
        columns = {}
        for name in SIGNALS:
            rows = [getattr(part, name) for part in parts] or [np.empty(0, np.float32)]
            columns[name] = np.clip(np.concatenate(rows), *RANGES[name])
        return ScoreArrays(**columns, failures={})

    def ask_all(self, passes: Mapping[str, Sequence[Query]]) -> dict[str, ScoreArrays]:
        """Return the rows of each pass; batches run on across the passes, in their order."""
        rows = self.ask([query for queries in passes.values() for query in queries])
        found, first = {}, 0
        for name, queries in passes.items():
            part = slice(first, first + len(queries))
            found[name] = ScoreArrays(**{signal: getattr(rows, signal)[part] for signal in SIGNALS})
            first = part.stop
        return found

    def _batch(self, queries: Sequence[Query]) -> ScoreArrays:
        if isinstance(self.model, RewardModel):
            found = self.model.score(queries)
            if abstained := int(found.abstained.sum()):
                self.missing[Status.ABSTAINED.value] += abstained
            if found.failures:
                self.missing[Status.MODEL_ERROR.value] += len(found.failures)
            return found
        pending = self.model.submit(queries, deadline_s=self.options.timeout_s)
        scores = pending.result(timeout_s=self.options.timeout_s)
        self.missing.update(score.status.value for score in scores if not score.ok)
        return _arrays(scores)


def score_episode(asker: Asker, episode: Episode, *, number: int = 0) -> EpisodeScores:
    """Ask a model everything that the metrics need about one episode.

    Frames are made once and shared by all the queries, so that a model encodes each one once.
    Every pass through the episode has an episode number of its own, in the order in which it would
    be played, and every query the step and reference of its frame: a model that counts steps or
    keeps state per episode gains nothing from how it is asked.

    Args:
        asker: The model.
        episode: The recording; nothing of its truth is handed to the model.
        number: Index of the episode, which makes the episode numbers of its clips unique.
    """
    before, asked = asker.missing.copy(), asker.queries
    options = asker.options
    views = episode_views(episode, options.cameras, limit=asker.max_views)
    clips = 100 * number
    task = asker.task(episode, episode.instruction)
    starts, ends = pair_places(len(views), count=options.pairs)
    false = false_instructions(episode)[: options.mismatches]
    wordings = _wordings(episode, options.wordings)
    others = _other_tasks(episode) if options.other_tasks else {}
    back = views[::-1] if options.reverse else []
    passes = {
        "forward": asker.play(views, task, clip=clips),
        "backward": asker.play(back, task, clip=clips + 1),
        "pairs": _pairs(asker, views, task, ends, starts, clip=clips + 2),
        "swapped": _pairs(asker, views, task, starts, ends, clip=clips + 3),
    }
    for index, text in enumerate(false):
        clip = asker.play(views, asker.task(episode, text), clip=clips + 10 + index)
        passes[f"in full: {text}"] = clip
    said = dict.fromkeys([*sum(wordings.values(), ()), *others.values()])
    for index, text in enumerate(said):
        clip = asker.play(views, asker.task(episode, text), clip=clips + 40 + index)
        passes[f"at the end: {text}"] = clip[-1:]
    found = asker.ask_all(passes)
    final = {text: float(found[f"at the end: {text}"].progress[-1]) for text in said}
    own = float(found["forward"].progress[-1])
    return EpisodeScores(
        forward=found["forward"],
        backward=found["backward"].progress,
        wrong={text: found[f"in full: {text}"] for text in false},
        wordings={
            kind: np.array([own, *(final[text] for text in texts)], np.float32)
            for kind, texts in wordings.items()
        },
        other_tasks={family: final[text] for family, text in others.items()},
        pair_starts=starts,
        pair_ends=ends,
        pair_delta=found["pairs"].progress_delta,
        pair_contrastive=found["pairs"].contrastive,
        swapped_contrastive=found["swapped"].contrastive,
        missing=dict(asker.missing - before),
        queries=asker.queries - asked,
    )


def false_instructions(episode: Episode) -> tuple[str, ...]:
    """Return the instructions that this video does not fulfil: ``meta["alternatives"]``.

    Only the recorder knows which sentences are false for a video, so nothing is made up here: an
    episode without them has no mismatch drop, and is counted.
    """
    texts = episode.meta.get("alternatives") or ()
    return tuple(text for text in dict.fromkeys(texts) if text != episode.instruction)


def never_true(episode: Episode) -> frozenset[str]:
    """Return the false instructions that hold in no frame at all: ``meta["never_true"]``."""
    return frozenset(episode.meta.get("never_true") or ())


def paraphrases(episode: Episode, kind: str) -> tuple[str, ...]:
    """Return other sentences for the same goal: ``meta["paraphrases"][kind]``."""
    texts = (episode.meta.get("paraphrases") or {}).get(kind) or ()
    return tuple(text for text in dict.fromkeys(texts) if text != episode.instruction)


def other_task(episode: Episode, family: str) -> str | None:
    """Return a sentence of a task that is false here: ``meta["other_tasks"][family]``."""
    text = (episode.meta.get("other_tasks") or {}).get(family)
    return None if text is None else str(text)


def _wordings(episode: Episode, count: int) -> dict[str, tuple[str, ...]]:
    kinds = episode.meta.get("paraphrases") or {}
    return {kind: _spread(paraphrases(episode, kind), count) for kind in kinds}


def _spread(texts: tuple[str, ...], count: int) -> tuple[str, ...]:
    # Evenly over the list and not its first ones, which are the plainest.
    return tuple(texts[i] for i in spread_places(len(texts), count=count)) if texts else ()


def _other_tasks(episode: Episode) -> dict[str, str]:
    # Only successes have a right answer to compare with.
    texts = episode.meta.get("other_tasks") or {}
    return dict(texts) if episode.success else {}


def pair_places(frames: int, *, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (reference, newest) indices of up to ``count`` segments of an eighth of an episode."""
    gap = max(1, round(frames / 8))
    if frames <= gap or not count:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = spread_places(frames - gap, count=count)
    return starts, starts + gap


def _pairs(
    asker: Asker,
    views: Sequence[Views],
    task: Task,
    newest: NDArray[np.int64],
    reference: NDArray[np.int64],
    *,
    clip: int,
) -> list[Query]:
    """Ask about pairs; the past of either frame is what came before both."""
    return [
        Query(
            task=task,
            newest=views[b],
            reference=views[a],
            history=looked_back(views[: min(a, b)], limit=asker.history),
            episode=clip,
            step=step,
        )
        for step, (b, a) in enumerate(zip(newest, reference, strict=True))
    ]


def _arrays(scores: Sequence[Score]) -> ScoreArrays:
    columns = {
        name: np.array([getattr(score.signals, name) for score in scores], np.float32)
        for name in SIGNALS
    }
    return ScoreArrays(**columns, failures={})
