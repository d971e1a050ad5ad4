"""A prompt as a server reads it: turns of text and pictures, and what the model has said so far."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from robo_reward.errors import InstructionError
from robo_reward.models.vlm.families import FAMILIES
from robo_reward.models.vlm.passage import Picture
from robo_reward.models.vlm.prompt import Part

logger = logging.getLogger(__name__)

Turns = Sequence[tuple[str, Sequence[Part]]]
Tail = tuple[str, str, str]
"""How an answer begins, the answer, and what follows it."""

_OF_FAMILIES = sorted(
    {s for f in FAMILIES.values() for s in (f.image, f.before, f.after) if "><" not in s} - {""}
)
_SIGN = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<(?:start|end)_of_turn>|</?s>|\[/?INST\]|<fake_token_around_image>|"
    + "|".join(map(re.escape, _OF_FAMILIES))
)
"""What templates of common checkpoints take for the end of a turn or for a picture."""


@dataclass(slots=True, eq=False)
class Chat:
    """Turns, and the beginning of the answer.

    Attributes:
        turns: Role and content, as a prompt gives them; pictures hold data URLs.
        said: What was already put into the model's mouth.
    """

    turns: Turns
    said: list[str] = field(default_factory=list)

    def write(self, words: Sequence[str]) -> None:
        """Append to the answer."""
        self.said += words

    @property
    def begun(self) -> str:
        """The answer so far."""
        return "".join(self.said)

    @property
    def images(self) -> int:
        """Number of pictures."""
        return sum(isinstance(part, Picture) for _, parts in self.turns for part in parts)

    @property
    def key(self) -> str:
        """Hash of everything that is shown and said."""
        digest = hashlib.sha256()
        for role, parts in self.turns:
            digest.update(f"\x00{role}".encode())
            for part in parts:
                kind, text = ("t", part) if isinstance(part, str) else ("p", part.key)
                digest.update(f"\x01{kind}{len(text)}:{text}".encode())
        digest.update(f"\x02{self.begun}".encode())
        return digest.hexdigest()

    def messages(self, said: str) -> list[dict[str, Any]]:
        """Return what the server is sent; the last message is an unfinished one where ``said``."""
        told = [{"role": role, "content": _content(parts)} for role, parts in self.turns]
        return told + ([{"role": "assistant", "content": said}] if said else [])


class ChatWriter:
    """Writes chats; its tokens are words as they are.

    Args:
        name: Of the model at the server, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._told = False

    def check(self, text: str) -> None:
        """Refuse text that a server might read as a picture or as the end of a turn.

        Raises:
            InstructionError: It holds such a sign.
        """
        if found := _SIGN.search(text):
            raise InstructionError(f"the instruction holds {found[0]}, a sign of chat templates")

    def write(self, turns: Turns) -> Chat:
        """Return the prompt up to where the answer begins.

        A prompt that would go past the chat template becomes a user's turn: servers take pictures
        in chats only.
        """
        if turns[0][0] != "raw":
            return Chat(turns)
        if not self._told:
            logger.warning("%s: a prompt without turns is asked as a user's turn", self.name)
            self._told = True
        return Chat([("user", turns[0][1])])

    def tokens(self, text: str) -> list[str]:
        """Return text as what a chat can be continued with."""
        return [text]

    def tails(self, answers: Sequence[str], *, opening: str, closing: str) -> list[Tail]:
        """Return the possible answers with what stands around them."""
        return [(opening, answer, closing) for answer in answers]


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    # Older servers take text alone where there is no picture.
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        return "".join(texts)
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": part.seen}}
        for part in parts
    ]
