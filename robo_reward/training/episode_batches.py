"""Batches drawn from episodes: two frames of a clip, the clip's own sentence and false ones.

The same ``Batch`` as that of the table-top shards, so that one loop trains on both, apart or mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .augment import augment
from .batches import (
    LATE_FRAMES,
    Batch,
    BatchConfig,
    BatchSource,
    Encode,
    MakeSource,
    padded,
    shard_source,
)
from .examples import Example
from .negatives import (
    IN_TIME,
    IN_WORDS,
    LabelledClip,
    NegativeConfig,
    counterfactual,
    graded,
    mismatched,
)
from .sentences import NearMiss, foreign, near_misses, sentence_bank
from .shards import Shard
from .wording import vary


class EpisodeBatches:
    """Draws batches from examples; batch i of a seed is always the same.

    Args:
        examples: The data, see ``prepare``.
        encode: Sentence to token ids.
        config: Sizes of a batch; ``episodes`` counts clips.
        negatives: What is drawn how often.
        seed: Decides everything.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        encode: Encode,
        *,
        config: BatchConfig,
        negatives: NegativeConfig,
        seed: int,
    ) -> None:
        self._examples = examples
        self._encode = encode
        self._config = config
        self._negatives = negatives
        self._seed = seed
        self._failures = [i for i, one in enumerate(examples) if one.failed]
        self._others = [i for i, one in enumerate(examples) if not one.failed]
        self._ranked = ranked_pairs(examples)
        texts = {one.clip.instruction for one in examples}
        self._false = {text: Sentences.about(text, texts) for text in texts}

    @property
    def size(self) -> int:
        """Side of the images, pixels."""
        return int(self._examples[0].images.shape[1])

    def draw(self, number: int) -> Batch:
        """Return batch ``number``."""
        rng = np.random.default_rng([self._seed, number])
        slots = [self._slot(rng) for _ in range(self._config.episodes)]
        progress = np.concatenate([slot.progress for slot in slots])
        return Batch(
            np.concatenate([slot.images for slot in slots]),
            padded([slot.tokens for slot in slots]),
            progress,
            np.concatenate([slot.done for slot in slots]),
            np.full((*progress.shape, 3, 2), np.nan, np.float32),
            np.stack([slot.further for slot in slots]),
        )

    def _slot(self, rng: np.random.Generator) -> _Slot:
        further = np.full(self._config.queries, np.nan, np.float32)
        if self._ranked and rng.random() < self._negatives.preference:
            worse, better = self._ranked[int(rng.integers(len(self._ranked)))]
            further[0] = 1.0
            return self._ends(self._examples[worse], self._examples[better], further, rng)
        failed = self._failures and (not self._others or rng.random() < self._negatives.failures)
        group = self._failures if failed else self._others
        example = self._examples[group[int(rng.integers(len(group)))]]
        clip = IN_TIME[self._negatives.draw(IN_TIME, rng)](example.clip, rng)
        clip = clip.at(self._places(len(clip), rng))
        asked = [clip, *(self._false_of(example, clip, rng) for _ in range(len(further) - 1))]
        return self._made(example.images[clip.frames], asked, further, rng)

    def _ends(
        self,
        worse: Example,
        better: Example,
        further: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> _Slot:
        """Pair the last frames of two episodes of one task, where it is known which is better."""
        last = [np.array([len(one.clip) - 1]) for one in (worse, better)]
        ends = [one.clip.at(place) for one, place in zip((worse, better), last, strict=True)]
        clip = LabelledClip(
            frames=np.arange(2),
            instruction=better.clip.instruction,
            progress=np.concatenate([end.progress for end in ends]),
            done=np.concatenate([end.done for end in ends]),
        )
        others = self._false[clip.instruction].foreign
        asked = [clip]
        while len(asked) < len(further):
            asked.append(mismatched(clip, others[int(rng.integers(len(others)))]))
        return self._made(np.stack([worse.images[-1], better.images[-1]]), asked, further, rng)

    def _places(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        late = rng.random(2) < self._config.late
        low = np.where(late, max(count - LATE_FRAMES, 0), 0)
        return rng.integers(low, count).astype(np.int64)

    def _false_of(
        self, example: Example, clip: LabelledClip, rng: np.random.Generator
    ) -> LabelledClip:
        kind = self._negatives.draw((*IN_WORDS, "paraphrase"), rng)
        sentences = self._false[clip.instruction]
        if kind == "paraphrase":
            return clip
        if kind == "counterfactual" and example.told:
            return graded(clip, example.told[int(rng.integers(len(example.told)))])
        if kind == "counterfactual" and sentences.near:
            return counterfactual(clip, sentences.near[int(rng.integers(len(sentences.near)))])
        return mismatched(clip, sentences.foreign[int(rng.integers(len(sentences.foreign)))])

    def _made(
        self,
        images: NDArray[np.uint8],
        asked: list[LabelledClip],
        further: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> _Slot:
        texts = [clip.instruction for clip in asked]
        if self._config.augment:
            images, _ = augment(images, rng)
            texts = [vary(text, rng, config=self._config.wording) for text in texts]
        return _Slot(
            images,
            [self._encode(text) for text in texts],
            np.stack([clip.progress for clip in asked], 1),
            np.stack([clip.done for clip in asked], 1),
            further,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    """One pair of frames: ``(2, …)`` images, q sentences, ``(2, q)`` targets, ``(q,)`` order."""

    images: NDArray[np.uint8]
    tokens: list[list[int]]
    progress: NDArray[np.float32]
    done: NDArray[np.float32]
    further: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """What can be asked falsely about a clip.

    Attributes:
        near: Near misses of its instruction; empty where no word of it is known.
        foreign: Sentences about other things.
    """

    near: list[NearMiss]
    foreign: list[str]

    @classmethod
    def about(cls, instruction: str, others: set[str]) -> Sentences:
        """Make those of one instruction, the other instructions of the data among them."""
        bank = (*sorted(others - {instruction}), *sentence_bank())
        return cls(near=near_misses(instruction), foreign=foreign(instruction, bank))


class Mixed:
    """Several sources in every batch, for example new demonstrations and old data."""

    def __init__(self, sources: Sequence[BatchSource]) -> None:
        self._sources = sources

    @property
    def size(self) -> int:
        """Side of the images, pixels."""
        return self._sources[0].size

    def draw(self, number: int) -> Batch:
        """Return batch ``number`` of every source as one."""
        parts = [source.draw(number) for source in self._sources]
        longest = max(part.tokens.shape[2] for part in parts)
        return Batch(
            *(
                np.concatenate([_widened(getattr(part, name), longest) for part in parts])
                for name in Batch.__slots__
            )
        )


def mixed_source(
    examples: Sequence[Example],
    shards: Sequence[Shard],
    *,
    clips: BatchConfig,
    rollouts: BatchConfig,
    negatives: NegativeConfig,
    seed: int,
) -> MakeSource:
    """Return what makes batches of recorded episodes, and of rollouts where there are any.

    Args:
        examples: Recorded episodes.
        shards: Rollouts of the table-top suite; may be empty.
        clips: How the recorded ones are drawn; ``episodes`` counts clips.
        rollouts: How the rollouts are drawn; with no episodes they are left out.
        negatives: What is drawn of the recorded ones.
        seed: Decides everything.
    """

    def make(encode: Encode) -> BatchSource:
        recorded = EpisodeBatches(examples, encode, config=clips, negatives=negatives, seed=seed)
        if not shards or not rollouts.episodes:
            return recorded
        return Mixed([recorded, shard_source(shards, config=rollouts, seed=seed)(encode)])

    return make


def ranked_pairs(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Return (worse, better) indices of examples with the same instruction and unequal quality."""
    return [
        (i, j)
        for i, worse in enumerate(examples)
        for j, better in enumerate(examples)
        if worse.rank < better.rank and worse.clip.instruction == better.clip.instruction
    ]


def _widened(array: NDArray[np.generic], length: int) -> NDArray[np.generic]:
    if array.dtype != np.int64:
        return array
    return np.pad(array, ((0, 0), (0, 0), (0, length - array.shape[2])))
