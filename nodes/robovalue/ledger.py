"""Which request ids were answered and how: the same question is asked once, whoever repeats it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass

from robo_reward.protocol.robovalue import ContractError


@dataclass(slots=True, eq=False)
class _Entry:
    """An answer, or who is waited for; small, because hundreds of thousands are kept."""

    digest: bytes
    answer: Future[float] | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Somebody's part in a question.

    Attributes:
        mine: Whether the holder is the one who must find the answer and ``settle`` it.
    """

    ledger: Ledger
    request_id: str
    answer: Future[float] | float
    mine: bool

    def settle(self, outcome: float | BaseException) -> None:
        """Give the answer to all who wait; a failure is forgotten, so that it may be tried again.

        Only the first outcome of a claim that is ``mine`` counts.
        """
        if self.mine:
            self.ledger.settle(self, outcome)

    def result(self, *, timeout_s: float) -> float:
        """Return the answer.

        Raises:
            ContractError: There is none, or not in time.
        """
        if isinstance(self.answer, float):
            return self.answer
        try:
            return self.answer.result(timeout=max(0.0, timeout_s))
        except FutureTimeout as error:
            raise ContractError("timeout", "the same request is still being answered") from error


class Ledger:
    """Remembers answers by request id, the latest ``capacity`` of them; thread-safe.

    Example:
        >>> ledger = Ledger(capacity=10)
        >>> first, second = ledger.claim("a", b"1"), ledger.claim("a", b"1")
        >>> first.settle(0.5)
        >>> first.mine, second.mine, second.result(timeout_s=1.0)
        (True, False, 0.5)
    """

    def __init__(self, *, capacity: int) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of request ids."""
        return len(self._entries)

    def claim(self, request_id: str, digest: bytes) -> Claim:
        """Take part in a question.

        Args:
            request_id: Its name.
            digest: Hash of its inputs.

        Raises:
            ContractError: ``request_id_reused``: the name belongs to other inputs.
        """
        with self._lock:
            entry = self._entries.get(request_id)
            mine = entry is None
            if entry is None:
                entry = self._entries[request_id] = _Entry(digest, Future())
            elif entry.digest != digest:
                told = f"request {request_id} was used for other inputs"
                raise ContractError("request_id_reused", told)
            self._entries.move_to_end(request_id)
            self._forget()
            return Claim(ledger=self, request_id=request_id, answer=entry.answer, mine=mine)

    def settle(self, claim: Claim, outcome: float | BaseException) -> None:
        """See ``Claim.settle``."""
        with self._lock:
            if not isinstance(claim.answer, Future) or claim.answer.done():
                return
            if isinstance(outcome, BaseException):
                del self._entries[claim.request_id]
                claim.answer.set_exception(outcome)
            else:
                self._entries[claim.request_id].answer = outcome
                claim.answer.set_result(outcome)

    def _forget(self) -> None:
        """Drop the oldest answers; questions without one stay, and connections bound those."""
        while len(self._entries) > self.capacity:
            answered = (
                name for name, one in self._entries.items() if isinstance(one.answer, float)
            )
            oldest = next(answered, None)
            if oldest is None:
                return
            del self._entries[oldest]
