"""VLAC: how much closer to the goal the second of two pictures is, in signed percent.

Idea: a critic of pairs (arXiv 2509.15937) answers c, the change as a share of what remained (of
what was achieved, where it is negative); with a demonstration in its prompt it takes tasks it was
not trained on. c is an expectation over all answers from −100 to 100, whatever tokens numbers have.
Between two queries progress is integrated as published, p + (1 − p)c or p + pc, here from the
episode's first frame to the reference, and from there to the newest one; nothing is carried along,
so a retry changes nothing. ``done`` is a question of its own, 1 or 0.
Weights: InternRobotics/VLAC (2B, InternVL2), Apache-2.0.
Known faults: the published folder holds an InternVL2 with code of its own; convert it to
transformers' InternVL first. Untrained tasks without demonstration do poorly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from robo_reward.errors import ConfigError
from robo_reward.models.base import Capabilities, ModelCard, ScoreArrays

from .vlm.generative import Case, GenerativeModel
from .vlm.pairs import PairOptions, both_ways, filling
from .vlm.prompt import Filling
from .vlm.readings import Vector, doubt, expectation

PERCENT = tuple(range(-100, 101))


@dataclass(frozen=True, slots=True, kw_only=True)
class VlacOptions(PairOptions):
    """Options of VLAC.

    Attributes:
        clip: See ``VlmOptions``; of the history the first frame is read.
        dead_band: Changes below this share, [0, 1), are 0.
        done_prompt: File instead of ours for the question whether it is done.

    Raises:
        ConfigError: The dead band is not in [0, 1).
    """

    clip: int = 2
    dead_band: float = 0.0
    done_prompt: str = ""

    def __post_init__(self) -> None:
        """Hold the range of the dead band."""
        if not 0.0 <= self.dead_band < 1.0:
            raise ConfigError(f"dead_band must be in [0, 1), got {self.dead_band:g}")


class Vlac(GenerativeModel):
    """Compares newest, reference and first frame; see ``GenerativeModel`` for the arguments."""

    named = "vlac"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "done", "uncertainty"),
            history=1,
            demo=True,
            licence="Apache-2.0",
            parameters=2_205_754_368,
        ),
        weights="InternRobotics/VLAC",
    )
    prompts = {  # noqa: RUF012
        "prompt": ("vlac.v1", ("reference", "frame", "instruction"), ("demo", "first", "goal")),
        "done_prompt": ("vlac-done.v1", ("frame", "instruction"), ()),
    }
    Options = VlacOptions
    options: VlacOptions

    def _judge(self, cases: Sequence[Case]) -> ScoreArrays:
        begun = [replace(case, newest=case.reference, reference=case.start) for case in cases]
        changes = both_ways([*begun, *cases], self._changes, symmetric=self.options.symmetric)
        changes[np.abs(changes) < self.options.dead_band] = 0.0
        before = integrated(np.zeros(len(cases)), changes[: len(cases)])
        now = integrated(before, changes[len(cases) :])
        done = self.choose(
            [filling(case, case.reference, case.newest) for case in cases],
            ("1", "0"),
            use="done_prompt",
        )
        return self.rows(
            len(cases),
            progress=now,
            progress_delta=now - before,
            done=done[:, 0],
            uncertainty=doubt(done),
        )

    def _changes(self, fillings: Sequence[Filling]) -> Vector:
        """Return the expected change of each pair, ``(n,)`` in [−1, 1]."""
        chances = self.choose(fillings, [signed(value) for value in PERCENT])
        return expectation(chances, PERCENT) / 100


def signed(percent: int) -> str:
    """Write a percentage as the checkpoint does: ``+12``, ``-3``, ``0``.

    Example:
        >>> signed(12), signed(-3), signed(0)
        ('+12', '-3', '0')
    """
    return f"{percent:+d}" if percent else "0"


def integrated(progress: Vector, change: Vector) -> Vector:
    """Return p + (1 − p)c where c ≥ 0, and p + pc where it is negative, ``(n,)`` in [0, 1].

    Source: VLAC and Robo-Dopamine, who share it.
    """
    made: Vector = np.where(
        change >= 0, progress + (1 - progress) * change, progress + progress * change
    )
    return made
