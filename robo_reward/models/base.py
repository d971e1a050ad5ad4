"""What a reward model is: frames in, a struct of arrays out, every frame encoded once."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, ModelError
from robo_reward.frames import Frame, Image
from robo_reward.history import Views, looked_back
from robo_reward.query import Query
from robo_reward.signals import LIMIT_MARK, RANGES, SIGNALS, Identity, Score, Signals
from robo_reward.task import Task

from .calibration import Calibration

Feature = Any
"""What a model keeps of one frame: opaque to everyone but the model."""

Array = NDArray[np.float32]
Instants = tuple[tuple[Feature, ...], ...]
"""Features of several instants, one per camera each."""
Encoded = tuple[list[tuple[Feature, ...]], list[tuple[Feature, ...]], list[Instants]]
"""Features of newest, reference and history of n queries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model can do and what it costs, before it is asked.

    Attributes:
        signals: Names from ``SIGNALS`` that it gives.
        max_views: Number of cameras that one query may hold.
        history: Number of earlier instants that it looks at besides newest and reference.
        goal_image: Whether ``Task.goal`` is read.
        demo: Whether ``Task.demo`` is read.
        encoder_needs_task: Whether a frame must be encoded again for another task.
        metered: Whether every question has a price: such a model is asked no questions of noise.
        licence: SPDX id of the weights.
        memory_mb: Resident size of the weights, MiB.
        parameters: Number of weights.
    """

    signals: tuple[str, ...] = SIGNALS
    max_views: int = 1
    history: int = 0
    goal_image: bool = False
    demo: bool = False
    encoder_needs_task: bool = False
    metered: bool = False
    licence: str = "unknown"
    memory_mb: float = 0.0
    parameters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a model before its weights are there: the class attribute ``card``.

    Attributes:
        capabilities: What its published form can do; ``memory_mb`` stays 0 where never measured.
        weights: Folder or hub id that is loaded where none is given.
    """

    capabilities: Capabilities
    weights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreArrays:
    """The five signals of n queries, each ``(n,) float32``; NaN where a model gives none.

    Attributes:
        progress: See ``Signals``, as the other four.
        progress_delta: See ``Signals``.
        done: See ``Signals``.
        contrastive: See ``Signals``.
        uncertainty: See ``Signals``.
        failures: Row → why the model has no answer to this one query, in words that may leave the
            process; its signals are NaN and its status is ``model_error``.
    """

    progress: Array
    progress_delta: Array
    done: Array
    contrastive: Array
    uncertainty: Array
    failures: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.progress)

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Which rows hold no number though nothing failed, ``(n,)``: the model abstained."""
        signals = np.stack([getattr(self, name) for name in SIGNALS])
        none: NDArray[np.bool_] = np.isnan(signals).all(axis=0)
        none[list(self.failures)] = False
        return none

    def row(self, index: int) -> Signals:
        """Return one row, clipped to the ranges of ``signals.RANGES``."""
        values = {}
        for name in SIGNALS:
            low, high = RANGES[name]
            # Not np.clip, which takes 7 us a number; the value first, so that NaN stays NaN.
            values[name] = min(max(float(getattr(self, name)[index]), low), high)
        return Signals(**values)


class FeatureCache:
    """Least-recently-used store of encoded frames, bounded by their number; thread-safe."""

    def __init__(self, *, capacity: int = 4096) -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._store: OrderedDict[tuple[str, str], Feature] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: tuple[str, str]) -> Feature | None:
        """Return the feature under this key and mark it as used, or ``None``."""
        with self._lock:
            feature = self._store.get(key)
            if feature is None:
                self.misses += 1
                return None
            self._store.move_to_end(key)
            self.hits += 1
            return feature

    def put(self, key: tuple[str, str], feature: Feature) -> None:
        """Keep a feature; the one unused for longest goes when there is no room."""
        with self._lock:
            self._store[key] = feature
            self._store.move_to_end(key)
            while len(self._store) > self.capacity:
                self._store.popitem(last=False)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._store.clear()


class RewardModel(ABC):
    """Base class of every reward model.

    A subclass gives ``_encode`` (pixels to features) and ``_score`` (features to signals); caching,
    order and row counts are held here. One thread at a time may use a model.

    Args:
        name: Name in the registry, for example ``"compact"``.
        version: Hash of the weights; with the name it makes ``model_id``.
        capabilities: What it can do.
        prompt_id: Hash of the prompt or of the text pre-processing.
        cache_frames: How many encoded frames are kept.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        capabilities: Capabilities,
        prompt_id: str = "",
        cache_frames: int = 4096,
    ) -> None:
        self.name = name
        self.model_id = f"{name}@{version}"
        self.capabilities = capabilities
        self.prompt_id = prompt_id
        self.calibration: Calibration | None = None
        self.calibration_id = "none"
        self.abstain_above: float | None = None
        self.encoded_frames = 0
        self.cache = FeatureCache(capacity=cache_frames)

    def calibrate(self, calibration: Calibration) -> None:
        """Let every ``done`` from now on be the calibrated one, and abstain above its limit if any.

        Raises:
            ConfigError: The calibration was fitted on another model or prompt.
        """
        calibration.check(model=self.model_id, prompt=self.prompt_id)
        self.calibration = calibration
        limit = calibration.abstention
        self._settle(None if limit is None else limit.limit)

    def limit(self, abstain_above: float) -> None:
        """Abstain above this uncertainty from now on, whatever the calibration says of it.

        Raises:
            ConfigError: It is not in [0, 1], or the model gives no uncertainty.
        """
        if not 0.0 <= abstain_above <= 1.0:
            raise ConfigError(f"abstain_above must be in [0, 1], got {abstain_above}")
        if "uncertainty" not in self.capabilities.signals:
            raise ConfigError(f"{self.model_id} gives no uncertainty to abstain above")
        self._settle(abstain_above)

    def _settle(self, limit: float | None) -> None:
        """Take a limit, and name it with the calibration: hashed once, stated in every score."""
        self.abstain_above = limit
        name = "none" if self.calibration is None else self.calibration.id
        self.calibration_id = name if limit is None else f"{name}{LIMIT_MARK}{limit:.4g}"

    @abstractmethod
    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        """Turn images, ``(H, W, 3) uint8 RGB`` of any size, into one feature each, in order."""

    @abstractmethod
    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        """Turn features into signals, one row per query.

        Args:
            queries: What is asked; frames and features stand in the same places.
            newest: Features of the newest frames, one per camera.
            reference: Of the reference frames; empty means delta 0.
            history: Of the earlier instants, oldest first; empty for a model that does not look
                back.
        """

    def close(self) -> None:
        """Free what the model holds; nothing by default."""

    def encode(self, frames: Iterable[Frame], task: Task | None = None) -> list[Feature]:
        """Return the feature of each frame, in order, computing only those not yet known.

        Args:
            frames: Frames of any camera and size.
            task: Needed only where ``capabilities.encoder_needs_task``.
        """
        wanted = list(frames)
        suffix = task.key if task is not None and self.capabilities.encoder_needs_task else ""
        known: dict[str, Feature] = {}
        fresh: dict[str, Frame] = {}
        for frame in wanted:
            if frame.id in known or frame.id in fresh:
                continue
            feature = self.cache.take((frame.id, suffix))
            if feature is None:
                fresh[frame.id] = frame
            else:
                known[frame.id] = feature
        if fresh:
            made = self._encode([frame.image for frame in fresh.values()], task)
            if len(made) != len(fresh):
                raise ModelError(f"{self.name} gave {len(made)} features for {len(fresh)} frames")
            self.encoded_frames += len(fresh)
            for frame_id, feature in zip(fresh, made, strict=True):
                known[frame_id] = feature
                self.cache.put((frame_id, suffix), feature)
        return [known[frame.id] for frame in wanted]

    def remember(self, frames: Sequence[Frame], features: Sequence[Feature]) -> None:
        """Put features that ``encode`` gave back into the cache, where there are none by now.

        Not for a model whose ``capabilities.encoder_needs_task``.
        """
        for frame, feature in zip(frames, features, strict=True):
            if self.cache.take((frame.id, "")) is None:
                self.cache.put((frame.id, ""), feature)

    def score(self, queries: Sequence[Query]) -> ScoreArrays:
        """Score queries, one row each, order kept.

        Args:
            queries: Any number, of any mixture of tasks, episodes and environments.

        Returns:
            Arrays with ``len(queries)`` rows; NaN in all five where the uncertainty is above
            ``abstain_above``.

        Raises:
            ModelError: The model gave another number of rows, or values that are not finite for a
                signal it claims to give.
        """
        arrays = self._judged(queries)
        unsure = self._unsure(arrays)
        if not unsure.any():
            return arrays
        return _blanked(arrays, unsure)

    def _unsure(self, arrays: ScoreArrays) -> NDArray[np.bool_]:
        if self.abstain_above is None:
            return np.zeros(len(arrays), bool)
        above: NDArray[np.bool_] = arrays.uncertainty > np.float32(self.abstain_above)
        return above

    def _judged(self, queries: Sequence[Query]) -> ScoreArrays:
        """Return checked and calibrated rows, those above the limit among them."""
        if not queries:
            empty = np.empty(0, np.float32)
            return ScoreArrays(**dict.fromkeys(SIGNALS, empty), failures={})
        arrays = self._score(queries, *self._features(queries))
        failed = np.zeros(len(queries), bool)
        failed[list(arrays.failures)] = True
        for signal in self.capabilities.signals:
            values = getattr(arrays, signal)
            if values.shape != (len(queries),):
                raise ModelError(f"{self.name}: {signal} is {values.shape}, want {len(queries)}")
            if not np.isfinite(values[~failed]).all():
                raise ModelError(f"{self.name}: {signal} is not finite")
        if failed.any():
            arrays = _blanked(arrays, failed)
        if self.calibration is None:
            return arrays
        texts = [query.task.text for query in queries]
        return replace(arrays, done=self.calibration.apply(arrays.done, texts))

    def value(self, frames: Sequence[Frame], task: Task) -> float:
        """Return the progress of a clip: that of its newest frame (RoboValue's ``value``)."""
        past = looked_back([(frame,) for frame in frames[:-1]], limit=self.capabilities.history)
        query = Query(task=task, newest=(frames[-1],), history=past)
        return float(self.score([query]).progress[0])

    def compare(self, first: Sequence[Frame], second: Sequence[Frame], task: Task) -> float:
        """Return how much further the second clip is, in [-1, 1] (RoboValue's ``compare``).

        For a model that looks back this is the difference of two values: each clip has a past of
        its own.
        """
        if self.capabilities.history:
            return self.value(second, task) - self.value(first, task)
        query = Query(task=task, newest=(second[-1],), reference=(first[-1],))
        return float(self.score([query]).progress_delta[0])

    def answer(
        self, queries: Sequence[Query], *, client: str = "", inference_s: float = float("nan")
    ) -> list[Score]:
        """Score queries and attach identity; ages and queue times are left for the caller.

        Where the uncertainty is above the limit that is set the status is ``abstained``, and
        ``model_error`` where the model says that it has no answer to this query.
        """
        arrays = self._judged(queries)
        unsure = self._unsure(arrays)
        scores = []
        for index, query in enumerate(queries):
            identity = self.identity(query, client=client, inference_s=inference_s)
            if index in arrays.failures:
                why = arrays.failures[index]
                scores.append(Score.missing("MODEL_ERROR", identity=identity, detail=why))
            elif unsure[index]:
                detail = (
                    f"uncertainty {arrays.uncertainty[index]:.3f} is above {self.abstain_above:.3f}"
                )
                scores.append(Score.missing("ABSTAINED", identity=identity, detail=detail))
            else:
                scores.append(Score(signals=arrays.row(index), identity=identity))
        return scores

    def identity(self, query: Query, *, client: str = "", inference_s: float = 0.0) -> Identity:
        """Say what a score of this query would be made from."""
        return Identity(
            client=client,
            env=query.env,
            episode=query.episode,
            step=query.step,
            frames=tuple(frame.id for frame in query.newest),
            reference=tuple(frame.id for frame in query.reference),
            history=tuple(frame.id for views in self._past(query) for frame in views),
            model=self.model_id,
            prompt=self.prompt_id,
            calibration=self.calibration_id,
            inference_s=inference_s,
        )

    def _past(self, query: Query) -> tuple[Views, ...]:
        limit = self.capabilities.history
        if limit and len(query.history) > limit:
            given = f"{len(query.history)} earlier instants"
            raise ModelError(f"{self.name} was given {given} and looks at {limit} at most")
        return query.history if limit else ()

    def _features(self, queries: Sequence[Query]) -> Encoded:
        """Features of every frame of every query, each frame encoded once."""
        if not self.capabilities.encoder_needs_task:
            frames = [frame for query in queries for frame in self._seen(query)]
            made = iter(self.encode(frames))
            rows = [self._arranged(query, made) for query in queries]
        else:
            rows = [
                self._arranged(query, iter(self.encode(self._seen(query), query.task)))
                for query in queries
            ]
        return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]

    def _seen(self, query: Query) -> tuple[Frame, ...]:
        return query.frames if self.capabilities.history else (*query.newest, *query.reference)

    def _arranged(
        self, query: Query, made: Iterator[Feature]
    ) -> tuple[tuple[Feature, ...], tuple[Feature, ...], Instants]:
        newest = tuple(next(made) for _ in query.newest)
        reference = tuple(next(made) for _ in query.reference)
        past = tuple(tuple(next(made) for _ in views) for views in self._past(query))
        return newest, reference, past


def _blanked(arrays: ScoreArrays, rows: NDArray[np.bool_]) -> ScoreArrays:
    """Put NaN into every signal of some rows."""
    blank = {name: np.where(rows, np.nan, getattr(arrays, name)) for name in SIGNALS}
    kept = {name: values.astype(np.float32) for name, values in blank.items()}
    return ScoreArrays(**kept, failures=arrays.failures)
