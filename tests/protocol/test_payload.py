from __future__ import annotations

import struct
import time

import msgspec
import numpy as np
import pytest
import simplejpeg

from robo_reward.frames import Frame
from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.payload import (
    MAX_PIXELS,
    check_frame,
    oldest_age_s,
    refer,
    restore,
)


def picture(*, jpeg: int | None = None, size: int = 64) -> Frame:
    chance = np.random.default_rng(1)
    small = chance.integers(0, 256, (8, 8, 3), np.uint8)
    return Frame.of(np.kron(small, np.ones((size // 8, size // 8, 1), np.uint8)), jpeg_quality=jpeg)


def bomb(height: int, width: int) -> bytes:
    """A valid small JPEG whose header claims other dimensions."""
    data = bytearray(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("jpeg", [None, 90])
def test_a_frame_comes_back_as_it_was(jpeg: int | None) -> None:
    frame = picture(jpeg=jpeg)
    back = restore(refer(frame, part=0), bytes(frame.data))
    assert back.header == frame.header
    np.testing.assert_array_equal(back.image, frame.image)


def test_a_view_is_as_good_as_bytes() -> None:
    frame = picture(jpeg=90)
    back = restore(refer(frame), memoryview(bytes(frame.data)))
    np.testing.assert_array_equal(back.image, frame.image)


@pytest.mark.parametrize(("height", "width"), [(65500, 65500), (16000, 16000), (1200, 1920)])
def test_a_bomb_is_refused_by_its_header(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    def decode(*_: object, **__: object) -> None:
        pytest.fail("decoding this would take half a minute and gigabytes")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    with pytest.raises(Refusal):
        check_frame((height, width, 3), "jpeg", bomb(height, width))
    with pytest.raises(Refusal):
        check_frame((8, 8, 3), "jpeg", bomb(height, width))


def test_a_plausible_size_in_too_few_bytes_is_refused() -> None:
    with pytest.raises(Refusal, match="not plausible"):
        check_frame((1080, 1920, 3), "jpeg", bomb(1080, 1920))


def test_an_all_black_camera_is_plausible() -> None:
    black = Frame.of(np.zeros((480, 640, 3), np.uint8), jpeg_quality=10)
    assert restore(refer(black), bytes(black.data)).image.max() == 0


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_a_truncated_jpeg_is_refused(share: float) -> None:
    frame = picture(jpeg=90)
    data = bytes(frame.data)[: int(len(frame.data) * share)]
    again = Frame(frame.header, data)
    with pytest.raises(Refusal, match="BAD_PAYLOAD"):
        restore(refer(again), data)


def test_a_truncated_jpeg_with_a_true_hash_is_refused() -> None:
    from robo_reward.frames import content_hash

    frame = picture(jpeg=90)
    data = bytes(frame.data)[: len(frame.data) // 2]
    true = content_hash(data, encoding="jpeg", shape=frame.header.shape)
    with pytest.raises(Refusal, match="BAD_PAYLOAD"):
        restore(msgspec.structs.replace(refer(frame), id=true), data)


def test_bytes_of_another_frame_are_refused() -> None:
    frame, other = picture(), Frame.of(np.ones((64, 64, 3), np.uint8))
    with pytest.raises(Refusal, match="content hash"):
        restore(refer(frame), bytes(other.data))


def test_raw_bytes_must_fill_the_shape() -> None:
    frame = picture()
    with pytest.raises(Refusal, match="BAD_PAYLOAD"):
        restore(refer(frame), bytes(frame.data)[:-1])


def test_png_labelled_jpeg_is_refused() -> None:
    with pytest.raises(Refusal, match="not a JPEG"):
        check_frame((8, 8, 3), "jpeg", b"\x89PNG\r\n\x1a\n" + bytes(200))


def test_too_many_pixels_are_too_large() -> None:
    with pytest.raises(Refusal, match="TOO_LARGE"):
        check_frame((2048, 2048, 3), "rgb8", b"")
    assert MAX_PIXELS < 2048 * 2048


def test_age_is_that_of_the_oldest_and_unknown_where_one_is() -> None:
    now = time.monotonic_ns()
    young = refer(Frame.of(np.zeros((8, 8, 3), np.uint8), mono_ns=now))
    old = refer(Frame.of(np.zeros((8, 8, 3), np.uint8), mono_ns=now - 10**9))
    ahead = refer(Frame.of(np.zeros((8, 8, 3), np.uint8), mono_ns=now + 10**12))
    assert 1.0 <= oldest_age_s([young, old]) < 60.0
    assert np.isnan(oldest_age_s([young, ahead]))
    assert np.isnan(oldest_age_s([]))
