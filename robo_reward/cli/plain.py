"""Results as plain JSON values."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath


def plain(value: object) -> object:
    """Return the value as dicts, lists, text and numbers; what is not finite becomes ``None``.

    Example:
        >>> plain({"loss": float("nan"), "path": PurePath("a/b")})
        {'loss': None, 'path': 'a/b'}
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    # numpy scalars and arrays, without importing numpy for a command that does not use it.
    to_list = getattr(value, "tolist", None)
    return plain(to_list()) if callable(to_list) else str(value)
