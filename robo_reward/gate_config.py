"""The operating point of the done gate: it stands in calibrations, on the wire and in wrappers."""

from __future__ import annotations

from dataclasses import dataclass

from robo_reward.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Operating point of the gate; a calibration gives better numbers than these.

    Attributes:
        enter: While the gate is closed, a query at or above this probability votes yes.
        leave: While the gate is open, a query at or above this probability votes yes. Only sure
            frames open the gate, and it takes doubtful ones to close it.
        votes: Yes votes that are needed in the window.
        window: Queries in the window.
        dwell: Queries in a row for which the vote must stand before the decision follows it.

    Raises:
        ConfigError: All settings that are out of range, in one message.
    """

    enter: float = 0.9
    leave: float = 0.7
    votes: int = 3
    window: int = 4
    dwell: int = 2

    def __post_init__(self) -> None:
        """Refuse a gate that can never open or never close."""
        problems = []
        if not 0.0 < self.enter <= 1.0:
            problems.append(f"enter must be in (0, 1], got {self.enter}")
        if not 0.0 <= self.leave <= self.enter:
            problems.append(f"leave must be in [0, enter={self.enter}], got {self.leave}")
        if not 1 <= self.votes <= self.window:
            problems.append(f"votes must be in [1, window={self.window}], got {self.votes}")
        if self.dwell < 1:
            problems.append(f"dwell must be >= 1, got {self.dwell}")
        if problems:
            raise ConfigError("done gate: " + "; ".join(problems))
