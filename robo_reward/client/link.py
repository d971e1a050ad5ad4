"""A client's conversation with a node: greets, sends, retries, beats, and gives up in time.

One thread at a time has the sockets: whoever asks sends, whoever waits reads, which spares waking
another thread twice for every question. While nobody does either, the link's own thread looks in.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

import zmq

from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.handshake import (
    Beat,
    BeatReply,
    Cancel,
    Hello,
    Priority,
    Refused,
    Welcome,
)
from robo_reward.protocol.score import (
    CONTROL_FROM_NODE,
    CONTROL_TO_NODE,
    FROM_NODE,
    TO_NODE,
    ScoreReply,
    read_score,
)
from robo_reward.query import Query
from robo_reward.signals import REASONS, Score
from robo_reward.transport.clock import OffsetEstimator, clock_name
from robo_reward.transport.guard import Handshakes
from robo_reward.transport.keys import Keys
from robo_reward.transport.sockets import (
    Waker,
    connect_again,
    connect_socket,
    make_context,
    open_socket,
    receive,
    send,
)

from .asks import Ask, RemotePending
from .shipping import Shipping

logger = logging.getLogger(__name__)

BEAT_S = 0.5
LOST_S = 1.5
HELLO_S = 0.25
UNSENT_S = 0.02
TICK_S = 0.1
# So late is a retry, or a request beyond the window, at the most while nobody waits for an answer.
IDLE_S = 0.02
MENDS = 8
AGAIN_S = 1.0
"""How often a node that refused this client is asked again."""
RENEW_S = 3.0
"""After so long without a word the connection is begun anew."""

RETRIED = frozenset({"BUSY", "NOT_READY", "DRAINING", "STALLED", "DEADLINE"})
"""Refusals that pass by themselves: asked again for as long as there is time."""
FATAL = frozenset({"VERSION", "DENIED"})
"""Refusals of a greeting that no waiting will mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """What a link needs to know.

    Attributes:
        address: Of the node's score socket.
        session: Names this client.
        window: Most requests open at once.
        priority: Class of the requests.
        software: Version of the package, for messages to people.
        keys: Secure the sockets.
    """

    address: str
    session: str
    window: int
    priority: Priority
    software: str = ""
    keys: Keys | None = None


