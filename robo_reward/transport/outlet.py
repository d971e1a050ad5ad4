"""The binding end of a stream: one queue per consumer, nothing sent that was not asked for.

Every consumer has its own mailbox. Who wants the newest item has a mailbox of one slot, and a newer
item replaces the one that was not asked for yet (high-water marks and CONFLATE cannot do this: they
keep the oldest, or lose parts of a message). Who may miss nothing has a bounded queue, and what was
sent is kept until it is acknowledged, so that a broken connection loses nothing either.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Literal

import msgspec
import zmq

from robo_reward.errors import DeviceError
from robo_reward.protocol.envelope import Buffer, Refusal
from robo_reward.protocol.handshake import Refused
from robo_reward.protocol.stream import BEATS, ITEMS, Beat, Item, Pong

from .clock import clock_name
from .guard import guard_for
from .keys import Keys, Right
from .sockets import Waker, bind_socket, make_context, open_socket, receive_from, send

log = logging.getLogger(__name__)

MAX_CONSUMERS = 64
MAX_LATCHES = 256
MAX_BEAT_BYTES = 16 * 1024
GONE_AFTER_S = 5.0
RETRY_MS = 20

Content = Literal["frame", "scene", "event"]
ASKED: Mapping[Content, Right] = {"frame": "watch", "scene": "follow", "event": "watch"}
"""What a consumer must be allowed to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the queue that a consumer has which may miss nothing.

    Attributes:
        items: Items that may wait.
        size_bytes: Bytes that may wait.
        keep_s: How long an absent consumer's queue is kept, seconds.
    """

    items: int = 512
    size_bytes: int = 256 * 1024 * 1024
    keep_s: float = 10.0


NEWEST_ONLY = Limits(items=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStats:
    """One consumer as its source sees it.

    Attributes:
        name: What it calls itself.
        lossless: Whether it is sent every item.
        sent: Items sent.
        dropped: Items it was not sent.
        waiting: Items in its queue.
    """

    name: str
    lossless: bool
    sent: int
    dropped: int
    waiting: int


@dataclass(slots=True)
class _Packet:
    header: Item
    parts: tuple[Buffer, ...]
    made_ns: int
    nbytes: int


@dataclass(slots=True)
class _Consumer:
    name: str
    lossless: bool
    route: bytes
    peer: str
    seen_s: float
    until: int = 0
    sent: int = 0
    dropped: int = 0
    dropped_total: int = 0
    waiting_bytes: int = 0
    queue: deque[_Packet] = field(default_factory=deque)
    unacknowledged: deque[tuple[int, _Packet]] = field(default_factory=deque)

    def put(self, packet: _Packet, limits: Limits) -> None:
        if not self.lossless:
            limits = NEWEST_ONLY
        self.queue.append(packet)
        self.waiting_bytes += packet.nbytes
        while len(self.queue) > 1 and not self._fits(limits):
            self.waiting_bytes -= self.queue.popleft().nbytes
            self.dropped += 1
            self.dropped_total += 1

    def full(self, limits: Limits) -> bool:
        if not self.lossless:
            return False
        return len(self.queue) >= limits.items or self.waiting_bytes >= limits.size_bytes

    def reconnect(self, route: bytes, received: int) -> None:
        """Start again after the last item that arrived."""
        self.acknowledge(received)
        for _, packet in reversed(self.unacknowledged):
            self.queue.appendleft(packet)
            self.waiting_bytes += packet.nbytes
        self.unacknowledged.clear()
        self.route = route
        self.sent = received

    def acknowledge(self, received: int) -> None:
        while self.unacknowledged and self.unacknowledged[0][0] <= received:
            self.unacknowledged.popleft()

    def _fits(self, limits: Limits) -> bool:
        return len(self.queue) <= limits.items and self.waiting_bytes <= limits.size_bytes


def claim_path(address: str) -> IO[bytes] | None:
    """Take the lock beside an ``ipc`` path: a second bind would silently steal the path.

    Raises:
        DeviceError: Another process has it.
    """
    if not address.startswith("ipc:///"):
        return None
    import fcntl

    path = address[len("ipc://") :]
    try:
        lock = open(f"{path}.lock", "ab")  # noqa: SIM115 (held until the socket is closed)
    except OSError as error:
        raise DeviceError(f"cannot bind {address}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise DeviceError(
            f"another process has bound {address}; stop it, or give this one another name"
        ) from error
    return lock


class Outlet:
    """Binds an address and hands items to whoever connects and grants credit.

    Args:
        address: Endpoint to bind; ``tcp://127.0.0.1:*`` takes a free port.
        topic: Resolved name of the stream.
        content: What its items are.
        lossless: Consumers that leave the choice to the source are sent every item.
        limits: Bounds of the queues of consumers that may miss nothing.
        insecure_no_auth: Allow an address that other machines can reach, without keys.
        keys: Secure the socket; it may be bound anywhere then.

    Raises:
        ConfigError: The address is malformed, or open to the network without permission.
        DeviceError: The port or path is busy or forbidden.
    """

    def __init__(
        self,
        address: str,
        *,
        topic: str,
        content: Content,
        lossless: bool = False,
        limits: Limits | None = None,
        insecure_no_auth: bool = False,
        keys: Keys | None = None,
    ) -> None:
        self.topic = topic
        self.boot = uuid.uuid4().hex
        self.published = 0
        self.malformed = 0
        self.denied = 0
        self._content = content
        self._lossless = lossless
        self._limits = limits or Limits()
        self._latched: OrderedDict[str, tuple[_Packet, ...]] = OrderedDict()
        self._consumers: dict[str, _Consumer] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._claim = claim_path(address)
        self._context = make_context()
        self._socket = open_socket(
            self._context, zmq.ROUTER, send_hwm=1024, max_part_bytes=MAX_BEAT_BYTES
        )
        try:
            self._guard = guard_for(self._context, keys, address)
            self.address = bind_socket(
                self._socket, address, keys=keys, insecure_no_auth=insecure_no_auth
            )
        except BaseException:
            self._socket.close(0)
            self._context.term()
            self._release()
            raise
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name=f"outlet {topic}", daemon=True)
        self._thread.start()

    def publish(
        self,
        header: Item,
        parts: Sequence[Buffer] = (),
        *,
        latch: str = "",
        add_to_latch: bool = False,
    ) -> None:
        """Hand an item to every consumer. Never waits, whoever is slow or gone.

        Args:
            header: What the item is; index and drop count are filled in for each consumer.
            parts: Its bytes; they must not change afterwards.
            latch: Consumers that come later are sent the last items under each latch.
            add_to_latch: Keep what is under the latch and replace only what was added to it.

        Raises:
            Refusal: It is larger than a message may be (``TOO_LARGE``).
        """
        ITEMS.pack(header, parts)  # here, where the caller can be told
        size = sum(memoryview(part).nbytes for part in parts)
        packet = _Packet(header, tuple(parts), time.monotonic_ns(), size)
        with self._changed:
            self.published += 1
            if latch:
                kept = self._latched.get(latch, ())[:1] if add_to_latch else ()
                self._latched[latch] = (*kept, packet)
                self._latched.move_to_end(latch)
                while len(self._latched) > MAX_LATCHES:
                    self._latched.popitem(last=False)
            for consumer in self._consumers.values():
                consumer.put(packet, self._limits)
        self._waker.wake()

    def wait_for_room(self, *, timeout_s: float) -> bool:
        """Wait until no queue that may lose nothing is full; ``False`` at the time-out."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._stopping or not self._any_full(), timeout=timeout_s
            )

    def wait_for_consumers(self, count: int, *, timeout_s: float) -> bool:
        """Wait until this many are connected; ``False`` at the time-out."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._stopping or len(self._consumers) >= count, timeout=timeout_s
            )

    def drain(self, *, timeout_s: float) -> bool:
        """Wait until consumers that may miss nothing have it all; ``False`` at the time-out."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._stopping or not self._any_waiting(), timeout=timeout_s
            )

    def consumers(self) -> list[ConsumerStats]:
        """Return what is known of everyone who is connected."""
        with self._changed:
            return [
                ConsumerStats(
                    name=each.name,
                    lossless=each.lossless,
                    sent=each.sent,
                    dropped=each.dropped_total,
                    waiting=len(each.queue),
                )
                for each in self._consumers.values()
            ]

    def close(self) -> None:
        """Unbind and free the thread; what waits is lost (``drain`` first). May be called twice."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            self._changed.notify_all()
        self._waker.wake()
        self._thread.join(timeout=5.0)
        self._waker.close()
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.close()

    def _any_full(self) -> bool:
        return any(each.full(self._limits) for each in self._consumers.values())

    def _any_waiting(self) -> bool:
        kept = (each for each in self._consumers.values() if each.lossless)
        return any(each.queue or each.unacknowledged for each in kept)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._waker, zmq.POLLIN)
        blocked = False
        try:
            while not self._stopping:
                poller.poll(RETRY_MS if blocked else 200)
                self._waker.drain()
                self._read_beats()
                with self._changed:
                    took_all = [self._flush(each) for each in self._consumers.values()]
                    blocked = not all(took_all)
                    self._forget_the_gone()
                    self._changed.notify_all()
        except Exception:
            log.exception("stream %s stopped", self.topic)
        finally:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.close(0)
                self._context.term()

    def _read_beats(self) -> None:
        for _ in range(4 * MAX_CONSUMERS):
            found = receive_from(self._socket, keyed=self._guard is not None)
            if found is None:
                return
            peer, message = found
            route, now_ns = bytes(message[0]), time.time_ns()
            try:
                beat, _ = BEATS.unpack(message[1:])
                with self._changed:
                    self._check(beat.session, peer)
                    known = self._meet(beat, route, peer)
            except Refusal as refusal:
                self._refuse(route, refusal)
                continue
            if known is not None:
                send(self._socket, [route, *ITEMS.pack(self._pong(beat, known, now_ns))])

    def _check(self, session: str, peer: str) -> None:
        """Refuse a peer whose key may not have this stream, or who is not whom it says it is."""
        if self._guard is None:
            return
        consumer = self._consumers.get(session)
        if consumer is not None and consumer.peer != peer:
            raise Refusal("DENIED", "this session is that of another key")
        try:
            self._guard.check(peer, ASKED[self._content])
        except Refusal:
            self._consumers.pop(session, None)  # its key may just have been revoked
            raise

    def _refuse(self, route: bytes, refusal: Refusal) -> None:
        if refusal.reason != "DENIED":
            self.malformed += 1
            log.debug("stream %s: %s", self.topic, refusal)
            return
        self.denied += 1
        header = Refused(reason=refusal.reason, detail=refusal.detail[:256], boot=self.boot)
        send(self._socket, [route, *ITEMS.pack(header)])

    def _meet(self, beat: Beat, route: bytes, peer: str) -> _Consumer | None:
        """Note what a beat says; ``None`` for one that leaves or that there is no room for."""
        if beat.leaving:
            self._consumers.pop(beat.session, None)
            return None
        consumer = self._consumers.get(beat.session)
        if consumer is None:
            if len(self._consumers) >= MAX_CONSUMERS:
                log.warning("stream %s: more than %d consumers", self.topic, MAX_CONSUMERS)
                return None
            consumer = self._welcome(beat, route, peer)
        elif consumer.route != route:
            consumer.reconnect(route, beat.received if beat.boot == self.boot else 0)
        consumer.seen_s = time.monotonic()
        if beat.boot == self.boot:
            consumer.until = beat.until
            consumer.acknowledge(beat.received)
        return consumer

    def _welcome(self, beat: Beat, route: bytes, peer: str) -> _Consumer:
        lossless = beat.mode == "lossless" or (beat.mode == "auto" and self._lossless)
        consumer = _Consumer(beat.name, lossless, route, peer, time.monotonic())
        for packets in self._latched.values():
            for packet in packets:
                consumer.put(packet, self._limits)
        consumer.dropped = consumer.dropped_total = 0
        self._consumers[beat.session] = consumer
        log.info("stream %s: %s connected", self.topic, beat.name)
        return consumer

    def _pong(self, beat: Beat, consumer: _Consumer, received_ns: int) -> Pong:
        return Pong(
            boot=self.boot,
            topic=self.topic,
            content=self._content,
            lossless=consumer.lossless,
            clock=clock_name(),
            sent_wall_ns=beat.sent_wall_ns,
            sent_mono_ns=beat.sent_mono_ns,
            received_wall_ns=received_ns,
            replied_wall_ns=time.time_ns(),
        )

    def _flush(self, consumer: _Consumer) -> bool:
        """Send what credit allows; ``False`` where the socket would not take it now."""
        while consumer.queue and consumer.sent < consumer.until:
            packet = consumer.queue[0]
            header = msgspec.structs.replace(
                packet.header,
                index=consumer.sent + 1,
                dropped=consumer.dropped,
                age_ns=self._age_ns(packet),
            )
            if not send(self._socket, [consumer.route, *ITEMS.pack(header, packet.parts)]):
                return False
            consumer.queue.popleft()
            consumer.waiting_bytes -= packet.nbytes
            consumer.sent += 1
            consumer.dropped = 0
            if consumer.lossless:
                consumer.unacknowledged.append((consumer.sent, packet))
        return True

    @staticmethod
    def _age_ns(packet: _Packet) -> int:
        # Stamps of another machine's clock cannot be compared here: count from the publication.
        here = packet.header.clock == clock_name()
        return time.monotonic_ns() - (packet.header.mono_ns if here else packet.made_ns)

    def _forget_the_gone(self) -> None:
        now = time.monotonic()
        for session, each in list(self._consumers.items()):
            patience = max(GONE_AFTER_S, self._limits.keep_s if each.lossless else 0.0)
            if now - each.seen_s <= patience:
                continue
            del self._consumers[session]
            lost = len(each.queue) + len(each.unacknowledged)
            level = logging.WARNING if each.lossless and lost else logging.INFO
            log.log(level, "stream %s: %s is gone, %d items unsent", self.topic, each.name, lost)
