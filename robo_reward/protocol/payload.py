"""Frames on the wire: a reference in the header, the bytes in a part or not at all.

A frame travels once: its content hash names it, and a node that has it needs no bytes. The bytes
are looked at before they are decoded, because a JPEG of a few hundred bytes can claim gigabytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
import simplejpeg

from robo_reward.errors import ConfigError
from robo_reward.frames import Encoding, Frame, FrameHeader, content_hash

from .envelope import MAX_PART_BYTES, MAX_PARTS, Buffer, Count, Hash, Name, Nanoseconds, Refusal

MAX_SIDE = 4096
HEADER_FIELDS = tuple(FrameHeader.__dataclass_fields__)
MAX_PIXELS = 1920 * 1080
# An all-black JPEG has 62 pixels per byte, one with tuned Huffman tables about 170; above this the
# bytes cannot hold the picture that they claim.
MAX_PIXELS_PER_BYTE = 250

Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]


class FrameRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame without its pixels; the field names are those of ``frames.FrameHeader``.

    Attributes:
        camera: Name of the camera.
        sequence: Number of the frame within the camera's stream.
        mono_ns: Capture time, monotonic clock of the capturing host.
        wall_ns: Capture time, wall clock.
        id: Content hash.
        encoding: ``"rgb8"`` or ``"jpeg"``.
        shape: ``(height, width, 3)`` of the decoded image.
        age_s: Age when it was sent, by the sender's clock; negative where that is unknown.
        part: Index of the binary part with the bytes; -1 where the node has them already.
    """

    camera: Name
    sequence: Count
    mono_ns: Nanoseconds
    wall_ns: Nanoseconds
    id: Hash
    encoding: Encoding
    shape: tuple[Side, Side, Annotated[int, msgspec.Meta(ge=3, le=3)]]
    age_s: float = -1.0
    part: Annotated[int, msgspec.Meta(ge=-1, lt=MAX_PARTS)] = -1


Refs = Annotated[tuple[FrameRef, ...], msgspec.Meta(max_length=MAX_PARTS)]


def refer(frame: Frame, *, part: int = -1) -> FrameRef:
    """Make the reference to a frame.

    Args:
        frame: Frame whose monotonic stamp was taken on this host.
        part: Index of the binary part that will hold its bytes.
    """
    header = frame.header
    age_s = (time.monotonic_ns() - header.mono_ns) / 1e9
    return FrameRef(
        camera=header.camera,
        sequence=header.sequence,
        mono_ns=header.mono_ns,
        wall_ns=header.wall_ns,
        id=header.id,
        encoding=header.encoding,
        shape=header.shape,
        age_s=age_s if age_s >= 0 else -1.0,
        part=part,
    )


def oldest_age_s(refs: Sequence[FrameRef]) -> float:
    """Age at sending of the oldest of these frames, seconds; NaN where one is unknown."""
    ages = [ref.age_s for ref in refs]
    return max(ages) if ages and min(ages) >= 0 else math.nan


def check_frame(shape: tuple[int, int, int], encoding: str, data: Buffer) -> None:
    """Refuse bytes that cannot be the picture, for a microsecond and without decoding.

    Args:
        shape: Claimed ``(height, width, 3)``.
        encoding: Claimed encoding.
        data: The bytes.

    Raises:
        Refusal: ``TOO_LARGE`` or ``BAD_PAYLOAD``.
    """
    height, width, _ = shape
    size = memoryview(data).nbytes
    if height * width > MAX_PIXELS or size > MAX_PART_BYTES:
        raise Refusal(
            "TOO_LARGE",
            f"frame of {height}x{width} in {size} bytes, at most {MAX_PIXELS} pixels and "
            f"{MAX_PART_BYTES} bytes; make it smaller before it is sent",
        )
    if encoding == "rgb8":
        if size != height * width * 3:
            raise Refusal("BAD_PAYLOAD", f"rgb8 frame of {height}x{width} has {size} bytes")
        return
    try:
        real_height, real_width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise Refusal("BAD_PAYLOAD", f"not a JPEG: {error}"[:200]) from error
    if (real_height, real_width) != (height, width):
        raise Refusal(
            "BAD_PAYLOAD", f"JPEG is {real_height}x{real_width}, its header says {height}x{width}"
        )
    if height * width > MAX_PIXELS_PER_BYTE * size:
        raise Refusal("BAD_PAYLOAD", f"JPEG of {height}x{width} in {size} bytes is not plausible")


def checked(claim: msgspec.Struct, data: Buffer) -> Frame:
    """Make a frame whose bytes are what its header says; nothing is decoded.

    Args:
        claim: A header that has the fields of ``FrameHeader``.
        data: The bytes that came with it.

    Raises:
        Refusal: ``TOO_LARGE`` or ``BAD_PAYLOAD``.
    """
    header = FrameHeader(**{name: getattr(claim, name) for name in HEADER_FIELDS})
    check_frame(header.shape, header.encoding, data)
    data = bytes(data) if isinstance(data, bytearray) else data
    if content_hash(data, encoding=header.encoding, shape=header.shape) != header.id:
        raise Refusal("BAD_PAYLOAD", f"the bytes of frame {header.id} have another content hash")
    return Frame(header, data)


def restore(ref: FrameRef, data: Buffer) -> Frame:
    """Make a frame and decode it.

    Raises:
        Refusal: ``TOO_LARGE`` or ``BAD_PAYLOAD``.
    """
    frame = checked(ref, data)
    try:
        pixels = frame.image
    except ConfigError as error:
        raise Refusal("BAD_PAYLOAD", str(error)[:200]) from error
    if pixels.shape != ref.shape:
        raise Refusal("BAD_PAYLOAD", f"decoded to {pixels.shape}, its header says {ref.shape}")
    return frame
