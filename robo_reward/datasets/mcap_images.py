"""ROS 2 image messages in CDR, byte for byte, so that any MCAP viewer shows our recordings."""

from __future__ import annotations

import struct

CDR_LITTLE_ENDIAN = b"\x00\x01\x00\x00"

_HEADER_TEXT = """================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
COMPRESSED_IMAGE_TEXT = f"std_msgs/Header header\nstring format\nuint8[] data\n{_HEADER_TEXT}"
IMAGE = "sensor_msgs/msg/Image"
IMAGE_TEXT = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\n"
    f"uint32 step\nuint8[] data\n{_HEADER_TEXT}"
)


def compressed_image(data: bytes | memoryview, *, stamp_ns: int, frame_id: str) -> bytes:
    """Encode a ``sensor_msgs/msg/CompressedImage`` that holds a JPEG.

    Example:
        >>> compressed_image(b"jpeg", stamp_ns=1_000_000_002, frame_id="front")[:12].hex()
        '000100000100000002000000'
    """
    out = _Writer()
    out.header(stamp_ns, frame_id)
    out.string("jpeg")
    out.octets(data)
    return out.bytes()


def raw_image(
    data: bytes | memoryview, *, shape: tuple[int, int, int], stamp_ns: int, frame_id: str
) -> bytes:
    """Encode a ``sensor_msgs/msg/Image`` of ``rgb8`` pixels."""
    height, width, _ = shape
    out = _Writer()
    out.header(stamp_ns, frame_id)
    out.uint32(height, width)
    out.string("rgb8")
    out.octet(0)
    out.uint32(width * 3)
    out.octets(data)
    return out.bytes()


def octets_of(message: bytes, *, kind: str) -> bytes:
    """Return the ``data`` field of a message.

    Args:
        message: CDR, little-endian.
        kind: ``COMPRESSED_IMAGE`` or ``IMAGE``.

    Raises:
        ValueError: It is not such a message, or cut short.

    Example:
        >>> message = compressed_image(b"jpeg", stamp_ns=1, frame_id="front")
        >>> octets_of(message, kind=COMPRESSED_IMAGE)
        b'jpeg'
    """
    if message[:4] != CDR_LITTLE_ENDIAN:
        raise ValueError("not little-endian CDR")
    reader = _Reader(message, 4 + 8)  # behind the encapsulation header and the stamp
    reader.octets()  # frame_id
    if kind == IMAGE:
        reader.uint32()
        reader.uint32()
    reader.octets()  # format, or encoding
    if kind == IMAGE:
        reader.at += 1
        reader.uint32()
    return reader.octets()


class _Writer:
    """Appends CDR fields; alignment counts from behind the encapsulation header."""

    def __init__(self) -> None:
        self._parts = bytearray(CDR_LITTLE_ENDIAN)

    def header(self, stamp_ns: int, frame_id: str) -> None:
        self._parts += struct.pack("<iI", stamp_ns // 10**9, stamp_ns % 10**9)
        self.string(frame_id)

    def string(self, text: str) -> None:
        raw = text.encode() + b"\0"
        self.uint32(len(raw))
        self._parts += raw

    def octet(self, value: int) -> None:
        self._parts.append(value)

    def uint32(self, *values: int) -> None:
        self._parts += bytes(-(len(self._parts) - 4) % 4)
        self._parts += struct.pack(f"<{len(values)}I", *values)

    def octets(self, data: bytes | memoryview) -> None:
        self.uint32(memoryview(data).nbytes)
        self._parts += data

    def bytes(self) -> bytes:
        return bytes(self._parts)


class _Reader:
    """Walks over CDR fields."""

    def __init__(self, message: bytes, at: int) -> None:
        self._message = message
        self.at = at

    def uint32(self) -> int:
        self.at += -(self.at - 4) % 4
        try:
            (value,) = struct.unpack_from("<I", self._message, self.at)
        except struct.error as error:
            raise ValueError("the message is cut short") from error
        self.at += 4
        return int(value)

    def octets(self) -> bytes:
        size = self.uint32()
        data = self._message[self.at : self.at + size]
        if len(data) != size:
            raise ValueError("the message is cut short")
        self.at += size
        return data
