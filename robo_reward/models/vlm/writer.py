"""Turns the turns of a prompt into tokens, pictures in their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robo_reward.errors import ConfigError, InstructionError, ModelError

from .families import Family
from .passage import Passage, Picture
from .prompt import Part

Turns = Sequence[tuple[str, Sequence[Part]]]


class Writer:
    """Writes passages for one checkpoint.

    Args:
        tokenizer: Of the checkpoint.
        family: Conventions of the checkpoint.
        name: Of the checkpoint, for messages.
    """

    def __init__(self, tokenizer: Any, *, family: Family, name: str) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.name = name
        self._known: dict[str, list[int]] = {}
        self._image = self.token(family.image)
        special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        # What a tokenizer adds for text (runs of blanks, say) is no danger.
        self._special = sorted(token for token in special if len(token.strip()) > 1)
        self.end: int = tokenizer.eos_token_id

    def check(self, text: str) -> None:
        """Refuse text that would be read as a picture or as the end of a turn.

        Raises:
            InstructionError: It holds a token that this checkpoint takes for a sign.
        """
        for token in self._special:
            if token in text:
                raise InstructionError(f"the instruction holds {token}, a sign of {self.name}")

    def write(self, turns: Turns) -> Passage:
        """Return the prompt up to where the answer begins.

        Raises:
            ConfigError: The checkpoint has no chat template, and the prompt wants one.
            ModelError: Its chat template does not place the pictures.
        """
        pictures = [part for _, parts in turns for part in parts if isinstance(part, Picture)]
        text = self._text(turns)
        pieces = text.split(self.family.image)
        if len(pieces) != len(pictures) + 1:
            raise ModelError(
                f"the chat template of {self.name} writes {len(pieces) - 1} pictures for "
                f"{len(pictures)}"
            )
        passage = Passage()
        passage.write(self.tokens(pieces[0]))
        for picture, piece in zip(pictures, pieces[1:], strict=True):
            passage.write(self.tokens(self.family.before))
            passage.show(picture, token=self._image)
            passage.write(self.tokens(self.family.after))
            passage.write(self.tokens(piece))
        return passage

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of text, nothing added."""
        found = self._known.get(text)
        if found is None:
            found = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
            if len(self._known) < 4096:
                self._known[text] = found
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """Return what tokens say, signs left out."""
        said: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return said

    def tails(self, answers: Sequence[str], *, opening: str, closing: str) -> list[tuple[int, ...]]:
        """Return the tokens of each possible answer, such that none begins another.

        Where one does, the end of the turn decides between them.
        """
        tails = [tuple(self.tokens(opening + answer + closing)) for answer in answers]
        held = set(tails)
        if any(tail[:cut] in held for tail in tails for cut in range(1, len(tail))):
            tails = [(*tail, self.end) for tail in tails]
        if len(set(tails)) != len(tails) or any(not tail for tail in tails):
            raise ModelError(f"the tokenizer of {self.name} cannot tell the answers apart")
        return tails

    def _text(self, turns: Turns) -> str:
        family = self.family
        if turns[0][0] == "raw":
            image = family.raw_before + family.image + family.raw_after
            start = self.tokenizer.bos_token or ""
            return start + "".join(p if isinstance(p, str) else image for p in turns[0][1])
        if not self.tokenizer.chat_template:
            raise ConfigError(f"{self.name} has no chat template; use a prompt with [raw]")
        messages = [
            {
                "role": role,
                "content": [
                    {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                    for part in parts
                ],
            }
            for role, parts in turns
        ]
        written: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return written

    def token(self, token: str) -> int:
        """Return the id of a token.

        Raises:
            ConfigError: The tokenizer does not have it.
        """
        found = self.tokenizer.convert_tokens_to_ids(token)
        if found is None or found == self.tokenizer.unk_token_id:
            raise ConfigError(f"the tokenizer of {self.name} lacks {token}")
        return int(found)
