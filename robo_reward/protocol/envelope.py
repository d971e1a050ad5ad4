"""The envelope of every message: magic, one typed header, binary parts; bounds before parsing.

    [magic "RRW1"] [header: msgpack map, at most 8 KiB] [part 0 … 15, at most 8 MiB each]

The last byte of the magic is the major version and is looked at before anything is parsed. The
header is a map, so a reader of the same major skips fields that it does not know and fills in those
that are left out. Nothing here opens a socket; see ``robo_reward.transport``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from robo_reward.errors import TransportError
from robo_reward.signals import REASONS

PREFIX = b"RRW"
MAJOR = 1
MINOR = 0
"""Newest minor version that this code writes and reads."""
OLDEST_MINOR = 0
"""Oldest minor version that this code still reads."""
MAGIC = PREFIX + str(MAJOR).encode()

MAX_HEADER_BYTES = 8 * 1024
MAX_PARTS = 16
MAX_PART_BYTES = 8 * 1024 * 1024
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

Buffer = bytes | bytearray | memoryview
"""One part of a message."""

# Reused wherever a header holds them, so that a wrong type or size ends in the decoder.
Session = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
"""16 random bytes of a client or node process, hex."""
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
"""Content hash of a frame, or key of a task."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Short = Annotated[str, msgspec.Meta(max_length=256)]


class Refusal(TransportError):
    """A message that is not read further; ``reason`` is a key of ``signals.REASONS``.

    Example:
        >>> Refusal("TOO_LARGE", "header of 9000 bytes, at most 8192").reason
        'TOO_LARGE'
    """

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"reason must be one of {sorted(REASONS)}, got {reason!r}")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """Base of every header; a subclass names its kind with ``tag="…"``.

    Attributes:
        v: Minor version whose meaning this header needs; 0 where it is left out.
    """

    v: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0


H = TypeVar("H", bound=Header)


class Codec(Generic[H]):
    """Packs and unpacks the kinds of header that one socket may carry; any other is refused.

    Args:
        *kinds: Subclasses of ``Header``.

    Example:
        >>> class Ping(Header, frozen=True, kw_only=True, tag="ping"):
        ...     number: int
        >>> codec = Codec(Ping)
        >>> codec.unpack(codec.pack(Ping(number=7), [b"pixels"]))
        (Ping(v=0, number=7), [b'pixels'])
    """

    def __init__(self, *kinds: type[H]) -> None:
        union: Any = functools.reduce(operator.or_, kinds)
        self._decoder: msgspec.msgpack.Decoder[H] = msgspec.msgpack.Decoder(union)
        self._encoder = msgspec.msgpack.Encoder()

    def pack(self, header: H, parts: Sequence[Buffer] = ()) -> list[Buffer]:
        """Make a message that ``unpack`` of the other end will take.

        Raises:
            Refusal: It would be refused there (``TOO_LARGE``), where it would only meet silence.
        """
        message: list[Buffer] = [MAGIC, self._encoder.encode(header), *parts]
        check_bounds(message)
        return message

    def unpack(self, message: Sequence[Buffer]) -> tuple[H, list[Buffer]]:
        """Read a message.

        Args:
            message: Parts as received, without the routing id.

        Returns:
            The header and the binary parts.

        Raises:
            Refusal: ``VERSION``, ``TOO_LARGE`` or ``BAD_HEADER``.
        """
        check_magic(message[0] if message else b"")
        check_bounds(message)
        try:
            header = self._decoder.decode(message[1])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal("BAD_HEADER", str(error)[:200]) from error
        return header, list(message[2:])


def check_magic(first: Buffer) -> None:
    """Look at the first part of a message, which holds the major version.

    Raises:
        Refusal: ``VERSION`` for another major version, ``BAD_HEADER`` for anything foreign.
    """
    magic = bytes(first[:8])
    if magic == MAGIC:
        return
    if magic[:3] == PREFIX and len(magic) == 4:
        theirs = magic[3:].decode("ascii", errors="replace")
        raise Refusal(
            "VERSION",
            f"peer speaks protocol {theirs}, this end speaks {MAJOR}.{OLDEST_MINOR} to "
            f"{MAJOR}.{MINOR}; install the same robo-reward version on both ends",
        )
    raise Refusal("BAD_HEADER", f"not a robo-reward message: starts with {magic!r}")


def check_bounds(message: Sequence[Buffer]) -> None:
    """Refuse a message by its sizes alone.

    Raises:
        Refusal: ``BAD_HEADER`` without a header, ``TOO_LARGE`` above a limit.
    """
    if len(message) < 2:
        raise Refusal("BAD_HEADER", f"{len(message)} parts, at least magic and header are needed")
    if len(message) - 2 > MAX_PARTS:
        raise Refusal("TOO_LARGE", f"{len(message) - 2} binary parts, at most {MAX_PARTS}")
    sizes = [memoryview(part).nbytes for part in message[1:]]
    if sizes[0] > MAX_HEADER_BYTES:
        raise Refusal("TOO_LARGE", f"header of {sizes[0]} bytes, at most {MAX_HEADER_BYTES}")
    largest = max(sizes)
    if largest > MAX_PART_BYTES:
        raise Refusal("TOO_LARGE", f"part of {largest} bytes, at most {MAX_PART_BYTES}")
    if sum(sizes) > MAX_MESSAGE_BYTES:
        raise Refusal("TOO_LARGE", f"message of {sum(sizes)} bytes, at most {MAX_MESSAGE_BYTES}")
