"""TFRecord files and the tf.train.Example messages in them, without TensorFlow.

A record is its length (8 bytes), a masked CRC-32C of that, the data, and a masked CRC-32C of them.
An Example is a protobuf map of names to lists of bytes, floats or integers. Formats:
tensorflow/core/lib/io/record_writer.h and tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError

Values = list[bytes] | NDArray[Any]
"""What one feature holds."""

_LENGTH = struct.Struct("<QI")
_CRC_BYTES = 4


def find_records(path: Path) -> Iterator[tuple[int, int]]:
    """Yield offset and length of the data of every record; the data themselves are not read.

    Raises:
        DatasetError: A record is torn or damaged; those before it were given.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while head := file.read(_LENGTH.size):
                if len(head) < _LENGTH.size:
                    raise DatasetError(f"{path} is cut short")
                length, checksum = _LENGTH.unpack(head)
                if masked_crc32c(head[:8]) != checksum:
                    raise DatasetError(f"{path} is no TFRecord file, or damaged")
                offset = file.tell()
                if offset + length + _CRC_BYTES > size:
                    raise DatasetError(f"{path} is cut short")
                yield offset, length
                # The checksum of the data is left: in Python it takes longer than all the rest, and
                # a damaged record shows as a message or a picture that cannot be read.
                file.seek(offset + length + _CRC_BYTES)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error


def read_example(data: bytes) -> dict[str, Values]:
    """Return feature → its values: bytes, float32 or int64.

    Raises:
        DatasetError: It is no Example.
    """
    found: dict[str, Values] = {}
    try:
        for number, features in _fields(memoryview(data)):
            if number != 1:
                continue
            for entry_number, entry in _fields(_bytes(features)):
                if entry_number == 1:
                    parts = dict(_fields(_bytes(entry)))
                    found[bytes(_bytes(parts[1])).decode()] = _feature(_bytes(parts[2]))
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        raise DatasetError(f"a record that is no tf.train.Example: {error!r}") from error
    return found


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted by a constant as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _table() -> list[int]:
    rows = []
    for row in range(256):
        for _ in range(8):
            row = (row >> 1) ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return rows


_TABLE = _table()


def _feature(data: memoryview) -> Values:
    for number, value in _fields(data):
        inner = [item for _, item in _fields(_bytes(value))]
        if number == 1:
            return [bytes(_bytes(item)) for item in inner]
        if number == 2:
            # Packed in one run of bytes, or one by one.
            runs = [
                item if isinstance(item, memoryview) else struct.pack("<I", item) for item in inner
            ]
            return np.frombuffer(b"".join(runs), "<f4").astype(np.float32)
        if number == 3:
            return _integers(inner)
    return []


def _integers(items: list[memoryview | int]) -> NDArray[np.int64]:
    values: list[int] = []
    for item in items:
        if isinstance(item, int):
            values.append(item)
            continue
        at = 0
        while at < len(item):
            value, at = _varint(item, at)
            values.append(value)
    return np.array([v - 2**64 if v >= 2**63 else v for v in values], np.int64)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield field number and value of a protobuf message: bytes, or an integer."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: memoryview | int
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise ValueError("a field is cut short")
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            (value,) = struct.unpack_from("<Q" if kind == 1 else "<I", data, at)
            at += size
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _bytes(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise TypeError("bytes were expected")
    return value
