"""A dataset as a sequence of episodes that are not read before they are asked for.

Every format has one reader, and this is what all of them give. Frames are streamed: neither a
dataset nor an episode is ever held as a whole, unless ``load`` asks for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError, did_you_mean
from robo_reward.frames import Frame

from .episode import Episode
from .fingerprint import fingerprint_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instant:
    """What the cameras show at one frame of an episode.

    Attributes:
        index: Number of the frame in the episode, counted from 0.
        frames: One per camera, in the order that was asked for.
        stamp_ns: When, on the clock of the recording, nanoseconds; ``None`` where it has none.
    """

    index: int
    frames: tuple[Frame, ...]
    stamp_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What the recording itself says of an episode: a simulator's reward, a human's flag.

    Attributes:
        success: Whether the goal is reached at the end; ``None`` where nobody said so.
        rewards: Of the transitions, ``(n,) float64``, or ``None``.
        dones: Whether the goal held, or the episode ended, after each transition, ``(n,) bool``.
    """

    success: bool | None = None
    rewards: NDArray[np.float64] | None = None
    dones: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of an episode with a sentence of its own.

    Attributes:
        start: First frame.
        stop: The frame behind the last one.
        instruction: What the robot was asked to do in it.
    """

    start: int
    stop: int
    instruction: str


class Recorded(ABC):
    """One episode of a dataset.

    Attributes:
        id: Unique within the dataset.
        index: Its place in the dataset, counted from 0.
        length: Number of frames where that is known without decoding, else ``None``.
    """

    def __init__(
        self,
        *,
        id: str,
        index: int,
        length: int | None = None,
        instruction: str = "",
        segments: Sequence[Segment] = (),
    ) -> None:
        self.id = id
        self.index = index
        self.length = length
        self._instruction = instruction
        self._segments = tuple(segments)

    @property
    def instruction(self) -> str:
        """What the recording says that was asked; empty where it says nothing.

        Raises:
            DatasetError: It cannot be read.
        """
        return self._instruction

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Sentences of parts of the episode, where the recording has such."""
        return self._segments

    @property
    @abstractmethod
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras; may open the file.

        Raises:
            DatasetError: It cannot be read.
        """

    @abstractmethod
    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Decode the frames of these cameras, in order.

        Args:
            cameras: Names from ``cameras``.
            every: Give frames 0, n, 2n, … only.
            start: Give no frame before this number.

        Raises:
            DatasetError: The recording is broken; frames before that were given already.
        """

    def truth(self) -> Truth:
        """What the recording says of success and reward; nothing by default."""
        return Truth()

    def choose(self, cameras: Sequence[str], *, limit: int) -> tuple[str, ...]:
        """Return the cameras to use: those named, or the first ``limit`` ones.

        Raises:
            DatasetError: The episode lacks one, or has none at all.
        """
        known = self.cameras
        if not known:
            raise DatasetError(f"episode {self.id} has no camera")
        absent = [name for name in cameras if name not in known]
        if absent:
            raise DatasetError(
                f"episode {self.id} has no camera {absent[0]!r}; {did_you_mean(absent[0], known)}"
            )
        return tuple(cameras) or known[:limit]

    def load(self, *, every: int = 1) -> Episode:
        """Read the whole episode into memory.

        Raises:
            DatasetError: It cannot be read, or a camera changes its size.
        """
        cameras = self.choose((), limit=len(self.cameras))
        rows = [instant.frames for instant in self.instants(cameras, every=every)]
        if not rows:
            raise DatasetError(f"episode {self.id} holds no frames")
        images = {}
        for place, camera in enumerate(cameras):
            shots = [row[place].image for row in rows]
            if len({shot.shape for shot in shots}) > 1:
                raise DatasetError(f"{self.id} holds images of different sizes")
            images[camera] = np.stack(shots)
        return Episode(
            id=self.id,
            instruction=self.instruction,
            images=images,
            success=self.truth().success,
        )


@dataclass(slots=True)
class Files:
    """The files that a dataset is made of.

    Attributes:
        root: Folder that their names are relative to.
        paths: In a fixed order.
    """

    root: Path
    paths: list[Path] = field(default_factory=list)


class Dataset(ABC):
    """Episodes in a fixed order.

    Attributes:
        kind: Name of the format.
        path: Where it is.
    """

    kind: str

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def __iter__(self) -> Iterator[Recorded]:
        """Yield the episodes without reading them."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of episodes."""

    @abstractmethod
    def files(self) -> Files:
        """The files that it is made of."""

    def fingerprint(self) -> str:
        """Name the dataset by what is in it, 32 hex digits; see ``fingerprint_of``."""
        files = self.files()
        return fingerprint_of(files.root, files.paths)

    def facts(self) -> dict[str, Any]:
        """Return plain values that a report may show: robot, rate, …; nothing by default."""
        return {}
