"""What a wrapper asks for scores: a model in this process or a node; it cannot tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from robo_reward.gate_config import GateConfig
from robo_reward.query import Mark, Query
from robo_reward.signals import LIMIT_MARK, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a source says of the model behind it.

    Attributes:
        model: Model name and weight hash.
        prompt: Hash of the prompt.
        calibration: Id of the calibration and the limit of uncertainty, see ``Identity``.
        signals: Names of the signals it gives.
        max_views: Number of cameras that one query may hold.
        goal_image: Whether ``Task.goal`` is read.
        demo: Whether ``Task.demo`` is read.
        history: Number of earlier instants that a query may hold.
        gates: Operating points of the calibration by instruction, ``""`` for all others; empty
            where there is none.
    """

    model: str
    prompt: str
    calibration: str
    signals: tuple[str, ...]
    max_views: int
    goal_image: bool
    demo: bool = False
    history: int = 0
    gates: Mapping[str, GateConfig] = field(default_factory=dict)

    @property
    def abstains(self) -> bool:
        """Whether it gives no score where it is too uncertain."""
        return LIMIT_MARK in self.calibration

    def gate(self, instruction: str) -> GateConfig | None:
        """Return the calibrated operating point for an instruction, ``None`` without one."""
        return self.gates.get(instruction, self.gates.get(""))


class Pending(Protocol):
    """Scores that were asked for and may not be there yet."""

    def done(self) -> bool:
        """Whether ``result`` would return without waiting."""
        ...

    def result(self, *, timeout_s: float) -> list[Score]:
        """Return one score per question, in the order asked.

        Never raises for a missing answer: after ``timeout_s`` (and whatever the source itself
        allows) each unanswered question gets a score with status ``timeout``.
        """
        ...

    def cancel(self) -> None:
        """Give up: the answers will not be used."""
        ...


class Source(Protocol):
    """Answers queries. ``close`` may be called twice; a context manager closes on exit."""

    def info(self) -> ModelInfo:
        """Say which model answers; raises ``PeerUnreachable`` when nobody does."""
        ...

    def submit(
        self, queries: Sequence[Query | Mark], *, deadline_s: float | None = None
    ) -> Pending:
        """Ask without waiting; ``deadline_s`` is the budget of one try, seconds."""
        ...

    def close(self) -> None:
        """Free sockets and threads."""
        ...
