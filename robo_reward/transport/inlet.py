"""The connecting end of a stream: asks for items, one at a time or a window of them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq

from robo_reward.errors import AccessDenied, PeerUnreachable
from robo_reward.protocol.envelope import Buffer, Refusal
from robo_reward.protocol.handshake import Refused
from robo_reward.protocol.stream import BEATS, ITEMS, Beat, Item, Mode, Pong

from .clock import OffsetEstimator, clock_name
from .guard import Handshakes
from .keys import Keys, Right
from .sockets import (
    Waker,
    check_address,
    connect_again,
    connect_socket,
    make_context,
    open_socket,
    receive,
    send,
)

log = logging.getLogger(__name__)

BEAT_S = 0.5
LOST_AFTER_S = 1.5
AGAIN_S = 1.0
"""How often a source that refused this consumer is asked again."""
RENEW_S = 3.0
"""After so long without a word the connection is begun anew."""
GOODBYE_MS = 100
"""How long a closed socket may take to hand over its last beat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One item as it arrived.

    Attributes:
        header: What it is.
        parts: Its bytes, bounded but not looked at.
        received_mono_ns: Our monotonic clock on arrival.
        received_wall_ns: Our wall clock on arrival.
        offset_ns: The stamps' wall clock minus ours; 0 where it is the same or unknown.
        uncertainty_ns: How wrong ``offset_ns`` may be.
    """

    header: Item
    parts: tuple[Buffer, ...]
    received_mono_ns: int
    received_wall_ns: int
    offset_ns: int
    uncertainty_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStats:
    """What a consumer knows of its stream.

    Attributes:
        topic: Resolved name of the stream; empty before the first contact.
        connected: Whether the source was heard of lately.
        received: Items that arrived.
        dropped: Items that the source did not send because newer ones came.
        refused: Messages that were malformed.
        restarts: How often the source was found restarted.
        why: Why nothing comes, where the source refuses this consumer or the handshake fails.
        offset_s: The source's wall clock minus ours, seconds.
        uncertainty_s: How wrong that may be, seconds.
        lossless: Whether every item is sent.
    """

    topic: str
    connected: bool
    received: int
    dropped: int
    refused: int
    restarts: int
    offset_s: float
    uncertainty_s: float
    lossless: bool
    why: str = ""


class Inlet:
    """Connects to a source and keeps asking; survives its restarts.

    With ``on_item`` the next item is asked for when the callback returns: a callback that takes
    long still gets the newest item each time. Without it ``take`` asks, so that what it returns is
    at most one period of the source old.

    Args:
        address: Endpoint that the source has bound.
        name: What the source shall call this consumer.
        mode: Which items: the newest, all, or what the source thinks right.
        window: Items in flight when none may be missed.
        on_item: Called in this object's own thread with each item; must not block for long.
        keys: Secure the socket.
        right: What the key of the source must be allowed to do.

    Raises:
        ConfigError: The address is malformed.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        mode: Mode = "auto",
        window: int = 16,
        on_item: Callable[[Delivery], None] | None = None,
        keys: Keys | None = None,
        right: Right = "stream",
    ) -> None:
        self.address = check_address(address)
        self.name = name
        self._keyed = keys is not None
        self._denied = ""
        self._noted: set[str] = set()
        self._mode = mode
        self._window = window
        self._on_item = on_item
        self._session = uuid.uuid4().hex
        self._boot = ""
        self._pong: Pong | None = None
        self._heard_s = -float("inf")
        self._again_s = time.monotonic()
        self._offset = OffsetEstimator()
        self._last = 0
        self._consumed = 0
        self._until = 0
        self._received = self._dropped = self._refused = self._restarts = 0
        self._held: deque[Delivery] = deque()
        self._waiting = 0
        self._refreshing = False
        self._arrived = threading.Condition()
        self._stopping = False
        self._context = make_context()
        self._socket = open_socket(self._context, zmq.DEALER, receive_hwm=max(16, 2 * window))
        try:
            self._handshakes = Handshakes(self._socket)
            connect_socket(self._socket, address, keys=keys, right=right)
        except BaseException:
            self._socket.close(0)
            self._handshakes.monitor.close(0)
            self._context.term()
            raise
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name=f"inlet {name}", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the source was heard of within the last 1.5 s."""
        return time.monotonic() - self._heard_s < LOST_AFTER_S

    @property
    def refused(self) -> str:
        """Why the source does not let this consumer in; empty where it does, or is not there."""
        return self._denied or self._handshakes.refused

    @property
    def lossless(self) -> bool:
        """Whether the source sends every item to this consumer."""
        return self._pong is not None and self._pong.lossless

    def stats(self) -> StreamStats:
        """Return counters and the state of the connection."""
        return StreamStats(
            topic=self._pong.topic if self._pong else "",
            connected=self.connected,
            received=self._received,
            dropped=self._dropped,
            refused=self._refused,
            restarts=self._restarts,
            offset_s=self._offset.offset_ns / 1e9,
            uncertainty_s=min(self._offset.uncertainty_ns / 1e9, float("inf")),
            lossless=self.lossless,
            why="" if self.connected else self.refused or self._handshakes.suspicion,
        )

    def wait_until_connected(self, *, timeout_s: float) -> None:
        """Wait for the first answer.

        Raises:
            PeerUnreachable: Nobody answered in time.
            AccessDenied: Somebody did, and does not let this consumer in.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self.connected or self.refused, timeout=timeout_s)
        if self.connected:
            return
        if self.refused:
            raise AccessDenied(f"{self.address} refuses: {self.refused}")
        why = self._handshakes.suspicion or (
            "is the node running, and is this the address that it printed?"
        )
        raise PeerUnreachable(f"nobody answers at {self.address} after {timeout_s:g} s; {why}")

    def take(self, *, timeout_s: float) -> Delivery | None:
        """Ask for an item and wait for it.

        Returns:
            The newest item (or the next, where none may be missed); ``None`` at the time-out.
        """
        with self._arrived:
            if not (self.lossless or self._refreshing):
                self._held.clear()  # arrived when nobody asked any more: too old
            self._waiting += 1
            if not self._held:
                self._waker.wake()
            try:
                self._arrived.wait_for(lambda: self._held or self._stopping, timeout=timeout_s)
            finally:
                self._waiting -= 1
            # An asker that gave up finds, when it comes back, what came last and not what came
            # first: from now until then every arrival asks for the next.
            self._refreshing = not self._held
            if not self._held:
                return None
            self._consumed += 1
            if self.lossless and self._consumed + self._window - self._until >= self._window // 2:
                self._waker.wake()
            return self._held.popleft()

    def close(self) -> None:
        """Disconnect and free the thread. May be called twice."""
        with self._arrived:
            if self._stopping:
                return
            self._stopping = True
            self._arrived.notify_all()
        self._waker.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
        self._waker.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._waker, zmq.POLLIN)
        poller.register(self._handshakes.monitor, zmq.POLLIN)
        beat_s = 0.0
        granted = 0
        try:
            while not self._stopping:
                now_s = time.monotonic()
                if self._grant() != granted or now_s >= beat_s:
                    sent = send(self._socket, BEATS.pack(self._beat()))
                    # Without a connection the timer tries again; trying at once would spin.
                    beat_s = now_s + (BEAT_S if sent else BEAT_S / 10)
                    granted = self._until
                poller.poll(max(0, round((beat_s - time.monotonic()) * 1000)))
                self._waker.drain()
                self._read_handshakes()
                self._read()
                self._renew()
        except Exception:
            log.exception("stream from %s stopped", self.address)
        finally:
            with contextlib.suppress(zmq.ZMQError):
                send(self._socket, BEATS.pack(self._beat(leaving=True)))
                self._socket.close(GOODBYE_MS)
                self._handshakes.monitor.close(0)
                self._context.term()

    def _read_handshakes(self) -> None:
        before = self._handshakes.succeeded
        if self._handshakes.read(keyed=self._keyed):
            with self._arrived:
                if self._handshakes.succeeded > before:
                    self._denied = ""
                self._arrived.notify_all()

    def _renew(self) -> None:
        """Begin the connection anew where libzmq gave it up, which it does not say."""
        now = time.monotonic()
        quiet_s = AGAIN_S if self._handshakes.refused else RENEW_S
        if now - max(self._again_s, self._heard_s) >= quiet_s:
            self._again_s = now
            connect_again(self._socket, self.address)

    def _grant(self) -> int:
        """Work out up to which item may be sent."""
        with self._arrived:
            if self.lossless:
                reach = self._consumed + self._window
                # Half a window at a time: a beat for every item would double the messages.
                if reach - self._until >= max(1, self._window // 2):
                    self._until = reach
            elif self._on_item is not None or (self._waiting and not self._held):
                self._until = max(self._until, self._last + 1)
            return self._until

    def _beat(self, *, leaving: bool = False) -> Beat:
        return Beat(
            session=self._session,
            name=self.name,
            mode=self._mode,
            window=self._window,
            boot=self._boot,
            received=self._last,
            until=self._until,
            leaving=leaving,
            sent_wall_ns=time.time_ns(),
            sent_mono_ns=time.monotonic_ns(),
        )

    def _read(self) -> None:
        while not self._stopping:
            message = receive(self._socket)
            if message is None:
                return
            try:
                header, parts = ITEMS.unpack(message)
            except Refusal as refusal:
                self._refuse(refusal)
                continue
            if isinstance(header, Refused):
                self._hear_refusal(header)
            elif isinstance(header, Pong):
                self._hear(header)
            elif isinstance(header, Item):
                self._accept(header, parts)
                if self._on_item is not None and not self.lossless:
                    return  # grant the next one before anything else

    def _refuse(self, refusal: Refusal) -> None:
        self._refused += 1
        if refusal.reason not in self._noted:
            self._noted.add(refusal.reason)
            log.warning("%s sent what is not read here: %s", self.address, refusal)

    def _hear_refusal(self, refused: Refused) -> None:
        if not self._denied:
            log.warning("%s refuses: %s", self.address, refused.detail)
        with self._arrived:
            self._denied = refused.detail or refused.reason
            self._heard_s = -float("inf")
            self._arrived.notify_all()

    def _hear(self, pong: Pong) -> None:
        now_ns, now_mono_ns = time.time_ns(), time.monotonic_ns()
        with self._arrived:
            self._heard_s = time.monotonic()
            self._denied = ""
            if pong.boot != self._boot:
                self._restarts += bool(self._boot)
                self._boot = pong.boot
                self._last = self._until = 0
                self._consumed = -len(self._held)
                self._offset = OffsetEstimator(same_clock=pong.clock == clock_name())
            self._pong = pong
            # The trip is timed by the monotonic clock: the wall clock may be set meanwhile.
            trip_ns = now_mono_ns - pong.sent_mono_ns
            self._offset.add(
                sent_ns=now_ns - trip_ns,
                received_ns=pong.received_wall_ns,
                replied_ns=pong.replied_wall_ns,
                returned_ns=now_ns,
            )
            self._arrived.notify_all()

    def _accept(self, header: Item, parts: Sequence[Buffer]) -> None:
        self._heard_s = time.monotonic()
        if header.index <= self._last:
            return  # sent again after a reconnection although it had arrived
        if header.index > self._until:
            self._refuse(Refusal("TOO_LARGE", "an item that was not asked for"))
            return
        same = header.clock == clock_name()
        delivery = Delivery(
            header=header,
            parts=tuple(parts),
            received_mono_ns=time.monotonic_ns(),
            received_wall_ns=time.time_ns(),
            offset_ns=0 if same else self._offset.offset_ns,
            uncertainty_ns=0 if same else self._offset.uncertainty_ns,
        )
        if self._on_item is not None:
            self._count(header)
            self._call(self._on_item, delivery)
            self._consumed = self._last
            return
        with self._arrived:
            self._count(header)
            if not self.lossless:
                self._held.clear()
            self._held.append(delivery)
            if self._refreshing and not self._waiting and not self.lossless:
                self._until = self._last + 1
            self._arrived.notify_all()

    def _count(self, header: Item) -> None:
        self._last = header.index
        self._received += 1
        self._dropped += header.dropped

    def _call(self, on_item: Callable[[Delivery], None], delivery: Delivery) -> None:
        try:
            on_item(delivery)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception:
            log.exception("the consumer of %s raised", self.address)
