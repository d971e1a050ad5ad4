"""Batches for the compact model: two frames of each episode, several instructions for both.

The second frame makes pairs for the contrastive head. Of the instructions one is the episode's own,
some are others about the same scene (counterfactuals, with their true progress), and one is about
things that are not there. Nothing tells the network when in the episode a frame was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from robo_reward.envs.experts.record import KIND_SHARES
from robo_reward.envs.tabletop.facts import Facts
from robo_reward.envs.tabletop.goal import Goal
from robo_reward.envs.tabletop.instructions import instruct, names_something_here
from robo_reward.envs.tabletop.spec import SceneSpec
from robo_reward.envs.tabletop.tasks import FAMILIES
from robo_reward.errors import ConfigError, did_you_mean

from .augment import augment
from .labels import Label, absent, judged_goals, label
from .shards import CAMERA, Entry, Shard
from .wording import WordingConfig, vary

Encode = Callable[[str], list[int]]

EMPHASIS = 3
"""How often an episode of an emphasised family stands in the list that is drawn from."""
LATE_FRAMES = 4
"""The last frames of an episode, where goals hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Targets and inputs; frames come in pairs, 2i and 2i + 1 of one episode.

    Attributes:
        images: ``(2E, S, S, 3) uint8``.
        tokens: ``(E, Q, L) int64``, 0 for padding; both frames of an episode share them.
        progress: ``(2E, Q) float32``, NaN where unknown.
        done: ``(2E, Q) float32``, NaN where unknown.
        points: ``(2E, Q, 3, 2) float32`` in [-1, 1], NaN where unknown.
        further: ``(E, Q) float32``: probability that frame 2i + 1 is further than 2i, where it is
            known of itself; NaN where it follows from ``progress``.
    """

    images: NDArray[np.uint8]
    tokens: NDArray[np.int64]
    progress: NDArray[np.float32]
    done: NDArray[np.float32]
    points: NDArray[np.float32]
    further: NDArray[np.float32]


class BatchSource(Protocol):
    """What the trainer learns from; batch i is always the same, so that a killed run goes on."""

    @property
    def size(self) -> int:
        """Side of the images, pixels."""

    def draw(self, number: int) -> Batch:
        """Return batch ``number``."""


MakeSource = Callable[[Encode], BatchSource]
"""Makes a source, given the tokenizer of the network that is to be trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """How batches are drawn.

    Attributes:
        episodes: Episodes in a batch; there are twice as many frames.
        queries: Instructions for each episode, at least 3.
        wording: How sentences are varied.
        late: Share of frames drawn from an episode's last ones, where goals hold.
        augment: Whether to vary the images.
        without: What is left out of the table-top data, for ablations: ``counterfactual``,
            ``mismatched``, or behaviours that were recorded (``near_miss``, ``undo``, …).
        without_families: Task families of which nothing is seen or asked.
        emphasised: Task families whose episodes are drawn ``EMPHASIS`` times as often.
    """

    episodes: int = 48
    queries: int = 5
    wording: WordingConfig = field(default_factory=WordingConfig)
    late: float = 0.3
    augment: bool = True
    without: tuple[str, ...] = ()
    without_families: tuple[str, ...] = ()
    emphasised: tuple[str, ...] = ()


