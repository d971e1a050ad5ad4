"""Variation of sentences: how people say and type a task beyond the words that name it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BEFORE = ("please", "now", "robot,", "next,", "your task:", "could you", "i want you to", "try to")
AFTER = ("please", "now", ".", "!", "carefully", "with the arm", "for me")


@dataclass(frozen=True, slots=True, kw_only=True)
class WordingConfig:
    """Shares of sentences that are varied in each way.

    Attributes:
        framed: Something is said before or after the task.
        terse: The articles are left out.
        misspelled: One word lacks a letter, has one twice, or two swapped.
        partial: An object is named by its colour or its shape alone, where that suffices: what a
            colour is and what a shape is are thereby learned apart, for pairs that nobody showed.
        spelled: One word is spelled letter by letter, so that the pieces of unknown words are
            known.
    """

    framed: float = 0.2
    terse: float = 0.1
    misspelled: float = 0.05
    partial: float = 0.3
    spelled: float = 0.06


def vary(text: str, rng: np.random.Generator, *, config: WordingConfig) -> str:
    """Say a sentence in another way with the same meaning.

    Args:
        text: One sentence.
        rng: Source of randomness; the same number of draws decides whatever is asked for.
        config: How often which way is taken.
    """
    framed, terse, misspelled, spelled = rng.random(4)
    if terse < config.terse:
        text = " ".join(word for word in text.split() if word != "the")
    words = text.split()
    at = int(rng.integers(len(words)))
    if misspelled < config.misspelled and len(words[at]) > 3:
        words[at] = _misspell(words[at], rng)
    elif spelled < config.spelled:
        words[at] = " ".join(words[at])
    text = " ".join(words)
    if framed < config.framed:
        before = rng.random() < 0.5
        extra = BEFORE if before else AFTER
        said = extra[int(rng.integers(len(extra)))]
        text = f"{said} {text}" if before else f"{text} {said}"
    return text


def _misspell(word: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(len(word) - 1))
    kind = int(rng.integers(3))
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
