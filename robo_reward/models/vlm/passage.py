"""A prompt as the backbone reads it: tokens, and which of them stand for which picture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .families import Seen

Symbols = NDArray[np.int64]

_OF_PICTURES = 1 << 62
"""Above every token id, so that no text is taken for a picture."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Picture:
    """A frame and what the vision tower made of it.

    Attributes:
        key: Content hash of the frame; equal keys are equal pictures.
        seen: Its features.
    """

    key: str
    seen: Seen


@dataclass(slots=True, eq=False)
class Passage:
    """Tokens in order, with pictures in their places.

    Attributes:
        tokens: Token ids; the image token once for every feature of a picture.
        symbols: What each token means: its id, or a number of its own for each feature of each
            picture. Two passages share what their symbols have in common from the start.
        pictures: Index of the first token → picture.
        skips: Index of a token → places left empty before it, as if tokens stood there.
        bunch: Number of last tokens that read each other, whatever their order.
        marks: Indices of tokens whose last hidden state is asked for; without any that of the
            last token.
    """

    tokens: list[int] = field(default_factory=list)
    symbols: list[int] = field(default_factory=list)
    pictures: dict[int, Picture] = field(default_factory=dict)
    skips: dict[int, int] = field(default_factory=dict)
    bunch: int = 0
    marks: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def write(self, tokens: list[int]) -> None:
        """Append text."""
        self.tokens += tokens
        self.symbols += tokens

    def show(self, picture: Picture, *, token: int) -> None:
        """Append a picture."""
        count = int(picture.seen.tokens.shape[0])
        self.pictures[len(self.tokens)] = picture
        self.tokens += [token] * count
        first = _first_symbol(picture.key)
        self.symbols += [(first + index) | _OF_PICTURES for index in range(count)]

    def mark(self) -> None:
        """Ask for the hidden state of the token that was written last."""
        self.marks.append(len(self.tokens) - 1)

    def skip(self, index: int, places: int) -> None:
        """Leave places empty before a token."""
        self.skips[index] = self.skips.get(index, 0) + places

    def cut(self, length: int) -> None:
        """Forget all tokens from a place behind the last picture on."""
        del self.tokens[length:], self.symbols[length:]

    @property
    def wanted(self) -> list[int]:
        """Indices of the hidden states that are asked for."""
        return self.marks or [len(self.tokens) - 1]


@lru_cache(maxsize=65536)
def _first_symbol(key: str) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & (_OF_PICTURES - 1) & ~0xFFFF


def shared(first: Symbols, second: Symbols) -> int:
    """Return how many symbols two passages have in common from the start."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length
