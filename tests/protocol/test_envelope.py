from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robo_reward.protocol import envelope
from robo_reward.protocol.envelope import MAGIC, Codec, Header, Refusal
from robo_reward.protocol.handshake import Hello
from robo_reward.protocol.score import TO_NODE


class Ping(Header, frozen=True, kw_only=True, tag="ping"):
    number: int
    text: str = ""


class Pong(Header, frozen=True, kw_only=True, tag="pong"):
    number: int


PINGS: Codec[Header] = Codec(Ping, Pong)


def refused(message: list[bytes]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        TO_NODE.unpack(message)
    return caught.value


def test_round_trip_keeps_header_and_parts() -> None:
    message = PINGS.pack(Pong(number=3), [b"a", b""])
    assert PINGS.unpack(message) == (Pong(number=3), [b"a", b""])


def test_unknown_fields_are_skipped_and_left_out_ones_filled() -> None:
    raw = msgspec.msgpack.encode({"kind": "ping", "number": 1, "of_a_newer_minor": [1, 2]})
    assert PINGS.unpack([MAGIC, raw]) == (Ping(number=1), [])


def test_field_order_does_not_matter() -> None:
    raw = msgspec.msgpack.encode({"number": 1, "text": "x", "kind": "ping"})
    assert PINGS.unpack([MAGIC, raw])[0] == Ping(number=1, text="x")


def test_other_major_is_named_with_ours() -> None:
    refusal = refused([b"RRW2", b"whatever"])
    assert refusal.reason == "VERSION"
    assert "2" in refusal.detail
    assert "1.0" in refusal.detail


@pytest.mark.parametrize(
    "message",
    [
        [],
        [b""],
        [b"RRW1"],
        [b"GET / HTTP/1.1\r\n"],
        [b"RRW12", b"\x80"],
        [MAGIC, b""],
        [MAGIC, b"\xc1"],
        [MAGIC, msgspec.msgpack.encode({"kind": "shutdown"})],
        [MAGIC, msgspec.msgpack.encode({"session": "0" * 32})],
        [MAGIC, msgspec.msgpack.encode([1, 2, 3])],
        [MAGIC, b"\x80\x04\x95cos\nsystem\n"],
        [MAGIC, b"\x91" * 4000],
        [MAGIC, b"\xdf\xff\xff\xff\xff"],
        [MAGIC, msgspec.msgpack.encode({"kind": "hello", "session": "g" * 32})],
        [MAGIC, msgspec.msgpack.encode({"kind": "hello", "session": 7})],
    ],
)
def test_rubbish_is_a_bad_header(message: list[bytes]) -> None:
    assert refused(message).reason == "BAD_HEADER"


@pytest.mark.parametrize(
    "message",
    [
        [MAGIC, b"\x80" * (envelope.MAX_HEADER_BYTES + 1)],
        [MAGIC, b"\x80", *[b""] * (envelope.MAX_PARTS + 1)],
        [MAGIC, b"\x80", bytes(envelope.MAX_PART_BYTES + 1)],
        [MAGIC, b"\x80", *[bytes(envelope.MAX_PART_BYTES)] * 4, b"x"],
    ],
)
def test_too_large_is_refused_before_parsing(message: list[bytes]) -> None:
    assert refused(message).reason == "TOO_LARGE"


def test_the_sender_is_told_what_the_other_end_would_refuse() -> None:
    with pytest.raises(Refusal, match="TOO_LARGE"):
        PINGS.pack(Ping(number=1), [bytes(envelope.MAX_PART_BYTES + 1)])


def test_reasons_are_those_of_the_signals() -> None:
    with pytest.raises(ValueError, match="reason must be one of"):
        Refusal("WHATEVER", "x")


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_bytes_end_in_a_refusal(message: list[bytes]) -> None:
    with pytest.raises(Refusal):
        TO_NODE.unpack(message)


@given(st.data())
def test_any_mutation_of_a_header_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(TO_NODE.pack(Hello(session="0" * 32, window=8))[1])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refusal):
        header, _ = TO_NODE.unpack([MAGIC, bytes(raw)])
        assert isinstance(header, Header)