class Link:
    """Runs the conversation with one node. Its public methods may be called by any thread."""

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        self.counts: Counter[str] = Counter()
        self.welcome: Welcome | None = None
        self.refusal: Refused | None = None
        self.greeted = threading.Event()  # set by a welcome, and by a refusal that will not pass
        self.offset = OffsetEstimator()
        self.beat: BeatReply | None = None
        self._inbox: deque[Ask | RemotePending] = deque()
        self._waiting: dict[int, Ask] = {}
        self._flying: dict[int, Ask] = {}
        self._ship = Shipping(config.session)
        self._stop = threading.Event()
        self._waker = Waker()
        self._boot = ""
        self._heard_s = 0.0
        self._hello_due_s = 0.0
        self._beat_s = 0.0
        self._beat_open = False
        self._helm = threading.Condition()  # guards the next two
        self._driver = 0  # the thread that has the sockets; 0 for none
        self._closed = False
        self._pid = os.getpid()
        self._context = make_context()
        self._score = open_socket(self._context, zmq.DEALER, send_hwm=256, receive_hwm=1024)
        self._control: zmq.Socket[bytes] | None = None
        self._control_at = ""
        self._poller = zmq.Poller()
        self._poller.register(self._waker, zmq.POLLIN)
        self._poller.register(self._score, zmq.POLLIN)
        self._handshakes = Handshakes(self._score)
        self._again_s = time.monotonic()
        self._poller.register(self._handshakes.monitor, zmq.POLLIN)
        try:
            connect_socket(self._score, config.address, keys=config.keys)
        except BaseException:
            self._close_sockets()
            raise
        self._thread = threading.Thread(target=self._run, name="robo-reward-link", daemon=True)
        self._thread.start()

    def put(self, asks: list[Ask]) -> None:
        """Take questions over, and send them at once where no other thread has the sockets."""
        self._inbox.extend(asks)
        self._look_into_inbox()

    def cancel(self, pending: RemotePending) -> None:
        """Give the questions of one ``Pending`` up."""
        self._inbox.append(pending)
        self._look_into_inbox()

    def wait(self, pending: RemotePending, timeout_s: float) -> None:
        """Return when a ``Pending`` is settled, or in time; reads the sockets meanwhile."""
        end = time.monotonic() + timeout_s
        while not pending.settled and self._pid == os.getpid():
            left = end - time.monotonic()
            if left <= 0:
                return
            if self._drive(min(left, self._pause_s())):
                continue
            with self._helm:
                if not pending.settled and (self._driver or self.stopped):
                    self._helm.wait(min(left, TICK_S))

    def look(self) -> None:
        """Read what has come, without waiting."""
        if self._pid == os.getpid():
            self._drive(0.0)

    def stop(self) -> None:
        """End the thread and close the sockets; open questions become ``CANCELLED``."""
        self._stop.set()
        self._waker.wake()
        me = threading.get_ident()
        if me not in (self._thread.ident, self._driver):  # the thread waits for the driver to leave
            self._thread.join(timeout=5.0)

    def _look_into_inbox(self) -> None:
        if self._drive(0.0):
            return
        with self._helm:
            if self._closed:
                self._cancel_rest()
            else:
                self._waker.wake()

    def _drive(self, wait_s: float) -> bool:
        """Take one turn; ``False`` where another thread has the sockets, or the link has ended."""
        again = True
        try:
            with self._helm:
                if self._driver or self.stopped:
                    return False
                self._driver = threading.get_ident()
            while again:
                ready = dict(self._poller.poll(math.ceil(wait_s * 1000)))
                self._act(ready)
                wait_s = 0.0
                with self._helm:
                    # Put here while this thread was past the inbox, by one that left it to us.
                    again = bool(self._inbox) and not self.stopped
                    if not again:
                        self._leave()
        except BaseException:
            self._leave()
            raise
        return True

    def _leave(self) -> None:
        with self._helm:
            if self._driver == threading.get_ident():
                self._driver = 0
                self._helm.notify_all()

    def _act(self, ready: dict[object, int]) -> None:
        try:
            self._turn(ready)
        except Exception:  # a defect here must end in missing scores, not in a caller that waits
            logger.exception("the link to %s broke down", self.config.address)
            self._stop.set()
        except BaseException:  # Ctrl-C: a message may be half sent, nothing can follow it
            self._stop.set()
            raise

    def _run(self) -> None:
        while not self._stop.is_set():
            # A beat's answer is read when it comes: the offset of the clocks depends on it.
            attentive = not self._boot or self._beat_open
            if not self._drive(self._pause_s() if attentive else 0.0) or not attentive:
                self._stop.wait(IDLE_S)
        with self._helm:
            while self._driver:
                self._helm.wait(TICK_S)
            self._closed = True
            self._cancel_rest()
            self._close_sockets()
            self._helm.notify_all()

    def _cancel_rest(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Ask):
                self._waiting[item.seq] = item
        for ask in [*self._flying.values(), *self._waiting.values()]:
            self._settle(ask, reason="CANCELLED", detail="the source was closed")

    @property
    def frames_sent(self) -> int:
        """Frames whose bytes went over the wire."""
        return self._ship.frames_sent

    @property
    def suspicion(self) -> str:
        """Why the node may be out of reach, where handshakes fail; else empty."""
        return self._handshakes.suspicion

    @property
    def stopped(self) -> bool:
        """Whether the link takes no more questions."""
        return self._stop.is_set()

    def _turn(self, ready: dict[object, int]) -> None:
        if self._waker.fileno() in ready:
            self._waker.drain()
        self._take_inbox()
        if self._handshakes.monitor in ready:
            self._read_handshakes()
        if self._score in ready:
            while (message := receive(self._score)) is not None:
                self._read(message)
        if self._control is not None and self._control in ready:
            while (message := receive(self._control)) is not None:
                self._read_control(message)
        now = time.monotonic()
        self._keep_contact(now)
        self._keep_time(now)
        self._send_waiting(now)

    def _pause_s(self) -> float:
        pause = TICK_S if self._boot else UNSENT_S
        if self._boot and len(self._flying) < self._room():
            now = time.monotonic()
            for ask in list(self._waiting.values()):
                pause = min(pause, max(0.005, ask.wait_until_s - now))
        return pause

    def _room(self) -> int:
        granted = self.welcome.window if self.welcome is not None else 1
        return min(self.config.window, granted)

    def _take_inbox(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Ask):
                self._waiting[item.seq] = item
            else:
                self._cancel_asks(item)

    def _cancel_asks(self, pending: RemotePending) -> None:
        flying = tuple(ask.seq for ask in pending.asks if ask.seq in self._flying)
        if flying and self._control is not None:
            header = Cancel(session=self.config.session, seqs=flying[:512])
            send(self._control, CONTROL_TO_NODE.pack(header))
        for ask in pending.asks:
            self._settle(ask, reason="CANCELLED", detail="cancelled by the asker")

    def _settle(
        self, ask: Ask, *, score: Score | None = None, reason: str = "", detail: str = ""
    ) -> None:
        self._waiting.pop(ask.seq, None)
        self._flying.pop(ask.seq, None)
        if ask.score is not None:
            return
        if score is None:
            ask.reason, ask.detail = reason or ask.reason, detail or ask.detail
            score = ask.missing(self.config.session)
        ask.score = score
        self.counts[f"status_{score.status.value}"] += 1
        ask.pending.settle_one()

    # -- contact ---------------------------------------------------------------------------------

    def _keep_contact(self, now: float) -> None:
        # libzmq gives a connection up after a refused handshake, or a part that is too large.
        quiet_s = AGAIN_S if self._handshakes.refused else RENEW_S
        if now - max(self._again_s, self._heard_s) >= quiet_s:
            self._again_s = now
            connect_again(self._score, self.config.address)
        if self._boot and now - self._heard_s > LOST_S:
            self._lose(f"nothing heard from the node for {now - self._heard_s:.1f} s")
        if not self._boot and now >= self._hello_due_s:
            hello = Hello(
                session=self.config.session,
                window=self.config.window,
                priority=self.config.priority,
                software=self.config.software,
            )
            # Not sent means not connected: a moment later it may be.
            sent = send(self._score, TO_NODE.pack(hello))
            self._hello_due_s = now + (HELLO_S if sent else UNSENT_S)
        if self._control is not None and now - self._beat_s >= BEAT_S:
            self._beat_s = now
            beat = Beat(
                session=self.config.session,
                mono_ns=time.monotonic_ns(),
                wall_ns=time.time_ns(),
            )
            self._beat_open = send(self._control, CONTROL_TO_NODE.pack(beat))

    def _read_handshakes(self) -> None:
        self._handshakes.read(keyed=self.config.keys is not None)
        self.counts["handshakes_failed"] = self._handshakes.failed
        if self._handshakes.refused:
            self._shut_out(Refused(reason="DENIED", detail=self._handshakes.refused))

    def _shut_out(self, refused: Refused) -> None:
        """Note a refusal that no waiting will mend, though its cause may be taken away."""
        self._boot = ""
        self.refusal = refused
        self._hello_due_s = time.monotonic() + AGAIN_S  # another node may take its place
        self.greeted.set()
        for ask in [*self._flying.values(), *self._waiting.values()]:
            self._settle(ask, reason=refused.reason, detail=refused.detail)

    def _lose(self, why: str) -> None:
        """Treat the node as gone: what is under way will be sent again once one answers."""
        logger.warning("reward node at %s: %s", self.config.address, why)
        self.counts["lost"] += 1
        self._boot = ""
        self._hello_due_s = 0.0
        self.greeted.clear()
        now = time.monotonic()
        for ask in list(self._flying.values()):
            self._retry(ask, now, reason="PEER_LOST", detail=why)

    def _read(self, message: list[bytes]) -> None:
        try:
            header, _ = FROM_NODE.unpack(message)
        except Refusal as refusal:
            self.counts["malformed"] += 1
            header = Refused(reason=refusal.reason, detail=refusal.detail[:256])
        self._heard_s = time.monotonic()
        if isinstance(header, ScoreReply):
            self._read_reply(header)
        elif isinstance(header, Welcome):
            self._read_welcome(header)
        elif isinstance(header, Refused):
            self._read_refused(header)

    def _read_welcome(self, welcome: Welcome) -> None:
        if welcome.session != self.config.session:
            self.counts["misrouted"] += 1
            return
        if self.welcome is not None and self.welcome.boot != welcome.boot:
            logger.warning("reward node at %s has been restarted", self.config.address)
            self.counts["restarts"] += 1
        self._boot = welcome.boot
        self.welcome = welcome
        self.refusal = None
        self._ship.greeted(welcome.boot)
        self._open_control(welcome)
        self.greeted.set()

    def _read_refused(self, refused: Refused) -> None:
        self.counts[f"refused_{refused.reason}"] += 1
        if refused.reason == "DENIED" or (refused.reason in FATAL and not self._boot):
            self._shut_out(refused)
        elif not self._boot:
            self.refusal = refused
        # Else about one message: its question is answered, or asked again by the clock.

    def _open_control(self, welcome: Welcome) -> None:
        address = f"{self.config.address}.control"
        if self.config.address.startswith("tcp://"):
            address = f"{self.config.address.rpartition(':')[0]}:{welcome.control}"
        if self._control is not None and address == self._control_at:
            return
        if self._control is not None:
            self._poller.unregister(self._control)
            self._control.close()
        self._control = open_socket(
            self._context, zmq.DEALER, send_hwm=1000, receive_hwm=1000, max_part_bytes=65536
        )
        self._control_at = address
        connect_socket(self._control, address, keys=self.config.keys)
        self._poller.register(self._control, zmq.POLLIN)
        self._beat_s = 0.0

    def _read_control(self, message: list[bytes]) -> None:
        try:
            header, _ = CONTROL_FROM_NODE.unpack(message)
        except Refusal:
            self.counts["malformed"] += 1
            return
        if not isinstance(header, BeatReply) or header.session != self.config.session:
            return
        self._heard_s = time.monotonic()
        self._beat_open = False
        self.beat = header
        if header.clock == clock_name():
            self.offset = OffsetEstimator(same_clock=True)
        else:
            self.offset.add(
                sent_ns=header.echo_wall_ns,
                received_ns=header.wall_ns,
                replied_ns=header.wall_ns,
                returned_ns=time.time_ns(),
            )
        if self._boot and (header.boot != self._boot or not header.known):
            self._lose("the node does not know this client any more")

    # -- questions -------------------------------------------------------------------------------

    def _keep_time(self, now: float) -> None:
        for ask in list(self._flying.values()):
            if now >= ask.give_up_s:
                self._settle(ask)
            elif now - ask.sent_s > max(0.1, ask.budget_s / 2):
                # The node knows (session, seq): what it runs already it does not run again.
                self._retry(ask, now, reason="DEADLINE", detail="no answer from the node in time")
        for ask in list(self._waiting.values()):
            if now >= ask.give_up_s:
                lost = not self._boot
                self._settle(
                    ask,
                    reason="PEER_LOST" if lost else "",
                    detail=self._why_lost() if lost else "",
                )

    def _why_lost(self) -> str:
        if self.refusal is not None:
            return f"the node refuses: {self.refusal.reason}: {self.refusal.detail}"[:256]
        lost = f"no reward node answers at {self.config.address}"
        return f"{lost}: {self.suspicion}" if self.suspicion else lost

    def _retry(
        self, ask: Ask, now: float, *, reason: str, detail: str, after_s: float = 0.0
    ) -> None:
        self.counts["retried"] += 1
        self._flying.pop(ask.seq, None)
        ask.again(now, reason=reason, detail=detail, after_s=after_s)
        self._waiting[ask.seq] = ask

    def _send_waiting(self, now: float) -> None:
        if not self._boot:
            return
        for ask in list(self._waiting.values()):
            if len(self._flying) >= self._room():
                return
            if ask.wait_until_s <= now and not self._send(ask, now):
                return

    def _send(self, ask: Ask, now: float) -> bool:
        try:
            messages = self._ship.messages(ask, offset_ns=self.offset.offset_ns)
        except Refusal as refusal:
            self._ship.forget_all(ask.query)
            self._settle(ask, reason=refusal.reason, detail=refusal.detail)
            return True
        for message in messages:
            if not send(self._score, message):
                self.counts["blocked"] += 1
                self._ship.forget_all(ask.query)
                return False
            self.counts["sent_bytes"] += sum(len(part) for part in message)
        del self._waiting[ask.seq]
        ask.sent_s = now
        self._flying[ask.seq] = ask
        self.counts["sent"] += 1
        return True

    def _read_reply(self, reply: ScoreReply) -> None:
        ask = self._flying.get(reply.seq) or self._waiting.get(reply.seq)
        if ask is None:
            self.counts["late"] += 1
            return
        if not self._names(reply, ask):
            self.counts["misattributed"] += 1
            return
        now = time.monotonic()
        if reply.reason in ("NEED_FRAMES", "TASK_UNKNOWN") and ask.mended < MENDS:
            ask.mended += 1
            self.counts[f"mended_{reply.reason}"] += 1
            unknown = reply.reason == "TASK_UNKNOWN"
            self._ship.forget(ask.query, frames=reply.need, task=unknown)
            pause, ask.pause_s = ask.pause_s, 0.0
            self._retry(ask, now, reason=reply.reason, detail=reply.detail)
            ask.pause_s = pause
        elif reply.reason in RETRIED:
            self._retry(
                ask, now, reason=reply.reason, detail=reply.detail, after_s=reply.retry_after_s
            )
            if reply.boot != self._boot or reply.reason == "NOT_READY":
                self._lose(f"{reply.reason}: {reply.detail}")
        else:
            self._settle_reply(ask, reply, now)

    def _names(self, reply: ScoreReply, ask: Ask) -> bool:
        query = ask.query
        if reply.session != self.config.session:
            return False
        if (reply.env, reply.episode, reply.step) != (query.env, query.episode, query.step):
            return False
        if reply.reason == "OK" and isinstance(query, Query):
            return reply.frames == tuple(frame.id for frame in query.newest)
        return True

    def _settle_reply(self, ask: Ask, reply: ScoreReply, now: float) -> None:
        if isinstance(ask.query, Query):
            reference = tuple(frame.id for frame in ask.query.reference)
        else:
            reference = reply.delta_from if ask.query.t_from_ns else ()
        if not (reply.reason == "OK" or reply.reason in REASONS):
            self.counts["malformed"] += 1
            self._settle(ask, reason="BAD_HEADER", detail=f"unknown reason {reply.reason!r}"[:256])
            return
        try:
            score = read_score(reply, reference=reference, total_s=now - ask.submitted_s)
        except ValueError as error:
            self.counts["malformed"] += 1
            self._settle(ask, reason="BAD_HEADER", detail=f"bad reply: {error}"[:256])
            return
        self._settle(ask, score=score)

    def _close_sockets(self) -> None:
        self._score.close()
        self._handshakes.monitor.close(0)
        if self._control is not None:
            self._control.close()
        self._waker.close()
        with contextlib.suppress(zmq.ZMQError):
            self._context.term()
