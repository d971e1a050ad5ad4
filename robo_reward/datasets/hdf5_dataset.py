"""HDF5 of robomimic, LIBERO and ALOHA as a dataset.

robomimic and LIBERO: ``data/demo_N/obs/<camera>`` in one file, actions, rewards and dones beside
it. ALOHA: one file an episode, ``observations/images/<camera>``, frames raw or as padded JPEG.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError, require
from robo_reward.frames import Frame, Image

from .formats import HDF5_SUFFIXES
from .recorded import Dataset, Files, Instant, Recorded, Truth

_SENTENCES = ("language_instruction", "instruction", "task_description", "language", "lang")
"""Names under which a sentence is looked for, in attributes, ``problem_info`` and datasets."""


@contextmanager
def open_file(path: Path, mode: str = "r") -> Iterator[Any]:
    """Open an HDF5 file.

    Raises:
        DatasetError: It is none, or it is broken.
        MissingDependency: h5py is not installed.
    """
    h5py: Any = require("h5py", extra="data")
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read as HDF5: {error}") from error
    try:
        yield file
    finally:
        file.close()


class Hdf5Episode(Recorded):
    """One demonstration.

    Attributes:
        path: The file.
        group: Name of the group that holds it, ``/`` for a file of its own.
    """

    def __init__(
        self, path: Path, group: str, *, id: str, index: int, length: int | None, instruction: str
    ) -> None:
        self.path = path
        self.group = group
        super().__init__(id=id, index=index, length=length, instruction=instruction)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the image datasets."""
        with open_file(self.path) as file:
            return tuple(images_of(file[self.group]))

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Read one frame after the other; the file is not held in memory."""
        with open_file(self.path) as file:
            known = images_of(file[self.group])
            flip = _is_upside_down(file)
            try:
                length = min(len(known[name]) for name in cameras)
                for index in range(-(-start // every) * every, length, every):
                    frames = tuple(
                        _frame(known[name][index], name, index, flip=flip) for name in cameras
                    )
                    yield Instant(index=index, frames=frames)
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                raise DatasetError(f"{self.path} {self.group}: {error}") from error

    def truth(self) -> Truth:
        """The simulator's rewards and dones, and the success they say."""
        with open_file(self.path) as file:
            group = file[self.group]
            rewards = _vector(group, "rewards", np.float64)
            dones = _vector(group, "dones", np.bool_)
            success = group.attrs.get("success")
        if success is None and rewards is not None and set(np.unique(rewards)) <= {0.0, 1.0}:
            # robomimic and LIBERO pay 1 where the goal holds; other rewards say nothing of it.
            success = bool(rewards.any())
        return Truth(
            success=None if success is None else bool(success), rewards=rewards, dones=dones
        )


