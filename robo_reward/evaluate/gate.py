"""The done gate played over a recorded episode, at its operating point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robo_reward.shaping import DoneGate, GateConfig


def fire_frame(done: NDArray[np.float32], *, gate: GateConfig) -> int | None:
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
