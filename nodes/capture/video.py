"""Cameras, network streams and video files, through OpenCV."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Literal

from robo_reward.errors import DatasetError, DeviceError, require
from robo_reward.frames import Image

from .base import Pace, Shot, stamps

log = logging.getLogger(__name__)

OPEN_TIMEOUT_MS = 4000
READ_TIMEOUT_MS = 2000

Kind = Literal["device", "url", "file"]


def kind_of(source: str) -> Kind:
    """Tell a device (``0``, ``/dev/video0``), a URL and a file apart."""
    if source.isdigit() or source.startswith("/dev/"):
        return "device"
    return "url" if "://" in source else "file"


def without_password(source: str) -> str:
    """Return a source as it may stand in a log."""
    return re.sub(r"://[^@/]*@", "://", source)


class VideoCapture:
    """Reads a device, an RTSP or HTTP stream, or a file.

    A live source is always read as fast as it gives, whatever the rate: what is not wanted is
    thrown away here, because a driver's queue would make it old.

    Args:
        source: Device number or path, URL, or file.
        rate_hz: Images a second to give; 0 for the source's own rate.
        width: Width to ask a device for, pixels; 0 for its own.
        height: Height to ask a device for, pixels; 0 for its own.
        loop: Start a file again at its end.

    Raises:
        DeviceError: There is no such camera or stream.
        DatasetError: The file is not there or holds no video.
    """

    lossless = False

    def __init__(
        self,
        source: str,
        *,
        rate_hz: float = 0.0,
        width: int = 0,
        height: int = 0,
        loop: bool = False,
    ) -> None:
        self._cv2: Any = require("cv2", extra="camera")
        self.ended = False
        self.kind = kind_of(source)
        self._source = source
        self._shown = without_password(source)
        self._size = (width, height)
        self._loop = loop
        self._given = 0
        self._capture = self._open(rate_hz)
        own_hz = float(self._capture.get(self._cv2.CAP_PROP_FPS)) or 30.0
        self.rate_hz = rate_hz or (own_hz if self.kind == "file" else 0.0)
        self._pace = Pace(self.rate_hz)

    def read(self, *, timeout_s: float) -> Shot | None:
        """Return the next image; a live source blocks for up to its period (2 s at the most)."""
        if self.kind == "file":
            return self._read_file(timeout_s)
        if not self._capture.grab():
            raise DeviceError(f"{self._shown} gives no images any more; is it plugged in?")
        if not self._pace.due():
            return None
        mono_ns, wall_ns = stamps()  # decoding comes after and takes its time
        found, image = self._capture.retrieve()
        if not found:
            return None
        return Shot(image=self._rgb(image), mono_ns=mono_ns, wall_ns=wall_ns)

    def close(self) -> None:
        """Free the device. May be called twice."""
        self._capture.release()

    def _read_file(self, timeout_s: float) -> Shot | None:
        if not self._pace.wait(timeout_s=timeout_s):
            return None
        found, image = self._capture.read()
        if not found and self._loop and self._given:
            self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, 0)
            found, image = self._capture.read()
        if not found:
            if not self._given:
                raise DatasetError(f"{self._source} holds no image that can be read")
            self.ended = True
            return None
        self._given += 1
        return Shot(image=self._rgb(image))

    def _rgb(self, image: Any) -> Image:
        cv2 = self._cv2
        code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
        pixels: Image = cv2.cvtColor(image, code)
        return pixels

    def _open(self, rate_hz: float) -> Any:
        if self.kind == "device":
            return self._open_device(rate_hz)
        if self.kind == "file":
            return self._open_file()
        cv2 = self._cv2
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            READ_TIMEOUT_MS,
        ]
        capture = cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            raise DeviceError(
                f"no video at {self._shown}; is the camera on, and does the address work in a "
                "player (ffplay URL)?"
            )
        return capture

    def _open_device(self, rate_hz: float) -> Any:
        cv2 = self._cv2
        path = Path(f"/dev/video{self._source}" if self._source.isdigit() else self._source)
        if not path.exists():
            there = ", ".join(sorted(str(each) for each in Path("/dev").glob("video*"))) or "none"
            raise DeviceError(
                f"no camera {path}; cameras here: {there}; plug it in or choose another"
            )
        capture = cv2.VideoCapture(str(path), cv2.CAP_V4L2)
        if not capture.isOpened():
            raise DeviceError(
                f"{path} does not open; another program may use it, or this user is not in the "
                "group video"
            )
        # One frame in the driver, or every image is as old as its queue is long.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        for name, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, self._size[0]),
            (cv2.CAP_PROP_FRAME_HEIGHT, self._size[1]),
            (cv2.CAP_PROP_FPS, rate_hz),
        ):
            if value:
                capture.set(name, value)
        return capture

    def _open_file(self) -> Any:
        cv2 = self._cv2
        path = Path(self._source)
        if not path.is_file():
            raise DatasetError(f"no video file {path}; check the path")
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise DatasetError(f"{path} is not a video that OpenCV can read; convert it to mp4")
        return capture
