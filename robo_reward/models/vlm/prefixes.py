"""Keys and values of passages that were read, for passages that begin like them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from .passage import Symbols, shared

TOKENS = 16384
"""Kept at most, over all passages; of an 8B model one token is about 150 kB."""


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """What was read, and its keys and values: per layer two tensors ``(heads, tokens, width)``."""

    symbols: Symbols
    layers: list[tuple[Any, Any]]


class Prefixes:
    """Least-recently-used store of prefixes, bounded by their tokens. For one thread.

    Args:
        tokens: Tokens kept at most.
    """

    def __init__(self, *, tokens: int = TOKENS) -> None:
        self.tokens = tokens
        self.reused = 0
        self._kept: OrderedDict[int, Prefix] = OrderedDict()
        self._next = 0

    def find(self, symbols: Symbols) -> tuple[Prefix | None, int]:
        """Return the prefix that shares most with a passage, and how many tokens those are."""
        best, most = None, 0
        for key, prefix in self._kept.items():
            if (count := shared(prefix.symbols, symbols)) > most:
                best, most = key, count
        if best is None:
            return None, 0
        self._kept.move_to_end(best)
        return self._kept[best], most

    def keep(self, prefix: Prefix) -> None:
        """Keep a prefix instead of those that it continues; the longest unused go for it."""
        for key, old in list(self._kept.items()):
            if shared(old.symbols, prefix.symbols) == len(old.symbols):
                del self._kept[key]
        self._kept[self._next] = prefix
        self._next += 1
        while len(self._kept) > 1 and self.size > self.tokens:
            self._kept.popitem(last=False)

    @property
    def size(self) -> int:
        """Tokens kept now."""
        return int(np.sum([len(prefix.symbols) for prefix in self._kept.values()], dtype=np.int64))

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
