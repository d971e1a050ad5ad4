"""Labelled frames for small heads on frozen features, from any recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robo_reward.datasets.episode import Episode
from robo_reward.models.frozen_features import FrozenFeatures

from .augment import augment
from .examples import Example, prepare

PILES = {"success": True, "failure": False}
"""Folders of loose pictures by these names hold labelled frames, no episodes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramePool:
    """Frames of many episodes with their labels.

    Attributes:
        images: ``(n, S, S, 3) uint8``.
        texts: Sentence of each frame, n of them.
        episodes: Id of the episode of each frame.
        progress: ``(n,) float32``, NaN where unknown.
        done: ``(n,) float32``, 0 or 1, NaN where unknown.
    """

    images: NDArray[np.uint8]
    texts: list[str]
    episodes: list[str]
    progress: NDArray[np.float32]
    done: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of frames n."""
        return len(self.images)

    def at(self, places: NDArray[np.int64]) -> FramePool:
        """Return the pool of these frames, in this order."""
        return FramePool(
            images=self.images[places],
            texts=[self.texts[place] for place in places],
            episodes=[self.episodes[place] for place in places],
            progress=self.progress[places],
            done=self.done[places],
        )


def read_examples(
    episodes: Iterable[Episode], *, size: int, cameras: Sequence[str] = ()
) -> list[Example]:
    """Label and shrink recordings as ``examples.prepare`` does, and piles of labelled pictures."""
    return prepare(_piles_told(episodes), size=size, cameras=cameras)


def pool(examples: Sequence[Example], *, told: bool = False) -> FramePool:
    """Put the frames of some examples together.

    Args:
        examples: Where from.
        told: Whether the frames come again under every other sentence whose truth the recorder
            knew; for features that read sentences.
    """
    if told:
        others = [replace(one, clip=clip) for one in examples for clip in one.told]
        examples = [*examples, *others]
    lengths = [len(example.clip) for example in examples]
    return FramePool(
        images=np.concatenate([example.images for example in examples]),
        texts=[
            example.clip.instruction
            for example, n in zip(examples, lengths, strict=True)
            for _ in range(n)
        ],
        episodes=[
            example.episode for example, n in zip(examples, lengths, strict=True) for _ in range(n)
        ],
        progress=np.concatenate([example.clip.progress for example in examples]),
        done=np.concatenate([example.clip.done for example in examples]),
    )


def varied_vectors(
    features: FrozenFeatures, frames: FramePool, *, copies: int, seed: int
) -> Tensor:
    """Return the frozen vectors of frames as they are and varied, ``(1 + copies, n, width)``.

    A frozen encoder is asked once per picture, so pictures are varied before the training and not
    during it.
    """
    rng = np.random.default_rng([seed, 23])
    found = [_vectors(features, frames.images, frames.texts)]
    for _ in range(copies):
        images = np.concatenate([augment(image[None], rng)[0] for image in frames.images])
        found.append(_vectors(features, images, frames.texts))
    return torch.stack(found)


def _vectors(features: FrozenFeatures, images: NDArray[np.uint8], texts: Sequence[str]) -> Tensor:
    return features.vectors(features.encode(list(images)), texts).cpu().clone()


def _piles_told(episodes: Iterable[Episode]) -> Iterator[Episode]:
    """Label the pictures of folders ``success`` and ``failure``; anything else stays as it is."""
    for episode in episodes:
        done = PILES.get(episode.id)
        if done is None or episode.done is not None or episode.success is not None:
            yield episode
        else:
            unknown = np.full(len(episode), np.nan, np.float32)
            yield replace(
                episode,
                success=done,
                done=np.full(len(episode), done),
                progress=unknown,
            )