class Batches:
    """Draws batches; batch i of a seed is always the same.

    Args:
        shards: The data.
        encode: Sentence to token ids.
        config: How to draw.
        seed: Decides everything.
    """

    def __init__(
        self, shards: Sequence[Shard], encode: Encode, *, config: BatchConfig, seed: int
    ) -> None:
        self._shards = shards
        self._encode = encode
        self._config = config
        self._seed = seed
        check_names(config)
        if len({shard.frames.shape[1] for shard in shards}) > 1:
            raise ConfigError("the shards hold frames of several sizes; record them anew")
        self._index = [
            (i, j)
            for i, shard in enumerate(shards)
            for j, entry in enumerate(shard.entries)
            if entry.kind not in config.without and entry.goal.family not in config.without_families
            for _ in range(EMPHASIS if entry.goal.family in config.emphasised else 1)
        ]
        if not self._index:
            raise ConfigError("nothing is left of the data; leave out less")

    def __len__(self) -> int:
        """Length of the list that is drawn from: episodes, emphasised ones several times."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Side of the images, pixels."""
        return int(self._shards[0].frames.shape[1])

    def draw(self, number: int) -> Batch:
        """Return batch ``number``."""
        rng = np.random.default_rng([self._seed, number])
        picks = rng.integers(len(self._index), size=self._config.episodes)
        images, tokens, labels = [], [], []
        for pick in picks:
            shard, entry = self._entry(int(pick))
            frames = self._frames(entry, rng)
            rows = [Facts.from_vector(shard.facts[entry.start + t]) for t in frames]
            said, judged = self._queries(entry, rows, rng)
            pair = np.stack([shard.frames[entry.start + t] for t in frames])
            if self._config.augment:
                pair, shift = augment(pair, rng)
                judged = [[_shifted(one, shift) for one in frame] for frame in judged]
            images.append(pair)
            tokens.append(said)
            labels.extend(judged)
        return Batch(
            np.concatenate(images),
            padded(tokens),
            np.array([[one.progress for one in row] for row in labels], np.float32),
            np.array([[one.done for one in row] for row in labels], np.float32),
            np.array([[one.points for one in row] for row in labels], np.float32),
            np.full((len(picks), self._config.queries), np.nan, np.float32),
        )

    def _entry(self, pick: int) -> tuple[Shard, Entry]:
        i, j = self._index[pick]
        return self._shards[i], self._shards[i].entries[j]

    def _frames(self, entry: Entry, rng: np.random.Generator) -> list[int]:
        frames = []
        for _ in range(2):
            late = rng.random() < self._config.late
            low = max(entry.length - LATE_FRAMES, 0) if late else 0
            frames.append(int(rng.integers(low, entry.length)))
        return frames

    def _queries(
        self, entry: Entry, rows: list[Facts], rng: np.random.Generator
    ) -> tuple[list[list[int]], list[list[Label]]]:
        def say(goal: Goal, spec: SceneSpec, *, partial: float = 0.0) -> list[int]:
            text = instruct(goal, spec, rng=rng, partial=partial)
            if self._config.augment:
                text = vary(text, rng, config=self._config.wording)
            return self._encode(text)

        others = [entry.goal]
        if "counterfactual" not in self._config.without:
            left_out = self._config.without_families
            every = judged_goals(entry.spec)
            others = [goal for goal in every if goal.family not in left_out] or others
        goals = [entry.goal]
        picks = [int(rng.integers(len(others))) for _ in range(self._config.queries - 2)]
        goals.extend(others[pick] for pick in picks)
        partial = self._config.wording.partial if self._config.augment else 0.0
        said = [say(goal, entry.spec, partial=partial) for goal in goals]
        judged = [[label(row, entry.spec, goal, camera=CAMERA) for goal in goals] for row in rows]
        _, foreign = self._entry(int(rng.integers(len(self._index))))
        if "mismatched" in self._config.without or names_something_here(
            foreign.goal, foreign.spec, entry.spec
        ):
            said.append(say(entry.goal, entry.spec))
            for frame in judged:
                frame.append(frame[0])
        else:
            said.append(say(foreign.goal, foreign.spec))
            for frame, row in zip(judged, rows, strict=True):
                frame.append(absent(row, entry.spec, camera=CAMERA))
        return said, judged


def shard_source(shards: Sequence[Shard], *, config: BatchConfig, seed: int) -> MakeSource:
    """Return what makes ``Batches`` of shards."""
    return lambda encode: Batches(shards, encode, config=config, seed=seed)


def stream(source: BatchSource, start: int, stop: int) -> Iterator[Batch]:
    """Yield batches ``start`` to ``stop - 1`` in order, drawn ahead by a worker process."""
    loader: DataLoader[Batch] = DataLoader(
        _Numbered(source),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=1,
        prefetch_factor=4,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        multiprocessing_context="fork",
    )
    yield from loader


class _Numbered(Dataset[Batch]):
    """A torch map-style dataset of whole batches."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source

    def __getitem__(self, number: int) -> Batch:
        return self._source.draw(number)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def check_names(config: BatchConfig) -> None:
    """Refuse names that nothing would be left out, or drawn more often, by.

    Raises:
        ConfigError: There is no such negative, behaviour or family.
    """
    negatives = ("counterfactual", "mismatched", *(k for k in KIND_SHARES if k != "expert"))
    problems = [
        f"cannot train {what} {name!r}; {did_you_mean(name, known)}"
        for what, names, known in (
            ("without negative", config.without, negatives),
            ("without family", config.without_families, FAMILIES),
            ("more on family", config.emphasised, FAMILIES),
        )
        for name in names
        if name not in known
    ]
    if problems:
        raise ConfigError("; ".join(problems))


def _shifted(one: Label, shift: NDArray[np.float32]) -> Label:
    return Label(one.progress, one.done, one.points + shift)


def padded(tokens: list[list[list[int]]]) -> NDArray[np.int64]:
    """Stack token ids of E episodes with Q sentences each, ``(E, Q, L)``, 0 for padding."""
    longest = max(len(ids) for said in tokens for ids in said)
    padded = np.zeros((len(tokens), len(tokens[0]), longest), np.int64)
    for i, said in enumerate(tokens):
        for j, ids in enumerate(said):
            padded[i, j, : len(ids)] = ids
    return padded
