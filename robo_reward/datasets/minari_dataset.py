"""Minari datasets: pixels among the observations, or in a file beside them.

Beside a dataset whose observations hold no images may lie, in its folder, ``pixels.hdf5`` with
``episode_N`` or ``episode_N/<camera>`` of ``(T, H, W, 3) uint8``, or ``videos/episode_N.mp4`` or
``videos/<camera>/episode_N.mp4``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.errors import DatasetError, require
from robo_reward.frames import Frame, Image

from .hdf5_dataset import open_file
from .recorded import Dataset, Files, Instant, Recorded, Truth
from .video import read_video

PIXELS = "pixels.hdf5"
VIDEOS = "videos"
_SENTENCES = ("mission", "instruction", "language", "task")


class MinariEpisode(Recorded):
    """One episode; read through Minari, alone.

    Attributes:
        number: Its number in the dataset.
    """

    def __init__(self, owner: MinariDataset, number: int, *, steps: int) -> None:
        self.number = number
        self._owner = owner
        self._steps = steps
        super().__init__(id=f"episode_{number}", index=number, length=steps + 1)

    @property
    def instruction(self) -> str:
        """The mission text among the observations, or nothing."""
        observations = self._data["observations"]
        if isinstance(observations, Mapping):
            for name in _SENTENCES:
                value = observations.get(name)
                if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
                    return str(value[0])
        return ""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Observations that are images, or what lies beside them."""
        return tuple(images_in(self._data["observations"])) or self._owner.beside(self.number)

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Yield the frames of the states, that of the reset first."""
        within = images_in(self._data["observations"])
        if set(cameras) <= set(within):
            length = min(len(within[name]) for name in cameras)
            for index in range(-(-start // every) * every, length, every):
                yield _instant(index, cameras, [within[name][index] for name in cameras])
            return
        streams = [self._owner.frames_beside(self.number, name) for name in cameras]
        for index, images in enumerate(zip(*streams, strict=False)):
            if index >= start and index % every == 0:
                yield _instant(index, cameras, images)

    def truth(self) -> Truth:
        """The environment's rewards and terminations; success where ``infos`` tell it."""
        data = self._data
        infos = data["infos"] or {}
        told = next((infos[name] for name in ("success", "is_success") if name in infos), None)
        return Truth(
            success=None if told is None else bool(np.any(np.asarray(told))),
            rewards=np.asarray(data["rewards"], np.float64),
            dones=np.asarray(data["terminations"], bool),
        )

    @cached_property
    def _data(self) -> dict[str, Any]:
        try:
            (data,) = self._owner.storage.get_episodes([self.number])
        except Exception as error:  # what the storage's libraries raise on broken files
            raise DatasetError(f"{self.id} cannot be read: {error}") from error
        found: dict[str, Any] = data
        return found


class MinariDataset(Dataset):
    """A folder with ``data/metadata.json``, or that ``data`` itself.

    Raises:
        DatasetError: It cannot be read.
        MissingDependency: minari is not installed.
    """

    kind = "minari"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.data = path / "data" if (path / "data" / "metadata.json").is_file() else path
        minari: Any = require("minari", extra="data")
        try:
            self.storage = minari.MinariDataset(str(self.data)).storage
        except Exception as error:  # Minari raises what it likes on broken metadata
            raise DatasetError(f"{path} cannot be read as a Minari dataset: {error}") from error

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the episodes without reading them."""
        about = self.storage.get_episode_metadata(range(len(self)))
        for number, known in enumerate(about):
            yield MinariEpisode(self, number, steps=int(known["total_steps"]))

    def __len__(self) -> int:
        """Number of episodes."""
        return int(self.storage.total_episodes)

    def files(self) -> Files:
        """Data, and pixels beside them."""
        found = [p for p in self.data.rglob("*") if p.is_file()]
        for folder in self._around:
            found += [p for p in (folder / PIXELS,) if p.is_file()]
            found += [p for p in (folder / VIDEOS).rglob("*") if p.is_file()]
        return Files(self.path, sorted(set(found)))

    def beside(self, number: int) -> tuple[str, ...]:
        """Return the cameras of an episode in the files beside the data."""
        name = f"episode_{number}"
        for folder in self._around:
            if (folder / PIXELS).is_file():
                with open_file(folder / PIXELS) as file:
                    node = file.get(name)
                    if node is not None:
                        return tuple(sorted(node)) if hasattr(node, "keys") else ("pixels",)
            videos = folder / VIDEOS
            if (videos / f"{name}.mp4").is_file():
                return ("pixels",)
            if found := sorted(p.parent.name for p in videos.glob(f"*/{name}.mp4")):
                return tuple(found)
        return ()

    def frames_beside(self, number: int, camera: str) -> Iterator[Image]:
        """Decode a camera of an episode from the files beside the data."""
        name = f"episode_{number}"
        for folder in self._around:
            if (folder / PIXELS).is_file():
                with open_file(folder / PIXELS) as file:
                    node = file[name]
                    images = node[camera] if hasattr(node, "keys") else node
                    for index in range(len(images)):
                        yield images[index]
                return
            for path in (
                folder / VIDEOS / f"{name}.mp4",
                folder / VIDEOS / camera / f"{name}.mp4",
            ):
                if path.is_file():
                    yield from (read.image for read in read_video(path))
                    return

    @property
    def _around(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.path, self.data, self.data.parent)))


def is_minari(path: Path) -> bool:
    """Whether this is a folder as Minari writes it."""
    for folder in (path / "data", path):
        try:
            known = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return isinstance(known, dict) and "minari_version" in known
    return False


def images_in(observations: Any, prefix: str = "") -> dict[str, Any]:
    """Return camera → ``(T, H, W, 3) uint8`` of nested observations."""
    if isinstance(observations, Mapping):
        found: dict[str, Any] = {}
        for name, value in observations.items():
            found |= images_in(value, f"{prefix}/{name}" if prefix else str(name))
        return found
    shape: tuple[int, ...] = getattr(observations, "shape", ())
    if len(shape) == 4 and shape[3] == 3 and observations.dtype == np.uint8:
        return {prefix or "pixels": observations}
    return {}


def _instant(index: int, cameras: Sequence[str], images: Sequence[Image]) -> Instant:
    frames = tuple(
        Frame.of(image, camera=name, sequence=index, mono_ns=0, wall_ns=0)
        for name, image in zip(cameras, images, strict=True)
    )
    return Instant(index=index, frames=frames)
