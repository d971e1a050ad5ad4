"""Episodes from a path: recordings of the recorder, a video, images, or a folder of those."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robo_reward.errors import DatasetError

from .episode import Episode
from .log_reader import LogReader
from .video import IMAGE_SUFFIXES, read_video

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif"})


def open_episodes(path: Path, *, instruction: str = "", every: int = 1) -> Iterator[Episode]:
    """Read the episodes of a file or folder, one at a time, in the order of their names.

    Args:
        path: A recording (``.mcap``), a video, a folder of images (one episode), or a folder that
            holds recordings, or videos and folders of images.
        instruction: For episodes that bring none; a video never does.
        every: Of a video or of images, take each n-th frame only.

    Raises:
        DatasetError: There is nothing that can be read, or a file is broken.
        ConfigError: ``every`` makes no sense.
    """
    if not path.exists():
        raise DatasetError(f"no dataset {path}; give recordings, a video, or a folder of them")
    if _is_recording(path) or (path.is_dir() and any(_is_recording(p) for p in path.iterdir())):
        return iter(LogReader(path, instruction=instruction))
    if path.is_file() or _is_film(path):
        films = [path]  # a file that is no video is refused by the reader, with the reason
    else:
        films = sorted(p for p in path.iterdir() if _is_film(p))
    if not films:
        raise DatasetError(f"{path} holds no recordings (*.mcap), no videos and no images")
    return (_film(film, instruction=instruction, every=every) for film in films)


def _is_recording(path: Path) -> bool:
    return path.is_file() and ".mcap" in path.suffixes


def _is_film(path: Path) -> bool:
    if path.is_dir():
        return any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir())
    return path.suffix.lower() in VIDEO_SUFFIXES


def _film(path: Path, *, instruction: str, every: int) -> Episode:
    images = [frame.image for frame in read_video(path, every=every)]
    if len({image.shape for image in images}) > 1:
        raise DatasetError(f"{path} holds images of different sizes")
    return Episode(id=path.name, instruction=instruction, images={"video": np.stack(images)})
