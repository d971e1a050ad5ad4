"""Video files and folders of images, read frame by frame through OpenCV."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robo_reward.errors import ConfigError, DatasetError, require
from robo_reward.frames import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrame:
    """One frame of a video.

    Attributes:
        index: Number in the file, counted from 0.
        time_s: Time in the video, seconds; NaN for a folder of images, which has no clock.
        image: ``(H, W, 3) uint8 RGB``.
    """

    index: int
    time_s: float
    image: Image


def read_video(path: str | Path, *, every: int = 1, start: int = 0) -> Iterator[VideoFrame]:
    """Read a video file or a folder of images, one frame at a time.

    The path and the first frame are checked here, before anything is asked of the result.

    Args:
        path: A file that FFmpeg reads, or a folder of images in the order of their names, numbers
            in them counted as numbers.
        every: Give each n-th frame only.
        start: Number of the first frame to give.

    Raises:
        ConfigError: ``every`` or ``start`` makes no sense.
        DatasetError: There is no such file, or no picture can be read from it.
        MissingDependency: OpenCV is not installed.
    """
    if every < 1 or start < 0:
        raise ConfigError(f"every must be >= 1 and start >= 0, got {every} and {start}")
    source = Path(path)
    if not source.exists():
        raise DatasetError(f"no video {source}; give a video file or a folder of images")
    cv2 = _opencv()
    frames = _from_folder(cv2, source) if source.is_dir() else _from_file(cv2, source)
    chosen = (f for f in frames if f.index >= start and (f.index - start) % every == 0)
    first = next(chosen, None)
    if first is None:
        raise DatasetError(f"{source} holds no frame at or after number {start}")
    return _chain(first, chosen)


def read_image(path: str | Path) -> Image:
    """Read one image, ``(H, W, 3) uint8 RGB``.

    Raises:
        DatasetError: There is none, or it cannot be read.
        MissingDependency: OpenCV is not installed.
    """
    if not Path(path).is_file():
        raise DatasetError(f"no image {path}; give the path of one")
    return _from_image(_opencv(), Path(path))


def count_frames(path: str | Path) -> int:
    """Return how many frames there seem to be, without decoding; 0 where nobody knows.

    A container may say too much: this is for progress bars.
    """
    source = Path(path)
    if source.is_dir():
        return len(_images_in(source))
    cv2 = _opencv()
    capture = cv2.VideoCapture(str(source))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def _opencv() -> Any:
    # FFmpeg would write its own complaints to stderr; ours say what to do.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    return require("cv2", extra="camera")


def _chain(first: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield first
    yield from rest


def _from_file(cv2: Any, path: Path) -> Iterator[VideoFrame]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DatasetError(
                f"{path} is not a video that OpenCV can read ({path.stat().st_size} bytes); "
                f'try: ffmpeg -i "{path}" -c:v libx264 fixed.mp4'
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        index = 0
        while True:
            good, image = capture.read()
            if not good:
                break
            time_s = index / rate if rate > 0 else math.nan
            yield VideoFrame(index=index, time_s=time_s, image=_rgb(cv2, image))
            index += 1
    finally:
        capture.release()
    if index == 0:
        raise DatasetError(f"{path} opens as a video, but no picture can be decoded from it")
    # Containers are often wrong by a few frames; half of them missing is a broken file.
    if promised > 2 * index:
        _log.warning(
            "%s: %d of %d frames could be decoded, the rest is lost", path, index, promised
        )


def _from_folder(cv2: Any, folder: Path) -> Iterator[VideoFrame]:
    names = _images_in(folder)
    if not names:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise DatasetError(f"{folder} holds no images; the names must end in one of {kinds}")
    for index, name in enumerate(names):
        yield VideoFrame(index=index, time_s=math.nan, image=_from_image(cv2, name))


def _from_image(cv2: Any, path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path} cannot be read as an image; remove it or write it anew")
    return _rgb(cv2, image)


def _rgb(cv2: Any, image: Any) -> Image:
    converted: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return converted


def _images_in(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
