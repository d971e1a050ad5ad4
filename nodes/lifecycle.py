"""The life cycle of a node, as in ROS 2, with ``configuring`` and ``draining`` made visible.

unconfigured ─▶ configuring ─▶ inactive ─▶ active ─▶ draining ─▶ finalized
│              ▲           │          │
▼              └───────────┘          │
unconfigured        (deactivate)           │
every state but finalized ──────────────────────▶ draining, finalized
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum

from robo_reward.errors import RoboRewardError


class State(str, Enum):
    """Where a node stands in its life."""

    UNCONFIGURED = "unconfigured"
    CONFIGURING = "configuring"
    INACTIVE = "inactive"
    ACTIVE = "active"
    DRAINING = "draining"
    FINALIZED = "finalized"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.UNCONFIGURED: frozenset({State.CONFIGURING, State.FINALIZED}),
    State.CONFIGURING: frozenset({State.INACTIVE, State.UNCONFIGURED, State.DRAINING}),
    State.INACTIVE: frozenset({State.ACTIVE, State.UNCONFIGURED, State.DRAINING}),
    State.ACTIVE: frozenset({State.INACTIVE, State.DRAINING}),
    State.DRAINING: frozenset({State.FINALIZED}),
    State.FINALIZED: frozenset(),
}
"""The states that each state may be followed by."""


class IllegalTransition(RoboRewardError):
    """A node was told to go where its present state does not lead."""


class Lifecycle:
    """Holds the state of one node; thread-safe.

    Example:
        >>> life = Lifecycle()
        >>> life.to(State.CONFIGURING)
        >>> life.to(State.ACTIVE)
        Traceback (most recent call last):
        ...
        robo_reward.nodes.lifecycle.IllegalTransition: configuring -> active; legal: draining, \
inactive, unconfigured
    """

    def __init__(self, *, on_change: Callable[[State, State], None] | None = None) -> None:
        self._state = State.UNCONFIGURED
        self._lock = threading.Lock()
        self._on_change = on_change

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    def to(self, state: State) -> None:
        """Change state.

        Raises:
            IllegalTransition: ``TRANSITIONS`` has no such step.
        """
        with self._lock:
            before = self._state
            if state not in TRANSITIONS[before]:
                legal = ", ".join(sorted(s.value for s in TRANSITIONS[before])) or "none"
                raise IllegalTransition(f"{before.value} -> {state.value}; legal: {legal}")
            self._state = state
        if self._on_change is not None:
            self._on_change(before, state)
