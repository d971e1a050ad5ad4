"""Questions on their way: each one carries its identity, its clock and what became of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from robo_reward.query import Mark, Query
from robo_reward.signals import Score

from .guarded import asked

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5
# The node answers at the deadline at the latest; so long its answer, which says why, may travel.
GRACE_S = 0.05


class Waiting(Protocol):
    """What a ``RemotePending`` needs of the link that answers it; see ``link.Link``."""

    def wait(self, pending: RemotePending, timeout_s: float) -> None:
        """Return when it is settled, or in time."""
        ...

    def look(self) -> None:
        """Read what has come, without waiting."""
        ...

    def cancel(self, pending: RemotePending) -> None:
        """Give its questions up."""
        ...


class RemotePending:
    """Scores that a node was asked for."""

    def __init__(self, *, session: str, link: Waiting | None) -> None:
        self.session = session
        self.asks: list[Ask] = []
        self._link = link
        self._left = 0

    def load(self, asks: Sequence[Ask]) -> None:
        """Say which questions these are; once, before any is sent."""
        self.asks = list(asks)
        self._left = len(self.asks)

    @property
    def settled(self) -> bool:
        """Whether every question has its outcome."""
        return self._left == 0

    def done(self) -> bool:
        """Whether ``result`` would return without waiting."""
        if not self.settled and self._link is not None:
            self._link.look()
        return self.settled

    def result(self, *, timeout_s: float) -> list[Score]:
        """Return one score per question, in the order asked; status ``timeout`` where none is."""
        if not self.settled and self._link is not None:
            self._link.wait(self, max(0.0, timeout_s))
        return [ask.score or ask.missing(self.session) for ask in self.asks]

    def cancel(self) -> None:
        """Give up: the node is told, and what still comes is dropped."""
        if not self.settled and self._link is not None:
            self._link.cancel(self)

    def settle_one(self) -> None:
        """Count one answer; called by the thread that has the sockets of the link."""
        self._left -= 1


@dataclass(slots=True, eq=False, kw_only=True)
class Ask:
    """One question and its state; after ``submit`` only who has the link's sockets touches it.

    Attributes:
        seq: Names it within the session; a retry keeps it.
        query: With the frames as they go over the wire.
        pending: Who waits for it.
        budget_s: Time for one try.
        give_up_s: Monotonic time after which there is no other try.
        submitted_s: Monotonic time of the question.
        attempt: Number of the try.
        sent_s: Monotonic time at which this try was sent; 0 while it was not.
        wait_until_s: Monotonic time before which the next try must not be sent.
        pause_s: Length of the next pause.
        mended: How often frames or the task had to be sent again.
        reason: Why there is no answer yet.
        detail: In words.
        score: The outcome.
    """

    seq: int
    query: Query | Mark
    pending: RemotePending
    budget_s: float
    give_up_s: float
    submitted_s: float
    attempt: int = 0
    sent_s: float = 0.0
    wait_until_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    mended: int = 0
    reason: str = "DEADLINE"
    detail: str = "no answer from the node in time"
    score: Score | None = None

    def missing(self, session: str) -> Score:
        """Say why there is no answer."""
        total_s = time.monotonic() - self.submitted_s
        identity = asked(self.query, client=session, total_s=total_s)
        return Score.missing(self.reason, identity=identity, detail=self.detail)

    def again(self, now_s: float, *, reason: str, detail: str, after_s: float = 0.0) -> None:
        """Put up for another try, not before a pause that doubles each time."""
        self.reason = reason
        self.detail = detail
        self.sent_s = 0.0
        self.attempt = min(self.attempt + 1, 255)
        self.wait_until_s = now_s + max(self.pause_s, min(after_s, LONGEST_PAUSE_S))
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
