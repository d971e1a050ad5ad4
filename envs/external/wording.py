"""Sentences for the tasks of a suite: several of each, some held out, and false ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def sentences(
    task: str,
    tasks: Mapping[str, Wording],
    *,
    rng: np.random.Generator,
    success: bool,
    held_out: bool = False,
    elsewhere: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return what is known of sentences about a video, as the table-top recorder says it.

    Args:
        task: Task of the video.
        tasks: The tasks whose sentences may be asked about.
        rng: Source of randomness.
        success: Whether the video ends with the task done.
        held_out: Draw from the held-out sentences.
        elsewhere: Sentences about what no scene of the suite holds.

    Returns:
        ``alternatives``: false at the end. ``never_true``: those of them that are false of every
        frame. ``other_tasks``: task → a sentence of it that is false here. ``paraphrases``: the
        task's own sentences, ``grammar`` and ``held_out``.
    """
    here = tasks[task]
    false = false_instructions(
        task, tasks, rng=rng, success=success, held_out=held_out, elsewhere=elsewhere
    )
    return {
        "alternatives": false,
        "never_true": [text for text in false if text not in here.undone],
        "other_tasks": {
            name: instruct(tasks[name], rng=rng, held_out=held_out) for name in _unlike(task, tasks)
        },
        "paraphrases": {"grammar": list(here.said), "held_out": list(here.held_out)},
    }


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
    found = list(here.undone) if success else []
    others = _unlike(task, tasks)
    order = [others[int(index)] for index in rng.permutation(len(others))]
    found += [instruct(tasks[name], rng=rng, held_out=held_out) for name in order[:at_most]]
    found += [elsewhere[int(index)] for index in rng.permutation(len(elsewhere))]
    return found[:at_most]


def _unlike(task: str, tasks: Mapping[str, Wording]) -> list[str]:
    """Names of the tasks whose sentences are false of a video of this one, in their order."""
    mine = set(tasks[task].about)
    return [name for name, other in tasks.items() if other.about and not mine & set(other.about)]