class Hdf5Dataset(Dataset):
    """A file, or a folder of files.

    Raises:
        DatasetError: There is none, or it has no demonstrations.
    """

    kind = "hdf5"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.paths = [path] if path.is_file() else sorted(p for p in path.rglob("*") if is_hdf5(p))
        self._places: list[tuple[Path, str]] | None = None
        if not self.paths:
            raise DatasetError(f"{path} holds no HDF5 files")

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the demonstrations; a broken file is one episode that says so when it is read."""
        for index, (path, group) in enumerate(self._find()):
            name = path.relative_to(self.path).with_suffix("").as_posix() if self._many else ""
            leaf = group.rpartition("/")[2]
            id = "/".join(filter(None, (name, leaf))) or path.stem
            try:
                with open_file(path) as file:
                    length = _length(file[group])
                    text = _sentence(file, file[group])
            except (DatasetError, KeyError):
                length, text = None, ""
            yield Hdf5Episode(path, group, id=id, index=index, length=length, instruction=text)

    def __len__(self) -> int:
        """Number of demonstrations."""
        return len(self._find())

    def files(self) -> Files:
        """The HDF5 files."""
        return Files(self.path if self.path.is_dir() else self.path.parent, self.paths)

    @property
    def _many(self) -> bool:
        return self.path.is_dir()

    def _find(self) -> list[tuple[Path, str]]:
        if self._places is None:
            self._places = []
            for path in self.paths:
                try:
                    with open_file(path) as file:
                        self._places += [(path, group) for group in _groups(file)]
                except DatasetError:
                    if not self._many:
                        raise
                    self._places.append((path, "/"))
        return self._places


def is_hdf5(path: Path) -> bool:
    """Whether this is an HDF5 file by its name."""
    return path.suffix.lower() in HDF5_SUFFIXES and path.is_file()


def images_of(group: Any) -> dict[str, Any]:
    """Return camera → image dataset of a demonstration, in the order of their names.

    Raises:
        DatasetError: There are none.
    """
    for place in ("obs", "observations/images", "observations"):
        if place in group:
            found = {
                name: group[place][name]
                for name in sorted(group[place])
                if _is_images(group[place][name])
            }
            if found:
                return found
    raise DatasetError(f"{group.file.filename} {group.name} holds no images")


def _is_images(node: Any) -> bool:
    shape: tuple[int, ...] = getattr(node, "shape", ())
    if getattr(node, "dtype", None) != np.uint8:
        return False
    # (T, H, W, 3) pixels, or (T, bytes) of JPEG.
    return (len(shape) == 4 and shape[3] == 3) or (len(shape) == 2 and shape[1] > 100)


def _groups(file: Any) -> list[str]:
    if "data" in file and hasattr(file["data"], "keys"):
        names = [name for name in file["data"] if hasattr(file["data"][name], "keys")]
        if names:
            return [f"/data/{name}" for name in sorted(names, key=_natural)]
    return ["/"]


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _length(group: Any) -> int | None:
    try:
        return min(len(node) for node in images_of(group).values())
    except DatasetError:
        return None


def _sentence(file: Any, group: Any) -> str:
    """Return what was asked, from wherever these formats and their forks keep it."""
    holders = [group, file]
    if "data" in file:
        holders.insert(1, file["data"])
    for holder in holders:
        plain = {name: holder.attrs[name] for name in holder.attrs}
        with_info = {**_json(plain.get("problem_info")), **plain}
        for name in _SENTENCES:
            text = _text(with_info.get(name))
            if not text and name in holder and getattr(holder[name], "shape", None) in ((), (1,)):
                text = _text(np.ravel(holder[name][()])[0])
            if text:
                return text
    return ""


def _json(value: object) -> dict[str, Any]:
    try:
        plain = json.loads(_text(value) or "{}")
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}


def _text(value: object) -> str:
    if isinstance(value, (list, tuple, np.ndarray)) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return value.strip().strip('"') if isinstance(value, str) else ""


def _is_upside_down(file: Any) -> bool:
    # OpenGL's first row is the lowest one; LIBERO stores images like that and says so.
    holder = file.get("data", file)
    return _text(holder.attrs.get("macros_image_convention")) == "opengl"


def _frame(row: NDArray[np.uint8], camera: str, index: int, *, flip: bool) -> Frame:
    image: Image = _decoded(row) if row.ndim == 1 else row
    if flip:
        image = np.ascontiguousarray(image[::-1])
    return Frame.of(image, camera=camera, sequence=index, mono_ns=0, wall_ns=0)


def _decoded(row: NDArray[np.uint8]) -> Image:
    import simplejpeg

    # Padded with zeros to the longest frame; a decoder stops at the end marker.
    decoded: Image = simplejpeg.decode_jpeg(row.tobytes(), colorspace="RGB")
    return decoded


def _vector(group: Any, name: str, kind: type[Any]) -> NDArray[Any] | None:
    node = group.get(name)
    if node is None or getattr(node, "ndim", 0) != 1:
        return None
    return np.asarray(node[()]).astype(kind)
