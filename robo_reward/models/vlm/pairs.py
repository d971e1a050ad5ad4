"""Which of two pictures is further: asked in both orders, so that their places do not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .generative import Case
from .options import VlmOptions
from .passage import Picture
from .prompt import Filling, percents
from .readings import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions(VlmOptions):
    """Options of models that compare.

    Attributes:
        symmetric: Whether both orders of a pair are asked, at twice the cost. Answers are then
            antisymmetric, whatever the model makes of first and second.
    """

    symmetric: bool = True


def filling(case: Case, first: Sequence[Picture], second: Sequence[Picture]) -> Filling:
    """Return what a prompt may show of a pair, ``first`` as the reference."""
    return {
        "instruction": [case.text],
        "reference": first[:1],
        "frame": second[:1],
        "first": case.start[:1],
        "goal": [case.goal] if case.goal is not None else [],
        "demo": percents(case.demo),
    }


def both_ways(
    cases: Sequence[Case],
    ask: Callable[[Sequence[Filling]], Vector],
    *,
    symmetric: bool,
) -> Vector:
    """Return a signed answer about (reference, newest) of each case, ``(n,)``.

    Args:
        cases: Where newest and reference are the same picture the answer is 0, and is not asked.
        ask: Fillings → signed answers, positive where the second picture is further.
        symmetric: Whether half of the difference to the other order is taken.
    """
    found = np.zeros(len(cases))
    differ = [row for row, case in enumerate(cases) if case.newest[0].key != case.reference[0].key]
    if not differ:
        return found
    chosen = [cases[row] for row in differ]
    forth = [filling(case, case.reference, case.newest) for case in chosen]
    back = [filling(case, case.newest, case.reference) for case in chosen] if symmetric else []
    answers = ask([*forth, *back])
    found[differ] = answers[: len(chosen)]
    if symmetric:
        found[differ] = (found[differ] - answers[len(chosen) :]) / 2
    return found


def preference(
    cases: Sequence[Case],
    choose: Callable[[Sequence[Filling]], Vector],
    *,
    symmetric: bool,
) -> Vector:
    """Return P(newest further) − P(reference further), ``(n,)`` in [−1, 1].

    Args:
        cases: Pairs.
        choose: Fillings → probabilities of "the first" and "the second" in columns 0 and 1; any
            others are for neither.
        symmetric: See ``both_ways``.
    """

    def ask(fillings: Sequence[Filling]) -> Vector:
        chances = choose(fillings)
        signed: Vector = chances[:, 1] - chances[:, 0]
        return signed

    return both_ways(cases, ask, symmetric=symmetric)
