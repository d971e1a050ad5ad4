"""Clocks of two machines: how far apart they are, and how well that is known."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SAMPLES = 64
STEP_NS = 5_000_000
"""Samples that disagree by more than this beyond their uncertainty mean that a clock was set."""


@lru_cache(maxsize=1)
def clock_name() -> str:
    """Name the clocks of this boot of this machine, 16 hex digits.

    Stamps of processes with the same name compare exactly; others need an offset.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        started = round(time.time() - time.monotonic())
        boot = f"{uuid.getnode():x}-{started}"
    return hashlib.blake2b(boot.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One exchange: their wall clock minus ours, and the half-width of what that may be.

    Attributes:
        offset_ns: Estimate, nanoseconds.
        uncertainty_ns: Half the round trip, nanoseconds: the offset lies within plus or minus this.
    """

    offset_ns: int
    uncertainty_ns: int


class OffsetEstimator:
    """Estimates a peer's wall clock minus ours from ping/pong exchanges of four stamps.

    The sample with the shortest round trip of the last 64 counts, because what lengthens a trip
    (queues, scheduling) is what makes it lopsided. A sample whose interval cannot meet that of the
    best means that one of the clocks was set: everything older is then forgotten.

    Args:
        same_clock: The peer is on this machine: the offset is 0 and exact.

    Example:
        >>> estimator = OffsetEstimator()
        >>> estimator.add(sent_ns=0, received_ns=1_500, replied_ns=1_600, returned_ns=1_100)
        >>> estimator.offset_ns, estimator.uncertainty_ns
        (1000, 500)
    """

    def __init__(self, *, same_clock: bool = False) -> None:
        self._same_clock = same_clock
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._best: Sample | None = None
        self.steps = 0

    def add(self, *, sent_ns: int, received_ns: int, replied_ns: int, returned_ns: int) -> None:
        """Take one exchange: our clock at both ends, the peer's in the middle, nanoseconds."""
        trip = max(0, (returned_ns - sent_ns) - (replied_ns - received_ns))
        offset = ((received_ns - sent_ns) + (replied_ns - returned_ns)) // 2
        sample = Sample(offset_ns=offset, uncertainty_ns=trip // 2)
        if self._best is not None and not _meet(sample, self._best):
            self._samples.clear()
            self.steps += 1
        self._samples.append(sample)
        self._best = min(self._samples, key=lambda each: each.uncertainty_ns)

    @property
    def known(self) -> bool:
        """Whether there is anything to go by."""
        return self._same_clock or self._best is not None

    @property
    def offset_ns(self) -> int:
        """Their wall clock minus ours, nanoseconds; 0 while unknown."""
        return 0 if self._same_clock or self._best is None else self._best.offset_ns

    @property
    def uncertainty_ns(self) -> int:
        """How wrong ``offset_ns`` may be, nanoseconds; very much while unknown."""
        if self._same_clock:
            return 0
        return self._best.uncertainty_ns if self._best is not None else 2**62


def _meet(one: Sample, other: Sample) -> bool:
    reach = one.uncertainty_ns + other.uncertainty_ns + STEP_NS
    return abs(one.offset_ns - other.offset_ns) <= reach
