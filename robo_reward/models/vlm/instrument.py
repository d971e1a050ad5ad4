"""What a generative model needs of what it asks: a backbone with weights, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from robo_reward.frames import Image

from .prompt import Part

Seen = Any
"""What it makes of a picture; stands in ``Picture.seen``."""
Passage = Any
"""What it makes of a prompt; has ``write(words)`` where words are what ``Writer.tokens`` gives."""
Tail = Any
"""A possible answer as it reads it; a sequence of words."""


class Writer(Protocol):
    """Writes passages."""

    def check(self, text: str) -> None:
        """Raise ``InstructionError`` where text holds what is read as a sign."""

    def write(self, turns: Sequence[tuple[str, Sequence[Part]]]) -> Passage:
        """Return the prompt up to where the answer begins."""

    def tokens(self, text: str) -> list[Any]:
        """Return the words of text."""

    def tails(self, answers: Sequence[str], *, opening: str, closing: str) -> Sequence[Tail]:
        """Return the possible answers, told apart from one another."""


class Instrument(Protocol):
    """Sees pictures and answers questions about them."""

    @property
    def parameters(self) -> int:
        """Number of weights; 0 where that is not known."""

    @property
    def memory_mb(self) -> float:
        """Their resident size here, MiB."""

    @property
    def checkpoint(self) -> Any:
        """``name``, ``folder`` and ``version`` of what is asked."""

    @property
    def writer(self) -> Writer:
        """Makes passages of prompts."""

    @property
    def continues(self) -> bool:
        """Whether it goes on from an answer that was begun for it."""

    def asking(self) -> AbstractContextManager[None]:
        """Hold the questions of one batch."""

    def wear(self, adapters: Mapping[str, str], *, offline: bool) -> None:
        """Load adapters, name → folder or hub id."""

    def under(self, adapter: str) -> AbstractContextManager[None]:
        """Ask with one of several adapters."""

    def see(self, images: Sequence[Image]) -> Sequence[Seen]:
        """Look at images, ``(H, W, 3) uint8 RGB``."""

    def weigh(
        self, passages: Sequence[Passage], tails: Sequence[Sequence[Tail]]
    ) -> list[NDArray[Any]]:
        """Return the log-probability of each tail, ``(tails,)`` per passage.

        Raises:
            Unanswered: A passage has no answer; asked again without it, the others do.
        """

    def generate(self, passages: Sequence[Passage], *, tokens: int) -> list[str]:
        """Let it write."""

    def close(self) -> None:
        """Let go of what it holds."""
