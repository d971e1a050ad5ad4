"""Sentences that a video does not fulfil: near misses of its own, and ones about other things.

A near miss changes one word: another object or colour, another place, another verb. What a change
means for progress depends on which one it is, so the kind is told with the sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from robo_reward.envs.tabletop.instructions import PAD_WORDS, PART_WORDS, SHAPE_WORDS, WORDINGS
from robo_reward.envs.tabletop.spec import COLOURS

Kind = Literal["object", "place", "verb", "opposite"]

COLOUR_WORDS = (*COLOURS, "black", "white", "grey", "brown")
THINGS = (
    "cube", "block", "box", "ball", "cylinder", "can", "cup", "mug", "bowl", "plate", "bottle",
    "drawer", "door", "button", "lever", "handle", "spoon", "towel", "banana", "apple", "peg",
    "puck", "window", "faucet", "pad", "mat", "shelf", "basket", "tray", "hole",
)  # fmt: skip
VERBS = ("push", "pull", "lift", "press", "turn", "reach", "slide", "stack", "shake", "wipe")
OPPOSITES = (("open", "close"), ("opened", "closed"), ("left", "right"), ("on", "off"))
PLACED = frozenset(
    {"on", "onto", "to", "into", "in", "inside", "over", "under", "at", "beside", "behind", "above"}
)
"""Words behind which the place is named."""
IDLE = PLACED | {"the", "a", "an", "of", "it", "its", "up", "down", "and", "please", "now", "with"}
MUCH_ALIKE = 0.5
"""Share of content words in common from which a sentence may mean the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A sentence that differs in one word.

    Attributes:
        text: The sentence.
        kind: ``object`` (also its colour), ``place``, ``verb``, or ``opposite`` (opened for shut).
    """

    text: str
    kind: Kind


def near_misses(instruction: str) -> list[NearMiss]:
    """Return every near miss that changing one known word gives; empty where none is known.

    Example:
        >>> [one.text for one in near_misses("open the jar")]
        ['close the jar']
        >>> {one.kind for one in near_misses("push the red cube to the blue pad")} == {
        ...     "object", "place", "verb"}
        True
    """
    words = instruction.lower().split()
    found = []
    behind = False
    for at, word in enumerate(words):
        behind = behind or (at > 0 and word in PLACED)
        for other, kind in _changes(word, place=behind, first=at == 0):
            text = " ".join([*words[:at], other, *words[at + 1 :]])
            found.append(NearMiss(text=text, kind=kind))
    return found


def _changes(word: str, *, place: bool, first: bool) -> list[tuple[str, Kind]]:
    for pair in OPPOSITES:
        if word in pair:
            other = pair[1 - pair.index(word)]
            if word in ("left", "right"):  # a side is a place: on the way both look alike
                return [(other, "place")]
            # "on" is a place more often than a state: only "switch on", "turn off" mean the latter.
            return [] if word in ("on", "off") else [(other, "opposite")]
    kind: Kind = "place" if place else "object"
    for group in (COLOUR_WORDS, THINGS):
        if word in group:
            return [(other, kind) for other in group if not _same_thing(other, word)]
    if first and word in VERBS:
        return [(other, "verb") for other in VERBS if other != word]
    return []


def _same_thing(first: str, second: str) -> bool:
    groups = (*SHAPE_WORDS.values(), PAD_WORDS, ("cup", "mug"))
    return first == second or any(first in group and second in group for group in groups)


@lru_cache(maxsize=1)
def sentence_bank(count: int = 400) -> tuple[str, ...]:
    """Return sentences of the table-top grammar about arbitrary things, always the same ones."""
    rng = np.random.default_rng(5)
    wordings = [wording for group in WORDINGS.values() for wording in group]

    def thing() -> str:
        colour = COLOUR_WORDS[int(rng.integers(len(COLOUR_WORDS)))]
        return f"{colour} {THINGS[int(rng.integers(len(THINGS)))]}"

    made = []
    for _ in range(count):
        wording = wordings[int(rng.integers(len(wordings)))]
        made.append(wording.format(target=thing(), place=thing()))
    parts = [word for group in PART_WORDS.values() for word in group]
    made += [f"reach the {word.format(colour=colour)}" for word in parts for colour in COLOURS]
    return tuple(dict.fromkeys(made))


def alike(first: str, second: str) -> float:
    """Share of content words that two sentences have in common, [0, 1], of the shorter one."""
    mine, theirs = _content(first), _content(second)
    least = min(len(mine), len(theirs))
    return len(mine & theirs) / least if least else 1.0


def foreign(instruction: str, others: tuple[str, ...]) -> list[str]:
    """Return those of other sentences that cannot be taken for this one."""
    return [text for text in others if alike(instruction, text) < MUCH_ALIKE]


def _content(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.lower())) - IDLE
