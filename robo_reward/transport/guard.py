"""At the door: who may connect, who is behind a message, and why a handshake failed."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from robo_reward.protocol.envelope import Refusal

from .keys import DOMAIN, Entry, Keys, Right, fingerprint
from .sockets import takes_keys

logger = logging.getLogger(__name__)

ZAP = "inproc://zeromq.zap.01"
LOOK_MS = 1000
LOG_EVERY_S = 10.0
MAX_NOTED = 256

NO_KEYS = "it has no keys, and with keys nobody here talks to such a peer"
ASKS_FOR_KEYS = "it asks for keys, and none were given"
WRONG_KEYS = "it ends every handshake: its key is not the one on our list, or it has none"


class Guard:
    """Tells libzmq which keys may connect (ZAP, RFC 27), and the node what they may do.

    One for each context whose sockets ``Keys.secure_server`` was called with; its thread ends with
    the context. A stranger is told nothing but that the handshake failed.

    Args:
        context: Of the sockets.
        keys: Whose list counts.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self.keys = keys
        self.counts: Counter[str] = Counter()
        self._noted: dict[str, float] = {}
        self._socket = context.socket(zmq.REP)
        self._socket.set(zmq.LINGER, 0)
        try:
            self._socket.bind(ZAP)
        except BaseException:
            self._socket.close(0)
            raise
        threading.Thread(target=self._run, name="robo-reward-guard", daemon=True).start()

    def check(self, public: str, right: Right) -> Entry:
        """Return who has a key that may do this; asked for every message, so revoking bites.

        Args:
            public: From ``receive_from``.
            right: What the message asks for.

        Raises:
            Refusal: ``DENIED``.
        """
        entry = self.keys.find(public)
        if entry is not None and (entry is self.keys.own or entry.may(right)):
            return entry
        self.counts["denied"] += 1
        who = "this key" if entry is None else f"{entry.name} ({entry.role})"
        self._note(f"{who} {fingerprint(public)} may not {right}")
        raise Refusal("DENIED", f"{who} may not {right} here")

    def _run(self) -> None:
        try:
            while True:
                if self._socket.poll(LOOK_MS):
                    self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        except Exception:
            # Nobody new is let in from now on: libzmq refuses where no answer comes.
            logger.exception("the guard of the sockets broke down")
        finally:
            self._socket.close(0)

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, number, domain, place = (*request, b"", b"", b"", b"")[:4]
        public = ""
        if version == b"1.0" and domain == DOMAIN and request[5:6] == [b"CURVE"]:
            credentials = request[6:]
            if len(credentials) == 1 and len(credentials[0]) == 32:
                public = z85.encode(credentials[0]).decode("ascii")
        if public and self.keys.find(public) is not None:
            self.counts["admitted"] += 1
            return [b"1.0", number, b"200", b"", public.encode(), b""]
        self.counts["strangers"] += 1
        who = fingerprint(public) if public else "without a key"
        self._note(f"a stranger {who} from {place.decode('ascii', 'replace')[:64]} was refused")
        return [b"1.0", number, b"400", b"", b"", b""]

    def _note(self, text: str) -> None:
        """Log, but not the same line again and again, whoever knocks."""
        now = time.monotonic()
        if now - self._noted.get(text, -LOG_EVERY_S) < LOG_EVERY_S:
            return
        if len(self._noted) >= MAX_NOTED:
            self._noted.clear()
        self._noted[text] = now
        logger.warning("%s", text)


def guard_for(
    context: zmq.Context[zmq.Socket[bytes]], keys: Keys | None, address: str
) -> Guard | None:
    """Return what guards an address that will be bound; ``None`` where no keys are in use."""
    return Guard(context, keys) if keys is not None and takes_keys(address) else None


class Handshakes:
    """Watches the handshakes of a socket; where they fail, nothing else says so.

    Poll ``monitor``, call ``read``; both by the thread that owns the socket, which closes
    ``monitor`` after the socket itself.

    Args:
        socket: Not bound or connected yet.
    """

    EVENTS = (
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_SUCCEEDED
        | zmq.EVENT_ACCEPTED
    )

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.accepted = 0
        self.succeeded = 0
        self.failed = 0
        self.refused = ""
        """Why the last handshake failed for good, in words; empty after one that succeeded."""
        self.suspicion = ""
        """Why the last handshakes may have failed, where that cannot be known."""
        self._in_a_row = 0
        self.monitor: zmq.Socket[Any] = socket.get_monitor_socket(self.EVENTS)

    def read(self, *, keyed: bool) -> bool:
        """Note what happened.

        Args:
            keyed: Whether this end has keys.

        Returns:
            Whether anything did.
        """
        happened = False
        while self.monitor.poll(0):
            happened = True
            message = recv_monitor_message(self.monitor)
            event = message["event"]
            if event == zmq.EVENT_ACCEPTED:
                self.accepted += 1
                continue
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.succeeded += 1
                self._in_a_row = 0
                self.refused = self.suspicion = ""
                continue
            self.failed += 1
            self._in_a_row += 1
            self._explain(event, message["value"], keyed=keyed)
        return happened

    def _explain(self, event: int, value: int, *, keyed: bool) -> None:
        # Which end sees a mismatch depends on who closes first; the other one sees no detail.
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refused = "it does not know our key; ask for our public.key to be allowed there"
        elif value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            self.refused = NO_KEYS if keyed else ASKS_FOR_KEYS
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.suspicion = "what answers there is not robo-reward"
        elif self._in_a_row > 1:
            self.suspicion = WRONG_KEYS if keyed else f"it ends every handshake: {ASKS_FOR_KEYS}"
