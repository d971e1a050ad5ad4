"""Video files and folders of images as a dataset: each is one episode of one camera."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from robo_reward.errors import DatasetError
from robo_reward.frames import Frame

from .recorded import Dataset, Files, Instant, Recorded
from .video import IMAGE_SUFFIXES, count_frames, read_video

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif"})
CAMERA = "video"


class VideoEpisode(Recorded):
    """A video file, or a folder of images in the order of their names."""

    def __init__(self, path: Path, *, index: int) -> None:
        self.path = path
        length = len(_images(path)) if path.is_dir() else None
        super().__init__(id=path.name, index=index, length=length)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The one there is."""
        return (CAMERA,)

    def guess_length(self) -> int:
        """What the container says, which may be wrong; 0 where it says nothing."""
        return count_frames(self.path)

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Decode the frames, in order."""
        for read in read_video(self.path, every=every):
            if read.index < start:
                continue
            stamp = None if math.isnan(read.time_s) else round(read.time_s * 1e9)
            frame = Frame.of(
                read.image,
                camera=CAMERA,
                sequence=read.index,
                mono_ns=stamp or 0,
                wall_ns=stamp or 0,
            )
            yield Instant(index=read.index, frames=(frame,), stamp_ns=stamp)


class VideoDataset(Dataset):
    """One video, one folder of images, or a folder that holds such.

    Raises:
        DatasetError: There is nothing of the kind.
    """

    kind = "video"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.is_file() or is_film(path):
            self._films = [path]  # a file that is no video is refused when it is read
        else:
            self._films = sorted(p for p in path.iterdir() if is_film(p))
        if not self._films:
            raise DatasetError(f"{path} holds no recordings (*.mcap), no videos and no images")

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the films without opening them."""
        return (VideoEpisode(path, index=index) for index, path in enumerate(self._films))

    def __len__(self) -> int:
        """Number of films."""
        return len(self._films)

    def files(self) -> Files:
        """The videos and images."""
        paths = []
        for film in self._films:
            paths.extend(_images(film) if film.is_dir() else [film])
        return Files(self.path if self.path.is_dir() else self.path.parent, paths)


def is_film(path: Path) -> bool:
    """Whether this is a video by its name, or a folder that holds images."""
    if path.is_dir():
        return any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir())
    return path.suffix.lower() in VIDEO_SUFFIXES


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
