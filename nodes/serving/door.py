"""The I/O thread of the node: owns the sockets, reads, counts what is malformed, never blocks."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import zmq

from robo_reward.protocol.envelope import Codec, Header, Refusal
from robo_reward.protocol.handshake import Beat, BeatReply, Cancel
from robo_reward.protocol.score import CONTROL_FROM_NODE, CONTROL_TO_NODE, FROM_NODE, TO_NODE
from robo_reward.transport.clock import clock_name
from robo_reward.transport.guard import Handshakes, guard_for
from robo_reward.transport.keys import Keys
from robo_reward.transport.sockets import (
    Address,
    Waker,
    bind_socket,
    check_address,
    make_context,
    open_socket,
    receive_from,
    send,
)

from .desk import Desk, Failure
from .refusals import refused
from .worker import Outcome

logger = logging.getLogger(__name__)

TICK_S = 0.02
STRIKES = 5
STRIKE_WINDOW_S = 10.0
IGNORED_S = 60.0
READ_AT_ONCE = 64
FLUSH_MS = 200


class Door:
    """Binds the score and the control socket and runs them in one thread.

    Args:
        address: Endpoint of the score socket; the control socket takes the next port, a free one
            where the port is ``0`` or ``*``, or ``<path>.control``.
        keys: Secure both sockets.
        insecure_no_auth: Allow an endpoint that other machines can reach, without keys.
    """

    def __init__(
        self, address: str, *, keys: Keys | None = None, insecure_no_auth: bool = False
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.on_tick: Callable[[float], None] = lambda now_s: None
        self.on_beat: Callable[[Beat], BeatReply] | None = None
        self._desk: Desk | None = None
        self._done: deque[Outcome | Failure | Callable[[], None]] = deque()
        self._strikes: dict[str | bytes, list[float]] = {}
        self._waker = Waker()
        self._stop = threading.Event()
        self._context = make_context()
        self._sockets: list[zmq.Socket[bytes]] = []
        try:
            # Replies are small: a whole window of them must fit, or a burst would lose its tail.
            self._score = self._open(send_hwm=1024, receive_hwm=64)
            self._control = self._open(send_hwm=1000, receive_hwm=1000, max_part_bytes=65536)
            self._handshakes = Handshakes(self._score)
            self._sockets.append(self._handshakes.monitor)
            self._guard = guard_for(self._context, keys, address)
            bind = functools.partial(bind_socket, keys=keys, insecure_no_auth=insecure_no_auth)
            self.address = bind(self._score, address)
            self.control = bind(self._control, control_address(address, bound=self.address))
        except BaseException:
            self._close_sockets()
            raise
        self._thread = threading.Thread(target=self._run, name="robo-reward-door", daemon=True)

    @property
    def control_port(self) -> int:
        """Port of the control socket; 0 where it has none."""
        is_tcp = self.control.startswith("tcp://")
        return int(self.control.rpartition(":")[2]) if is_tcp else 0

    def guarded(self) -> dict[str, int]:
        """Return how many keys were admitted, were strangers, or were denied what they asked."""
        return {} if self._guard is None else dict(self._guard.counts)

    def start(self, desk: Desk) -> None:
        """Begin to serve."""
        self._desk = desk
        desk.control_port = self.control_port
        self._thread.start()

    def stop(self) -> None:
        """Send what is left to send, end the thread, free the sockets."""
        self._stop.set()
        self._waker.wake()
        if self._thread.ident is None:
            self._close_sockets()
        else:
            self._thread.join(timeout=10.0)

    def hand_back(self, done: Sequence[Outcome | Failure]) -> None:
        """Take outcomes from another thread."""
        self._done.extend(done)
        self._waker.wake()

    def call(self, action: Callable[[], None]) -> None:
        """Run something in the I/O thread, after what was handed back before."""
        self._done.append(action)
        self._waker.wake()

    def reply(self, routing: bytes, header: Header) -> None:
        """Send an answer on the score socket; one that the peer does not take is counted."""
        self._send(self._score, routing, FROM_NODE, header)

    def _open(
        self, *, send_hwm: int, receive_hwm: int, max_part_bytes: int = 8 * 1024 * 1024
    ) -> zmq.Socket[bytes]:
        socket = open_socket(
            self._context,
            zmq.ROUTER,
            send_hwm=send_hwm,
            receive_hwm=receive_hwm,
            max_part_bytes=max_part_bytes,
        )
        self._sockets.append(socket)
        return socket

    def _run(self) -> None:
        poller = zmq.Poller()
        readers = {
            self._score: self._read_score,
            self._control: self._read_control,
            self._handshakes.monitor: self._read_handshakes,
        }
        for one in (self._waker, *readers):
            poller.register(one, zmq.POLLIN)
        ticked = 0.0
        while not self._stop.is_set():
            events = dict(poller.poll(int(TICK_S * 1000)))
            if self._waker.fileno() in events:
                self._waker.drain()
            self._guarded(self._deliver)
            for socket, read in readers.items():
                if socket in events:
                    self._guarded(read)
            now = time.monotonic()
            # While there is work the clock may wait a little: the worker needs the interpreter now.
            if now - ticked >= (TICK_S if events else TICK_S / 2):
                ticked = now
                self._guarded(functools.partial(self._tick, now))
        self._guarded(self._deliver)
        self._close_sockets()

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # one bad message must not end the thread that all clients depend on
            self.counts["internal_errors"] += 1
            logger.exception("the I/O thread of the reward node met a defect")

    def _tick(self, now_s: float) -> None:
        assert self._desk is not None
        self._desk.tick(now_s)
        self.on_tick(now_s)
        if len(self._strikes) > 1024:
            self._strikes = {
                who: times for who, times in self._strikes.items() if now_s - times[-1] < IGNORED_S
            }

    def _deliver(self) -> None:
        assert self._desk is not None
        while self._done:
            item = self._done.popleft()
            if isinstance(item, Outcome):
                self._desk.outcome(item)
            elif isinstance(item, Failure):
                self._desk.failure(item)
            else:
                item()

    def _read_score(self) -> None:
        assert self._desk is not None
        for _ in range(READ_AT_ONCE):  # answers must go out between the messages of a flood
            found = receive_from(self._score, keyed=self._guard is not None)
            if found is None:
                return
            peer, message = found
            routing = bytes(message[0])
            if self._ignored(peer, routing):
                self.counts["ignored"] += 1
                continue
            try:
                self._check(peer)
                header, parts = TO_NODE.unpack(message[1:])
                size = sum(len(part) for part in message)
                self._desk.on_message(routing, header, parts, peer=peer, size=size)
            except Refusal as refusal:
                self._refuse(peer, routing, refusal)
        self._waker.wake()

    def _check(self, peer: str) -> None:
        """Refuse a peer whose role is not to ask for scores; nothing it says is even parsed."""
        if self._guard is not None:
            self._guard.check(peer, "query")

    def _refuse(self, peer: str, routing: bytes, refusal: Refusal) -> None:
        self.counts[f"refused_{refusal.reason}"] += 1
        if refusal.reason in ("BAD_HEADER", "TOO_LARGE", "BAD_PAYLOAD"):
            self._strikes.setdefault(peer or routing, []).append(time.monotonic())
        assert self._desk is not None
        boot = "" if refusal.reason == "DENIED" else self._desk.boot
        self.reply(routing, refused(refusal, boot=boot))

    def _ignored(self, peer: str, routing: bytes) -> bool:
        """Whether this peer has sent so much rubbish that it is not listened to for a while."""
        who = peer or routing  # a key is known again after a reconnection
        times = self._strikes.get(who)
        if not times:
            return False
        if len(times) < STRIKES:
            return False
        now = time.monotonic()
        if now - times[-1] > IGNORED_S:
            del self._strikes[who]
            return False
        return times[-1] - times[-STRIKES] <= STRIKE_WINDOW_S

    def _read_control(self) -> None:
        for _ in range(READ_AT_ONCE):
            found = receive_from(self._control, keyed=self._guard is not None)
            if found is None:
                return
            peer, message = found
            try:
                self._check(peer)
                header, _ = CONTROL_TO_NODE.unpack(message[1:])
                self._heed(peer, bytes(message[0]), header)
            except Refusal as refusal:
                self.counts[f"refused_{refusal.reason}"] += 1

    def _heed(self, peer: str, routing: bytes, header: Header) -> None:
        assert self._desk is not None
        if isinstance(header, Cancel):
            self._desk.cancel(header, peer=peer)
        elif isinstance(header, Beat) and self.on_beat is not None:
            self._desk.heard(header.session, peer=peer)
            self._send(self._control, routing, CONTROL_FROM_NODE, self.on_beat(header))

    def _read_handshakes(self) -> None:
        self._handshakes.read(keyed=self._guard is not None)
        self.counts["connections"] = self._handshakes.accepted
        self.counts["handshakes_failed"] = self._handshakes.failed

    def _send(
        self, socket: zmq.Socket[bytes], routing: bytes, codec: Codec[Header], header: Header
    ) -> None:
        if not send(socket, [routing, *codec.pack(header)]):
            self.counts["replies_dropped"] += 1

    def _close_sockets(self) -> None:
        for socket in self._sockets:
            socket.close(linger=FLUSH_MS)  # the last answers of a drain are still on their way
        self._waker.close()
        self._context.term()


def control_address(address: str, *, bound: Address) -> str:
    """Return where the control socket belongs, given the score socket's wish and real address."""
    wanted = check_address(address)
    if not wanted.startswith("tcp://"):
        return f"{wanted}.control"
    host, _, port = wanted.rpartition(":")
    if port in ("*", "0"):
        return f"{host}:*"
    return f"{host}:{int(bound.rpartition(':')[2]) + 1}"


def beat_reply(
    beat: Beat, desk: Desk, *, state: str, last_batch_s: float, busy_since_s: float, queued: int
) -> BeatReply:
    """Answer a beat with how the model does."""
    now = time.monotonic()
    return BeatReply(
        session=beat.session,
        boot=desk.boot,
        known=desk.sessions.find(beat.session) is not None,
        state=state,  # type: ignore[arg-type]
        echo_mono_ns=beat.mono_ns,
        echo_wall_ns=beat.wall_ns,
        wall_ns=time.time_ns(),
        last_batch_age_s=now - last_batch_s if last_batch_s else -1.0,
        busy_s=now - busy_since_s if busy_since_s else 0.0,
        queued=queued,
        stalled=desk.stalled,
        clock=clock_name(),
    )
