"""Episodes made ready to train on: small square images with the labels of every frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.clips import spread_places
from robo_reward.datasets.episode import QUALITY_RANK, Episode, Quality
from robo_reward.errors import DatasetError
from robo_reward.models.compact import fit_square
from robo_reward.task import check_instruction

from .negatives import LabelledClip, whole

MAX_FRAMES = 160
"""Frames kept of one episode, evenly spread: a longer one holds many that look alike."""
MIN_FRAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One camera's view of one episode.

    Attributes:
        episode: Id of the episode.
        images: ``(T, S, S, 3) uint8``.
        clip: Labels of these T frames; its ``frames`` are indices into ``images``.
        rank: 0 for a failure, 1 for a suboptimal success, 2 for a success.
        told: Counterfactual instructions with their truth on the same frames, where the recorder
            knew it.
    """

    episode: str
    images: NDArray[np.uint8]
    clip: LabelledClip
    rank: int
    told: tuple[LabelledClip, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it is known to have failed."""
        return self.rank == 0

    def only(self, places: NDArray[np.int64]) -> Example:
        """Return the example with these frames of it."""
        return replace(
            self,
            images=self.images[places],
            clip=_renumbered(self.clip, places),
            told=tuple(_renumbered(one, places) for one in self.told),
        )


def prepare(
    episodes: Iterable[Episode], *, size: int, cameras: Sequence[str] = ()
) -> list[Example]:
    """Label and shrink episodes, each camera an example of its own.

    Args:
        episodes: Recordings; one of unknown outcome is taken for a demonstration.
        size: Side of the images that the network takes, pixels.
        cameras: Which to take; all of them when empty.

    Raises:
        DatasetError: An episode is too short, or has none of the cameras.
        InstructionError: An episode has no instruction.
    """
    found = []
    for episode in episodes:
        text = check_instruction(episode.instruction)
        if len(episode) < MIN_FRAMES:
            raise DatasetError(
                f"episode {episode.id} has {len(episode)} frames, {MIN_FRAMES} are needed; "
                "record more, or leave it out"
            )
        names = [name for name in episode.images if not cameras or name in cameras]
        if not names:
            raise DatasetError(
                f"episode {episode.id} has cameras {', '.join(episode.images)}, "
                f"none of {', '.join(cameras)}"
            )
        places = spread_places(len(episode), count=MAX_FRAMES)
        clip = replace(_renumbered(whole(episode), places), instruction=text)
        told = tuple(_renumbered(one, places) for one in _told(episode))
        rank = QUALITY_RANK["success" if episode.success is None else _quality(episode)]
        for name in names:
            frames = episode.images[name]
            images = np.stack([fit_square(frames[place], size) for place in places])
            found.append(
                Example(episode=episode.id, images=images, clip=clip, rank=rank, told=told)
            )
    return found


def data_hash(examples: Sequence[Example]) -> str:
    """Hash of all that is learned from: pixels, sentences and labels."""
    digest = hashlib.blake2b(digest_size=8)
    for example in examples:
        digest.update(example.clip.instruction.encode())
        for array in (example.images, example.clip.progress, example.clip.done):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _renumbered(clip: LabelledClip, places: NDArray[np.int64]) -> LabelledClip:
    """Keep some frames, and count them anew."""
    return replace(clip.at(places), frames=np.arange(len(places)))


def _told(episode: Episode) -> list[LabelledClip]:
    """Read ``meta["counterfactuals"]``: rows of instruction, progress and done of every frame."""
    return [
        LabelledClip(
            frames=np.arange(len(episode)),
            instruction=str(row["instruction"]),
            progress=np.asarray(row["progress"], np.float32),
            done=np.asarray(row["done"], np.float32),
        )
        for row in episode.meta.get("counterfactuals") or ()
    ]


def _quality(episode: Episode) -> Quality:
    if episode.quality is not None:
        return episode.quality
    return "success" if episode.success else "failure"
