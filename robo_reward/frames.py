"""A frame: one image of one camera, its header, and the hash that names it everywhere."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError

Image = NDArray[np.uint8]
"""An image, ``(H, W, 3) uint8 RGB``."""

Encoding = Literal["rgb8", "jpeg"]
"""How ``Frame.data`` is to be read; the names are those of ROS ``sensor_msgs``."""

HASH_BYTES = 16


def content_hash(data: bytes | memoryview, *, encoding: str, shape: tuple[int, int, int]) -> str:
    """Name pixels by what they are: SHA-256 over encoding, shape and bytes, cut to 32 hex digits.

    Processors of the last years have instructions for it, which makes it twice as fast as BLAKE2b.
    """
    digest = hashlib.sha256()
    digest.update(f"{encoding}:{shape[0]}x{shape[1]}x{shape[2]}:".encode())
    digest.update(data)
    return digest.hexdigest()[: 2 * HASH_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """What is known of a frame without its pixels.

    Attributes:
        camera: Name of the camera, as in ``camera/<name>/frame``.
        sequence: Counts up by one for every frame the camera gave.
        mono_ns: Capture time on the monotonic clock of the capturing host, nanoseconds.
        wall_ns: Capture time on the wall clock, nanoseconds since the epoch; for logs and joins.
        id: Content hash, 32 hex digits.
        encoding: ``"rgb8"`` or ``"jpeg"``.
        shape: ``(height, width, 3)`` of the decoded image, pixels.
    """

    camera: str
    sequence: int
    mono_ns: int
    wall_ns: int
    id: str
    encoding: Encoding
    shape: tuple[int, int, int]


@dataclass(slots=True, eq=False)
class Frame:
    """A header with its bytes; the pixels are decoded when first asked for.

    Two frames with the same bytes have the same ``id``, whichever camera or time they come from.

    Example:
        >>> frame = Frame.of(np.zeros((8, 8, 3), np.uint8), camera="front")
        >>> frame.image.shape, len(frame.id)
        ((8, 8, 3), 32)
    """

    header: FrameHeader
    data: bytes | memoryview
    _image: Image | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        image: Image,
        *,
        camera: str = "camera",
        sequence: int = 0,
        mono_ns: int | None = None,
        wall_ns: int | None = None,
        jpeg_quality: int | None = None,
    ) -> Frame:
        """Make a frame from pixels.

        Args:
            image: ``(H, W, 3) uint8 RGB``.
            camera: Name of the camera.
            sequence: Number of the frame within the camera's stream.
            mono_ns: Capture time, monotonic clock; now when not given.
            wall_ns: Capture time, wall clock; now when not given.
            jpeg_quality: 1–100 stores the frame as JPEG 4:2:0; ``None`` keeps raw bytes.

        Raises:
            ConfigError: The array is not an RGB image of unsigned bytes.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ConfigError(
                f"a frame must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
            )
        pixels = np.ascontiguousarray(image)
        height, width, _ = pixels.shape
        encoding: Encoding = "rgb8"
        data: bytes | memoryview = pixels.tobytes()
        if jpeg_quality is not None:
            import simplejpeg

            encoding = "jpeg"
            data = simplejpeg.encode_jpeg(pixels, quality=jpeg_quality, colorsubsampling="420")
        header = FrameHeader(
            camera=camera,
            sequence=sequence,
            mono_ns=time.monotonic_ns() if mono_ns is None else mono_ns,
            wall_ns=time.time_ns() if wall_ns is None else wall_ns,
            id=content_hash(data, encoding=encoding, shape=(height, width, 3)),
            encoding=encoding,
            shape=(height, width, 3),
        )
        return cls(header, data, pixels if encoding == "rgb8" else None)

    @property
    def id(self) -> str:
        """Content hash, 32 hex digits."""
        return self.header.id

    @property
    def image(self) -> Image:
        """The pixels, ``(H, W, 3) uint8 RGB``; a JPEG is decoded once and kept.

        Raises:
            ConfigError: The bytes are not what the header says.
        """
        if self._image is None:
            self._image = self._decode()
        return self._image

    def _decode(self) -> Image:
        shape = self.header.shape
        if self.header.encoding == "rgb8":
            if len(self.data) != shape[0] * shape[1] * 3:
                raise ConfigError(f"rgb8 frame of {shape} has {len(self.data)} bytes")
            return np.frombuffer(self.data, np.uint8).reshape(shape)
        import simplejpeg

        try:
            # The header is peeked first: a JPEG of a few hundred bytes can claim gigabytes.
            height, width, _, _ = simplejpeg.decode_jpeg_header(self.data)
            if (height, width) != shape[:2]:
                raise ConfigError(f"JPEG is {height}x{width}, its header says {shape}")
            image: Image = simplejpeg.decode_jpeg(self.data, colorspace="RGB")
        except ValueError as error:
            raise ConfigError(f"JPEG of camera {self.header.camera!r}: {error}") from error
        return image
