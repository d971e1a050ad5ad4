"""Prompts are files: what is said to a backbone, in which order, and how its answer begins.

    # Notes, up to the first section.
    [system]
    You judge robots.
    [user]
    {clip}
    The robot was told to {instruction}. The goal looks like this: {goal}
    [answer]
    Progress: {answer}%

Sections are ``system``, ``user``, ``assistant`` (turns of an example) and ``answer``: how the
answer begins, ``{answer}`` in it where it is read, and what follows that. A file with ``raw``
instead of turns goes past the chat template of the checkpoint. A line with a placeholder that has
nothing to show (a goal image that was not given) is left out. The hash of the file is part of every
score.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robo_reward.assets import ROOT
from robo_reward.errors import ConfigError, did_you_mean

from .passage import Picture

TURNS = ("system", "user", "assistant")
_SECTION = re.compile(r"^\[(raw|system|user|assistant|answer)\]\s*$", re.MULTILINE)
_PLACE = re.compile(r"\{(\w+)\}")
_ANSWER = "answer"

Part = str | Picture
Filling = Mapping[str, Sequence[Part]]
"""Placeholder → what it shows; nothing for one that has nothing to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt file that was read and found fit.

    Attributes:
        id: Name of the file and hash of its text.
        turns: Role and text, in order; the role is ``raw`` where there is no chat template.
        opening: How the answer begins.
        closing: What follows what is read of the answer.
    """

    id: str
    turns: tuple[tuple[str, str], ...]
    opening: str = ""
    closing: str = ""

    def fill(self, filling: Filling) -> list[tuple[str, list[Part]]]:
        """Return role and content of each turn."""
        return [(role, _filled(text, filling)) for role, text in self.turns]


def shipped(name: str) -> Path:
    """Return the file of a prompt of ours, ``NAME.vN``."""
    return ROOT / "prompts" / f"{name}.txt"


def read_prompt(path: Path, *, needs: Collection[str], may: Collection[str] = ()) -> Prompt:
    """Read a prompt file.

    Args:
        path: The file.
        needs: Placeholders without which the model's question makes no sense.
        may: Placeholders that it may show besides.

    Raises:
        ConfigError: It cannot be read, lacks a section or a placeholder, or has one that this
            model does not fill.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the prompt {path} cannot be read: {error}") from error
    sections = _sections(text)
    turns = tuple((role, body) for role, body in sections if role != _ANSWER)
    roles = [role for role, _ in turns]
    if roles != ["raw"] and ("user" not in roles or "raw" in roles):
        raise ConfigError(f"the prompt {path} needs a section [user], or [raw] alone")
    answer = "\n".join(body for role, body in sections if role == _ANSWER)
    if answer and f"{{{_ANSWER}}}" not in answer:
        raise ConfigError(f"the prompt {path} has [answer] without {{answer}}, where it is read")
    shown = {name for _, body in turns for name in _PLACE.findall(body)}
    if missing := sorted(set(needs) - shown):
        raise ConfigError(
            f"the prompt {path} lacks {{{missing[0]}}}; this model fills "
            + ", ".join(f"{{{name}}}" for name in sorted({*needs, *may}))
        )
    if unknown := sorted(shown - {*needs, *may}):
        hint = did_you_mean(unknown[0], {*needs, *may})
        raise ConfigError(f"the prompt {path} has {{{unknown[0]}}}, which is not filled; {hint}")
    opening, _, closing = answer.partition(f"{{{_ANSWER}}}")
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Prompt(id=f"{path.stem}@{digest}", turns=turns, opening=opening, closing=closing)


def percents(demo: Sequence[Picture]) -> list[Part]:
    """Return a demonstration with the share of it that is over behind each frame."""
    parts: list[Part] = []
    for place, picture in enumerate(demo):
        share = round(100 * place / max(1, len(demo) - 1))
        parts += [f"{share}% ", picture, " "]
    return parts


def _sections(text: str) -> list[tuple[str, str]]:
    marks = list(_SECTION.finditer(text))
    ends = [*(mark.start() for mark in marks), len(text)]
    return [
        (mark.group(1), text[mark.end() : end].strip("\n"))
        for mark, end in zip(marks, ends[1:], strict=True)
    ]


def _filled(text: str, filling: Filling) -> list[Part]:
    parts: list[Part] = []
    for line in text.split("\n"):
        names = _PLACE.findall(line)
        if any(not filling.get(name) for name in names):
            continue
        if parts:
            parts.append("\n")
        # Odd pieces are the names that the brackets of the pattern caught.
        for index, piece in enumerate(_PLACE.split(line)):
            parts += filling[piece] if index % 2 else [piece]
    return _joined(parts)


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Join neighbouring text, so that it is turned into tokens as one."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined
