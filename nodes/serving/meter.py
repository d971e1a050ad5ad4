"""How much one client may send: a bucket of messages and one of bytes, filled at a steady rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

BURST_S = 1.0
KNOWN = 1024


@dataclass(slots=True, kw_only=True)
class Bucket:
    """What one client has left, and when that was so."""

    messages: float
    size_bytes: float
    at_s: float


class Meter:
    """Holds every client to the same rates, however many connections it has.

    Args:
        messages_s: Messages per second.
        bytes_s: Bytes per second.

    Example:
        >>> meter = Meter(messages_s=2.0, bytes_s=1e6)
        >>> [meter.wait_s("arm", 100, now_s=0.0) for _ in range(3)]
        [0.0, 0.0, 0.5]
        >>> meter.wait_s("arm", 100, now_s=0.5), meter.wait_s("another", 100, now_s=0.5)
        (0.0, 0.0)
    """

    def __init__(self, *, messages_s: float, bytes_s: float) -> None:
        self._messages_s = messages_s
        self._bytes_s = bytes_s
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def wait_s(self, who: Hashable, size: int, *, now_s: float | None = None) -> float:
        """Charge a message.

        Args:
            who: Names the client.
            size: Of the message, bytes.
            now_s: Monotonic time; now when not given.

        Returns:
            0 where it is within the rates; else in how many seconds it would be, and it is not
            charged.
        """
        now = time.monotonic() if now_s is None else now_s
        bucket = self._filled(who, now)
        # A message above a whole burst must pass sometime: it needs, and takes, all there is.
        size = min(size, int(self._bytes_s * BURST_S))
        short_s = max((1 - bucket.messages) / self._messages_s, 0.0)
        short_s = max((size - bucket.size_bytes) / self._bytes_s, short_s)
        if short_s > 0.0:
            return short_s
        bucket.messages -= 1
        bucket.size_bytes -= size
        return 0.0

    def _filled(self, who: Hashable, now_s: float) -> Bucket:
        full, full_bytes = max(1.0, self._messages_s * BURST_S), self._bytes_s * BURST_S
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = Bucket(messages=full, size_bytes=full_bytes, at_s=now_s)
            self._buckets[who] = bucket
            if len(self._buckets) > KNOWN:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(who)
        passed_s = max(0.0, now_s - bucket.at_s)
        bucket.messages = min(full, bucket.messages + passed_s * self._messages_s)
        bucket.size_bytes = min(full_bytes, bucket.size_bytes + passed_s * self._bytes_s)
        bucket.at_s = now_s
        return bucket
