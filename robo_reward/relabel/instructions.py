"""Which sentence each frame is scored against; a missing or generic one is refused.

A reward model that is asked about "perform the task" answers, and what it says is worthless.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robo_reward.datasets.recorded import Recorded, Segment
from robo_reward.errors import InstructionError, did_you_mean, require
from robo_reward.task import check_instruction

SHOWN = 3

_VERBS = "perform|do|complete|execute|finish|solve|carry out|accomplish|follow"
_NOUNS = "tasks?|jobs?|episodes?|demos?|demonstrations?|trajector(?:y|ies)|instructions?|actions?"
_GENERIC = re.compile(
    rf"(?:please )?(?:(?:{_VERBS})(?: with)? )?(?:(?:a|an|the|this|that|your|some|my|given|robot|"
    rf"robotic|manipulation|language|default|test|dummy|unknown|new|single) )*(?:{_NOUNS})"
    r"(?: (?:description|name|\d+))*"
)
_EMPTY_WORDS = """
none null nan na n a unknown undefined default test testing dummy placeholder untitled unnamed
language instruction robot manipulation teleop teleoperation recording record data dataset
foo bar tbd do something move pick manipulate interact
"""
_EMPTY = frozenset(_EMPTY_WORDS.split()) | {
    "n a",
    "do it",
    "do something",
    "move the robot",
    "no instruction",
    "robot manipulation",
}

HOW = (
    "say what the robot should do: --instruction TEXT for every episode that brings no sentence, "
    "or --instructions FILE (YAML or JSON) with lines `EPISODE: sentence`, or, for parts of an "
    "episode, `EPISODE: [{start: 0, stop: 120, instruction: sentence}, …]`"
)


def is_generic(text: str) -> bool:
    """Whether a sentence says nothing about what is to be done.

    Example:
        >>> is_generic("Perform the task."), is_generic("task_0"), is_generic("open the drawer")
        (True, True, False)
    """
    words = " ".join(re.sub(r"[\W_]+", " ", text.lower()).split())
    bare = re.sub(r"(?:\b|(?<=[a-z]))\d+\b", "", words).strip()
    return not re.search(r"[^\W\d_]", words) or bare in _EMPTY or bool(_GENERIC.fullmatch(words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """Where sentences come from: a file first, then the recording, then the one for all others.

    Attributes:
        fallback: For episodes that bring none.
        by_episode: Episode id → sentence, or sentences of its parts.
        allow_generic: Whether a sentence that says nothing is used after all.
    """

    fallback: str = ""
    by_episode: Mapping[str, str | tuple[Segment, ...]] = field(default_factory=dict)
    allow_generic: bool = False

    def of(self, episode: Recorded) -> tuple[Segment, ...]:
        """Return the parts of an episode with their sentences; the last one has no end.

        Raises:
            InstructionError: There is none, or it is generic.
        """
        given = self.by_episode.get(episode.id)
        if given is None and (parts := episode.segments):
            given = parts
        if isinstance(given, tuple):
            whole = _usable(episode.instruction) or self.fallback
            covers = _covering(given, whole)
        else:
            own = episode.instruction
            text = given or (own if own.strip() and not is_generic(own) else "") or self.fallback
            covers = (_part(0, text or own),)
        for part in covers:
            self._check(part.instruction)
        return covers

    def digest(self) -> str:
        """Name these settings; part of what makes two runs the same."""
        plain: list[object] = [self.fallback, self.allow_generic]
        for name, value in sorted(self.by_episode.items()):
            parts = (
                value
                if isinstance(value, str)
                else [(s.start, s.stop, s.instruction) for s in value]
            )
            plain.append([name, parts])
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]

    def _check(self, text: str) -> None:
        if not text.strip():
            raise InstructionError("there is no instruction")
        check_instruction(text)
        if is_generic(text) and not self.allow_generic:
            raise InstructionError(f"the instruction {text!r} says nothing about the goal")


def check_all(instructions: Instructions, found: Sequence[tuple[str, str]], total: int) -> None:
    """Refuse a dataset in which episodes have no sentence that can be used.

    Args:
        instructions: Settings; a sentence for an episode that is not there is refused too.
        found: (episode, why) of those that cannot be scored.
        total: Number of episodes.

    Raises:
        InstructionError: There are such.
    """
    if not found:
        return
    shown = "; ".join(f"{name}: {why}" for name, why in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise InstructionError(
        f"{len(found)} of {total} episodes cannot be scored ({shown}{more}); {HOW}"
    )


def read_instructions(path: Path) -> dict[str, str | tuple[Segment, ...]]:
    """Read a YAML or JSON file of episode → sentence, or → sentences of its parts.

    Raises:
        InstructionError: It cannot be read, or holds something else.
    """
    yaml: Any = require("yaml", extra="camera")
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InstructionError(f"--instructions {path} cannot be read: {error}") from error
    if not isinstance(plain, dict) or not plain:
        raise InstructionError(f"--instructions {path} must hold lines `EPISODE: sentence`")
    return {str(name): _entry(path, str(name), value) for name, value in plain.items()}


def unknown_episodes(instructions: Instructions, ids: Sequence[str]) -> str:
    """Return a sentence about the first episode of the file that is not there, or nothing."""
    known = set(ids)
    for name in instructions.by_episode:
        if name not in known:
            return f"--instructions names episode {name!r}; {did_you_mean(name, ids[:1000])}"
    return ""


def sentence_at(parts: Sequence[Segment], frame: int) -> str:
    """Return the sentence of a frame."""
    return next(part.instruction for part in parts if part.start <= frame < part.stop)


_NO_END = 2**62


def _part(start: int, text: str) -> Segment:
    return Segment(start=start, stop=_NO_END, instruction=text)


def _usable(text: str) -> str:
    return "" if is_generic(text) else text


def _covering(parts: Sequence[Segment], whole: str) -> tuple[Segment, ...]:
    """Fill the gaps between the parts with the sentence of the whole episode."""
    covers: list[Segment] = []
    at = 0
    for part in sorted(parts, key=lambda each: each.start):
        if part.start > at:
            covers.append(Segment(start=at, stop=part.start, instruction=whole))
        covers.append(
            Segment(start=max(at, part.start), stop=part.stop, instruction=part.instruction)
        )
        at = part.stop
    # Behind the last part its sentence goes on where there is none for the whole.
    covers.append(_part(at, whole or covers[-1].instruction))
    return tuple(covers)


def _entry(path: Path, name: str, value: object) -> str | tuple[Segment, ...]:
    if isinstance(value, str):
        return value
    problem = (
        f"--instructions {path}: {name} must be a sentence or a list of "
        "{start: FRAME, stop: FRAME, instruction: sentence}"
    )
    if not isinstance(value, list) or not value:
        raise InstructionError(problem)
    parts = []
    for item in value:
        try:
            part = Segment(
                start=int(item["start"]),
                stop=int(item["stop"]),
                instruction=str(item["instruction"]),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise InstructionError(problem) from error
        if not 0 <= part.start < part.stop:
            raise InstructionError(f"{problem}; start must be >= 0 and below stop, got {item}")
        parts.append(part)
    ordered = sorted(parts, key=lambda each: each.start)
    for before, after in itertools.pairwise(ordered):
        if after.start < before.stop:
            raise InstructionError(f"--instructions {path}: {name} has parts that overlap")
    return tuple(ordered)
