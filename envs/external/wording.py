"""Sentences for the tasks of a suite: several of each, some held out, and false ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How one task is said.

    Attributes:
        said: Sentences of every split but ``paraphrase``.
        held_out: Sentences of ``paraphrase`` alone.
        about: What the sentences name. Two tasks that share a thing may be true together; those
            that share none name what is not in each other's picture, or is not touched there.
            Empty where the sentences are too vague to be false of anything.
        undone: Sentences of the same scene that are false once the task is done.
    """

    said: tuple[str, ...]
    held_out: tuple[str, ...]
    about: tuple[str, ...]
    undone: tuple[str, ...] = ()


def instruct(wording: Wording, *, rng: np.random.Generator, held_out: bool) -> str:
    """Draw a sentence for a task."""
    sentences = wording.held_out if held_out else wording.said
    return sentences[int(rng.integers(len(sentences)))]


def false_instructions(
    task: str,
    tasks: Mapping[str, Wording],
    *,
    rng: np.random.Generator,
    success: bool,
    held_out: bool = False,
    elsewhere: tuple[str, ...] = (),
    at_most: int = 4,
) -> list[str]:
    """Return sentences that are false of a video's end, those of the same scene first.

    The opposite of a task is false only where the task was done: a drawer that was never opened is
    a closed drawer.

    Args:
        task: Task of the video.
        tasks: All tasks of the suite.
        rng: Source of randomness.
        success: Whether the video ends with the task done.
        held_out: Draw from the held-out sentences.
        elsewhere: Sentences about what no scene of the suite holds.
        at_most: How many.
    """
    here = tasks[task]
    mine = set(here.about)
    found = list(here.undone) if success else []
    others = [name for name, other in tasks.items() if other.about and not mine & set(other.about)]
    order = [others[int(index)] for index in rng.permutation(len(others))]
    found += [instruct(tasks[name], rng=rng, held_out=held_out) for name in order[:at_most]]
    found += [elsewhere[int(index)] for index in rng.permutation(len(elsewhere))]
    return found[:at_most]
