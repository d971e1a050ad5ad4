from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.png import SIGNATURE, decode_png, encode_png, look_at_png

IMAGE = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def header(width: int, height: int, *form: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *(form or (8, 2, 0, 0, 0))))


def pixels(image: np.ndarray) -> bytes:
    return chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in image)))


END = chunk(b"IEND", b"")
GOOD = SIGNATURE + header(7, 5) + pixels(IMAGE) + END


def saved(picture: Pillow.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", **options)
    return file.getvalue()


def test_pixels_come_back_as_they_were() -> None:
    np.testing.assert_array_equal(decode_png(encode_png(IMAGE)), IMAGE)
    np.testing.assert_array_equal(decode_png(GOOD), IMAGE)
    assert look_at_png(GOOD) == (5, 7)


def test_what_other_encoders_write_is_read() -> None:
    smooth = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)  # every filter is of use
    picture = Pillow.fromarray(smooth)
    for options in ({}, {"optimize": True}, {"compress_level": 0}):
        np.testing.assert_array_equal(decode_png(saved(picture, **options)), smooth)


def test_text_and_profiles_do_not_reach_the_decoder() -> None:
    # A profile of 4 MB in a few KB: Pillow alone would unpack or refuse it.
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(4_000_000)))
    data = SIGNATURE + header(7, 5) + bomb + pixels(IMAGE) + END
    with pytest.raises(ValueError, match="large"):
        Pillow.open(io.BytesIO(data))
    np.testing.assert_array_equal(decode_png(data), IMAGE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "BAD_PAYLOAD"),
        (b"\xff\xd8\xff\xe0 a JPEG", "BAD_PAYLOAD"),
        (GOOD[:-5], "BAD_PAYLOAD"),
        (GOOD[:40], "BAD_PAYLOAD"),
        (GOOD + b"more", "BAD_PAYLOAD"),
        (GOOD + END, "BAD_PAYLOAD"),
        (GOOD[:50] + bytes([GOOD[50] ^ 1]) + GOOD[51:], "BAD_PAYLOAD"),
        (SIGNATURE + header(7, 5) + END, "BAD_PAYLOAD"),
        (SIGNATURE + pixels(IMAGE) + header(7, 5) + END, "BAD_PAYLOAD"),
        (SIGNATURE + 2 * header(7, 5) + pixels(IMAGE) + END, "BAD_PAYLOAD"),
        (SIGNATURE + header(7, 6) + pixels(IMAGE) + END, "BAD_PAYLOAD"),
        (SIGNATURE + header(7, 5) + chunk(b"IDAT", b"no zlib") + END, "BAD_PAYLOAD"),
        (SIGNATURE + header(0, 5) + pixels(IMAGE) + END, "TOO_LARGE"),
        (SIGNATURE + header(4096, 4096) + pixels(IMAGE) + END, "TOO_LARGE"),
        (SIGNATURE + header(2**31, 2**31) + pixels(IMAGE) + END, "TOO_LARGE"),
        (SIGNATURE + header(1920, 1080) + pixels(IMAGE) + END, "BAD_PAYLOAD"),
        (SIGNATURE + header(7, 5) + 5000 * chunk(b"IDAT", b"") + END, "BAD_PAYLOAD"),
        (saved(Pillow.fromarray(IMAGE[..., 0])), "BAD_PAYLOAD"),
        (saved(Pillow.fromarray(IMAGE).convert("RGBA")), "BAD_PAYLOAD"),
        (saved(Pillow.fromarray(IMAGE).convert("P")), "BAD_PAYLOAD"),
        (SIGNATURE + header(7, 5, 8, 2, 0, 0, 1) + pixels(IMAGE) + END, "BAD_PAYLOAD"),
        (SIGNATURE + header(7, 5, 16, 2, 0, 0, 0) + pixels(IMAGE) + END, "BAD_PAYLOAD"),
        (GOOD + bytes(9 * 1024 * 1024), "TOO_LARGE"),
    ],
)
def test_what_is_not_a_plain_png_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode_png(data)
    assert caught.value.reason == reason
