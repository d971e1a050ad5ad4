"""RLDS episodes (Open X-Embodiment): TFRecord files as tensorflow_datasets lays them out.

A record is one episode; ``steps/…`` hold the values of all its steps one after the other. Images
are lists of JPEG or PNG, recognised by their first bytes; so neither TensorFlow nor the
``features.json`` beside the files is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.errors import DatasetError, require
from robo_reward.frames import Frame, Image

from .recorded import Dataset, Files, Instant, Recorded, Truth
from .tfrecord import Values, find_records, read_example

STEPS = "steps/"
_SENTENCES = ("language_instruction", "natural_language_instruction", "instruction", "task")
_PICTURES = (b"\xff\xd8", b"\x89PNG")


class RldsEpisode(Recorded):
    """One record.

    Attributes:
        path: File that holds it.
        number: Number of the record in the file.
        place: Offset and length of its data.
    """

    def __init__(
        self, path: Path, number: int, place: tuple[int, int], *, id: str, index: int
    ) -> None:
        self.path = path
        self.number = number
        self.place = place
        super().__init__(id=id, index=index)

    @property
    def instruction(self) -> str:
        """The sentence of the first step, or of the episode."""
        for name in _SENTENCES:
            for key, values in self._features.items():
                # The last part of the name: it may stand in the observation or beside it.
                if key.rpartition("/")[2] == name and isinstance(values, list) and values:
                    return values[0].decode("utf-8", errors="replace").strip()
        return ""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the features that are lists of pictures, one a step."""
        length = self._steps
        return tuple(
            sorted(
                key.removeprefix(STEPS).removeprefix("observation/")
                for key, values in self._features.items()
                if isinstance(values, list) and len(values) == length and _is_picture(values[0])
            )
        )

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Decode the pictures, step by step."""
        lists = [self._pictures(name) for name in cameras]
        for index in range(-(-start // every) * every, min(map(len, lists)), every):
            frames = tuple(
                Frame.of(
                    _decoded(pictures[index], self.id),
                    camera=name,
                    sequence=index,
                    mono_ns=0,
                    wall_ns=0,
                )
                for name, pictures in zip(cameras, lists, strict=True)
            )
            yield Instant(index=index, frames=frames)

    def truth(self) -> Truth:
        """``reward`` and ``is_terminal`` of the steps."""
        rewards = self._features.get(f"{STEPS}reward")
        dones = self._features.get(f"{STEPS}is_terminal")
        paid = None if rewards is None else np.asarray(rewards, np.float64)
        success = None
        if paid is not None and len(paid) and set(np.unique(paid)) == {0.0, 1.0}:
            success = True  # all zeros is what a dataset without rewards has
        return Truth(
            success=success,
            rewards=paid,
            dones=None if dones is None else np.asarray(dones, bool),
        )

    @cached_property
    def _features(self) -> dict[str, Values]:
        offset, length = self.place
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                return read_example(file.read(length))
        except (DatasetError, OSError) as error:
            raise DatasetError(f"{self.path}, record {self.number}: {error}") from error

    @cached_property
    def _steps(self) -> int:
        for name in ("is_first", "is_last", "is_terminal", "reward"):
            values = self._features.get(f"{STEPS}{name}")
            if values is not None and len(values):
                return len(values)
        raise DatasetError(f"{self.path}, record {self.number} holds no steps")

    def _pictures(self, camera: str) -> list[bytes]:
        for key in (f"{STEPS}observation/{camera}", f"{STEPS}{camera}", camera):
            values = self._features.get(key)
            if isinstance(values, list):
                return values
        raise DatasetError(f"episode {self.id} has no camera {camera!r}")


class RldsDataset(Dataset):
    """A folder of ``*.tfrecord*`` files, or one such file.

    Raises:
        DatasetError: There is none.
    """

    kind = "rlds"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        found = [path] if path.is_file() else [p for p in path.rglob("*") if is_tfrecord(p)]
        self.paths = sorted(found)
        if not self.paths:
            raise DatasetError(f"{path} holds no TFRecord files")

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the episodes without reading them."""
        index = 0
        for path in self.paths:
            number = -1
            try:
                for number, place in enumerate(find_records(path)):
                    yield RldsEpisode(path, number, place, id=f"{path.name}#{number}", index=index)
                    index += 1
            except DatasetError as error:
                # The rest of this file is lost; it counts as one episode that cannot be read.
                yield _Broken(error, id=f"{path.name}#{number + 1}", index=index)
                index += 1

    def __len__(self) -> int:
        """Number of records."""
        return sum(1 for _ in self)

    def files(self) -> Files:
        """The TFRecord files."""
        return Files(self.path if self.path.is_dir() else self.path.parent, self.paths)


class _Broken(Recorded):
    """Where a file cannot be read any further."""

    def __init__(self, error: DatasetError, *, id: str, index: int) -> None:
        self._error = error
        super().__init__(id=id, index=index)

    @property
    def instruction(self) -> str:
        """Raise why."""
        raise self._error

    @property
    def cameras(self) -> tuple[str, ...]:
        """Raise why."""
        raise self._error

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Raise why."""
        raise self._error


def is_tfrecord(path: Path) -> bool:
    """Whether its name is that of a TFRecord file: ``x.tfrecord-00000-of-00002``."""
    return ".tfrecord" in path.name and path.is_file()


def _is_picture(data: bytes) -> bool:
    return data.startswith(_PICTURES)


def _decoded(data: bytes, id: str) -> Image:
    if data.startswith(b"\xff\xd8"):
        import simplejpeg

        try:
            image: Image = simplejpeg.decode_jpeg(data, colorspace="RGB")
        except ValueError as error:
            raise DatasetError(f"episode {id}: a JPEG that cannot be read: {error}") from error
        return image
    pil: Any = require("PIL.Image", extra="viz")
    try:
        return np.asarray(pil.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise DatasetError(f"episode {id}: a picture that cannot be read: {error}") from error
