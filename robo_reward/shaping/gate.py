"""The done gate: from a probability over time to a decision that ends episodes.

One lucky frame must not end an episode (LeRobot's classifier does), one unlucky frame must not
undo it. Voting is that of Robometer and RPL, the dwell time that of VLAC and RLinf, the veto that
of HIL-SERL.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from robo_reward.errors import ConfigError
from robo_reward.gate_config import GateConfig


class DoneGate:
    """Turns ``done`` probabilities of one episode into ``is_done``.

    A query without a score leaves the gate as it is: nothing was seen, so nothing is voted.

    Example:
        >>> gate = DoneGate(GateConfig(votes=2, window=2, dwell=1))
        >>> [gate.update(p) for p in (0.95, 0.2, 0.95, 0.95)]
        [False, False, False, True]
    """

    def __init__(self, config: GateConfig | None = None) -> None:
        self.config = config or GateConfig()
        self.is_done = False
        self._votes: deque[bool] = deque(maxlen=self.config.window)
        self._against = 0

    def reset(self) -> None:
        """Forget everything: a new episode or another task."""
        self.is_done = False
        self._votes.clear()
        self._against = 0

    def update(self, done: float | Sequence[float], *, vetoed: bool = False) -> bool:
        """Take one query into account and return the decision.

        Args:
            done: Probability in [0, 1], or one per camera: the least of them counts, because a
                camera that sees the task undone outweighs one that does not see it. NaN where
                there is no score.
            vetoed: Proprioception says that it cannot be done (gripper still closed, arm moving);
                the query then votes no.
        """
        seen = [done] if isinstance(done, (int, float)) else list(done)
        if not seen or any(math.isnan(p) for p in seen):
            return self.is_done
        threshold = self.config.leave if self.is_done else self.config.enter
        self._votes.append(not vetoed and min(seen) >= threshold)
        stands = sum(self._votes) >= self.config.votes
        self._against = self._against + 1 if stands != self.is_done else 0
        if self._against >= self.config.dwell:
            self.is_done = stands
            self._against = 0
        return self.is_done

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {
            "is_done": self.is_done,
            "votes": list(self._votes),
            "against": self._against,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: A value is missing.
        """
        try:
            votes = [bool(vote) for vote in state["votes"]]
            self.is_done = bool(state["is_done"])
            self._against = int(state["against"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"state of the done gate cannot be read: {error!r}") from error
        self._votes = deque(votes, maxlen=self.config.window)
