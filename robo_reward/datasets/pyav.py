"""Frames of a video between two times, through PyAV: it also reads AV1, as LeRobot stores it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robo_reward.errors import DatasetError, require
from robo_reward.frames import Image


def read_frames(path: Path, *, start_s: float = 0.0) -> Iterator[tuple[float, Image]]:
    """Decode from a time on.

    Args:
        path: The video.
        start_s: Time of the first frame to give, seconds; the key frame before it is sought.

    Yields:
        Time in the video, seconds, and the frame, ``(H, W, 3) uint8 RGB``.

    Raises:
        DatasetError: It cannot be read.
        MissingDependency: PyAV is not installed.
    """
    av: Any = require("av", extra="data")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # the readers are threads already
            if start_s > 0:
                container.seek(int(start_s / stream.time_base), stream=stream, backward=True)
            # Half a frame of tolerance: times in tables are rounded.
            slack = 0.5 / float(stream.average_rate or 30)
            for frame in container.decode(stream):
                time_s = float(frame.pts * stream.time_base)
                if time_s >= start_s - slack:
                    yield time_s, frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DatasetError(f"{path} cannot be decoded: {error}") from error
