"""The done gate played over recorded episodes: when it would have fired, and whether rightly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robo_reward.gate_config import GateConfig

from .gate import DoneGate


def fire_frame(done: NDArray[np.floating[Any]], *, gate: GateConfig) -> int | None:
    """Return the frame at which the gate first decides "done", or ``None``.

    Recordings often stop in the frame of success, where votes and dwell could never be complete;
    the last score is therefore held for ``votes + dwell - 2`` frames more: the scene stands still.

    Args:
        done: ``(T,)`` probabilities, NaN where there was no score.
        gate: The operating point.

    Returns:
        Index of the frame, at most ``T - 1 + votes + dwell - 2``.
    """
    decision = DoneGate(gate)
    held = np.concatenate([done, np.repeat(done[-1:], gate.votes + gate.dwell - 2)])
    for index, value in enumerate(held):
        if decision.update(float(value)):
            return index
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """What the done gate made of one episode.

    Attributes:
        fired: Frame at which the gate first decided "done", or ``None``.
        true_done: The goal held in that frame (``False`` where the gate never fired).
        false_done: The gate ended an episode whose goal did not hold.
        missed: The goal held at the end and the gate never fired.
        steps: Frames that were played until the gate fired, or all of them.
        delay: Frames between the first true done and the decision; NaN unless ``true_done``.
    """

    fired: int | None
    true_done: bool
    false_done: bool
    missed: bool
    steps: int
    delay: float

    @property
    def counts(self) -> NDArray[np.float64]:
        """True, false and missed dones and steps, ``(4,)``: rows that add up over episodes."""
        return np.array([self.true_done, self.false_done, self.missed, self.steps], np.float64)


def gate_outcome(fired: int | None, truth: ArrayLike) -> GateOutcome:
    """Judge one decision of the gate against the truth of every frame.

    The first decision ends the episode, as it would in RL; what comes later does not count. A
    decision is right where the goal holds in *that* frame, even if it is undone later.

    Args:
        fired: Frame at which the gate first decided "done", or ``None``. It may lie beyond the
            last frame (votes and dwell after the recording ended): the last frame is then meant.
        truth: ``(T,) bool`` whether the goal holds in each frame.
    """
    done = np.asarray(truth, bool)
    if fired is None:
        return GateOutcome(
            fired=None,
            true_done=False,
            false_done=False,
            missed=bool(done[-1]),
            steps=len(done),
            delay=math.nan,
        )
    right = bool(done[min(fired, len(done) - 1)])
    delay = float(fired - int(np.argmax(done))) if right else math.nan
    return GateOutcome(
        fired=fired,
        true_done=right,
        false_done=not right,
        missed=False,
        steps=min(fired, len(done) - 1) + 1,
        delay=delay,
    )


def done_precision(outcomes: tuple[float, float, float]) -> float:
    """Share of the gate's decisions that were right; NaN where it never fired.

    Args:
        outcomes: Numbers of true dones, false dones and missed dones.
    """
    true, false, _ = outcomes
    return true / (true + false) if true + false else math.nan


def done_recall(outcomes: tuple[float, float, float]) -> float:
    """True dones over true dones and missed ones; NaN where the goal was never reached.

    A false done in an episode that would have succeeded later ends it: it counts as false, not as
    missed, for nobody can say what would have come.
    """
    true, _, missed = outcomes
    return true / (true + missed) if true + missed else math.nan


def gate_precision(table: Mapping[str, NDArray[np.float64]]) -> float:
    """Precision over a table whose column ``gate`` holds ``GateOutcome.counts``, ``(n, 4)``."""
    return done_precision(tuple(table["gate"].sum(axis=0)[:3]))


def gate_recall(table: Mapping[str, NDArray[np.float64]]) -> float:
    """Recall over such a table."""
    return done_recall(tuple(table["gate"].sum(axis=0)[:3]))


def gate_false_dones(table: Mapping[str, NDArray[np.float64]]) -> float:
    """Episodes ended wrongly per 1,000 frames played, over such a table; NaN without frames."""
    _, false, _, steps = table["gate"].sum(axis=0)
    return float(1000.0 * false / steps) if steps else math.nan
