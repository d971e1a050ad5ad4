"""PNG frames as JSON interfaces carry them: looked at chunk by chunk before anything is decoded.

Only 8-bit RGB without interlacing, which is what a lossless copy of decoded video is. Every
checksum is checked, and only the chunks that hold pixels reach the decoder: text, colour profiles
and animations, where decoders have had their bugs, do not.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from robo_reward.errors import require
from robo_reward.frames import Image

from .envelope import MAX_PART_BYTES, Refusal
from .payload import MAX_PIXELS, MAX_SIDE

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB8 = (8, 2, 0, 0, 0)
"""Bit depth, colour type, compression, filter and interlace method of the header."""
# Deflate cannot do better than 1032 : 1, and a row costs one byte more than its pixels.
MAX_PIXELS_PER_BYTE = 344
MAX_CHUNKS = 4096
PIXEL_CHUNKS = (b"IHDR", b"IDAT", b"IEND")


def look_at_png(data: bytes) -> tuple[int, int]:
    """Return (height, width) without decoding.

    Args:
        data: A PNG file.

    Raises:
        Refusal: ``TOO_LARGE`` or ``BAD_PAYLOAD``.
    """
    return _look(data)[0]


def decode_png(data: bytes) -> Image:
    """Return the pixels, ``(H, W, 3) uint8 RGB``.

    Raises:
        Refusal: ``TOO_LARGE`` or ``BAD_PAYLOAD``.
        MissingDependency: Pillow is not installed.
    """
    (height, width), chunks = _look(data)
    _check_rows(chunks, height * (3 * width + 1))
    pil = require("PIL.Image", extra="serve")
    plain = SIGNATURE + b"".join(chunks)
    try:
        with pil.open(io.BytesIO(plain), formats=("PNG",)) as picture:
            pixels: Image = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error) as error:
        raise Refusal("BAD_PAYLOAD", f"PNG cannot be decoded: {error}"[:200]) from error
    if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
        raise Refusal("BAD_PAYLOAD", f"PNG decoded to {pixels.shape} {pixels.dtype}")
    return pixels


def encode_png(image: Image) -> bytes:
    """Make a PNG of ``(H, W, 3) uint8 RGB`` pixels, quickly rather than small."""
    pil = require("PIL.Image", extra="serve")
    file = io.BytesIO()
    pil.fromarray(image).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _look(data: bytes) -> tuple[tuple[int, int], list[bytes]]:
    if len(data) > MAX_PART_BYTES:
        raise Refusal("TOO_LARGE", f"PNG of {len(data)} bytes, at most {MAX_PART_BYTES}")
    if not data.startswith(SIGNATURE):
        raise Refusal("BAD_PAYLOAD", "not a PNG")
    names: list[bytes] = []
    kept: list[bytes] = []
    at = len(SIGNATURE)
    while at < len(data):
        name, chunk = _chunk(data, at)
        at += len(chunk)
        names.append(name)
        if len(names) > MAX_CHUNKS:
            raise Refusal("BAD_PAYLOAD", f"PNG of more than {MAX_CHUNKS} chunks")
        if name in PIXEL_CHUNKS:
            kept.append(chunk)
    if names[:1] != [b"IHDR"] or names.count(b"IHDR") != 1:
        raise Refusal("BAD_PAYLOAD", "PNG does not begin with one IHDR")
    if b"IDAT" not in names or names[-1] != b"IEND" or names.count(b"IEND") != 1:
        raise Refusal("BAD_PAYLOAD", "PNG has no pixels, or does not stop at its end")
    return _size(kept[0], len(data)), kept


def _chunk(data: bytes, at: int) -> tuple[bytes, bytes]:
    if at + 12 > len(data):
        raise Refusal("BAD_PAYLOAD", "PNG is cut off")
    (length,) = struct.unpack_from(">I", data, at)
    end = at + 12 + length
    if end > len(data):
        raise Refusal("BAD_PAYLOAD", "PNG is cut off")
    name = data[at + 4 : at + 8]
    (checksum,) = struct.unpack_from(">I", data, end - 4)
    if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != checksum:
        raise Refusal("BAD_PAYLOAD", f"PNG chunk {name!r} has another checksum")
    return name, data[at:end]


def _check_rows(chunks: list[bytes], size: int) -> None:
    """Refuse pixels that are too few or too many; the decoder would leave rows black."""
    stream = zlib.decompressobj()
    packed = b"".join(chunk[8:-4] for chunk in chunks if chunk[4:8] == b"IDAT")
    try:
        found = len(stream.decompress(packed, size + 1))
    except zlib.error as error:
        raise Refusal("BAD_PAYLOAD", f"PNG cannot be unpacked: {error}"[:200]) from error
    if found != size or not stream.eof or stream.unused_data:
        raise Refusal("BAD_PAYLOAD", "PNG holds another number of pixels than its header says")


def _size(header: bytes, size: int) -> tuple[int, int]:
    if len(header) != 25:
        raise Refusal("BAD_PAYLOAD", "PNG header of the wrong length")
    width, height, *form = struct.unpack_from(">IIBBBBB", header, 8)
    if tuple(form) != RGB8:
        raise Refusal("BAD_PAYLOAD", "PNG must be 8-bit RGB, not interlaced")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or height * width > MAX_PIXELS:
        raise Refusal("TOO_LARGE", f"PNG of {height}x{width}, at most {MAX_PIXELS} pixels")
    if height * width > MAX_PIXELS_PER_BYTE * size:
        raise Refusal("BAD_PAYLOAD", f"PNG of {height}x{width} in {size} bytes is not plausible")
    return height, width
