"""A source that asks a reward node: never raises for a missing answer, never waits without end."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robo_reward.closing import Closing
from robo_reward.errors import AccessDenied, ConfigError, PeerUnreachable, ProtocolMismatch
from robo_reward.frames import Frame
from robo_reward.protocol.handshake import Priority
from robo_reward.query import Mark, Query
from robo_reward.transport.keys import Keys, as_keys
from robo_reward.transport.sockets import check_address

from .asks import GRACE_S, Ask, RemotePending
from .link import FATAL, Link, LinkConfig
from .source import ModelInfo

JPEGS_KEPT = 256


class RemoteSource(Closing):
    """Asks the reward node at an address. Opens its sockets at the first question.

    Questions are sent again, under the same name, when the node dies, restarts or is busy, for as
    long as there is time; then their scores say why they are missing. After a fork, or unpickled,
    it opens sockets and a session of its own at the next question.

    Args:
        address: ``tcp://host:port`` or ``ipc://path`` of the node.
        deadline_s: Budget of one try where ``submit`` names none, seconds.
        patience_s: How long a question is tried again and again, seconds; the budget of one try
            where that is longer.
        jpeg_quality: 1 to 100 compresses frames before they are sent, each once; ``None`` sends
            them as they are, which is faster on one machine and slower below 4 Gb/s. The scores
            then name the compressed frames.
        priority: ``"offline"`` lets every ``"online"`` client go first.
        window: Most requests open at once; the node may grant fewer, the rest waits here.
        connect_timeout_s: How long ``info`` waits for the node, seconds.
        keys: Folder of keys (``robo-reward keys``), where the node asks for them.

    Example:
        >>> source = RemoteSource("tcp://127.0.0.1:5601", deadline_s=0.5)
        >>> source.address
        'tcp://127.0.0.1:5601'
        >>> source.close()
    """

    def __init__(
        self,
        address: str,
        *,
        deadline_s: float = 2.0,
        patience_s: float = 0.0,
        jpeg_quality: int | None = None,
        priority: Priority = "online",
        window: int = 64,
        connect_timeout_s: float = 5.0,
        keys: Path | str | Keys | None = None,
    ) -> None:
        self.address = str(check_address(address))
        problems = []
        if deadline_s <= 0:
            problems.append(f"deadline_s must be > 0, got {deadline_s}")
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            problems.append(f"jpeg_quality must be in 1 to 100 or None, got {jpeg_quality}")
        if not 1 <= window <= 65536:
            problems.append(f"window must be in 1 to 65536, got {window}")
        if priority not in ("online", "offline"):
            problems.append(f"priority must be 'online' or 'offline', got {priority!r}")
        if problems:
            raise ConfigError("; ".join(problems))
        self.deadline_s = deadline_s
        self.patience_s = patience_s
        self.jpeg_quality = jpeg_quality
        self.priority: Priority = priority
        self.window = window
        self.connect_timeout_s = connect_timeout_s
        self.keys = keys
        self.closed = False
        self._link: Link | None = None
        self._finalizer: weakref.finalize[..., RemoteSource] | None = None
        self._reset()

    @property
    def session(self) -> str:
        """Names this client on the wire and in every score, 32 hex digits."""
        return self._session

    def info(self) -> ModelInfo:
        """Say which model answers.

        Raises:
            PeerUnreachable: No node answered within ``connect_timeout_s``, or it is not ready.
            ProtocolMismatch: The node speaks another version.
            AccessDenied: It does not let this client in.
            ConfigError: The keys cannot be read.
        """
        link = self._open()
        link.greeted.wait(self.connect_timeout_s)
        welcome, refusal = link.welcome, link.refusal
        if refusal is not None and refusal.reason == "DENIED":
            raise AccessDenied(f"reward node at {self.address} refuses: {refusal.detail}")
        if refusal is not None and refusal.reason in FATAL:
            raise ProtocolMismatch(f"reward node at {self.address}: {refusal.detail}")
        if welcome is None or not link.greeted.is_set():
            why = link.suspicion or "nobody answers"
            if refusal is not None:
                why = f"it says {refusal.reason}: {refusal.detail}"
            raise PeerUnreachable(
                f"no reward node ready at {self.address} within {self.connect_timeout_s:g} s "
                f"({why}); start one with: robo-reward serve --bind {self.address}"
            )
        return ModelInfo(
            model=welcome.model,
            prompt=welcome.prompt,
            calibration=welcome.calibration,
            signals=welcome.signals,
            max_views=welcome.max_views,
            goal_image=welcome.goal_image,
            demo=welcome.demo,
            history=welcome.history,
            gates=welcome.gates,
        )

    def submit(
        self, queries: Sequence[Query | Mark], *, deadline_s: float | None = None
    ) -> RemotePending:
        """Ask without waiting; ``deadline_s`` is the budget of one try, seconds."""
        link = None if self.closed else self._open()
        now = time.monotonic()
        budget = self.deadline_s if deadline_s is None else max(0.001, deadline_s)
        pending = RemotePending(session=self._session, link=link)
        asks = [
            Ask(
                seq=next(self._numbers),
                query=self._compressed(query),
                pending=pending,
                budget_s=budget,
                give_up_s=now + max(budget, self.patience_s) + GRACE_S,
                submitted_s=now,
            )
            for query in queries
        ]
        pending.load(asks)
        if link is not None:
            link.put(asks)
            return pending
        for ask in asks:
            ask.reason, ask.detail = "CANCELLED", "the source is closed"
            ask.score = ask.missing(self._session)
            pending.settle_one()
        return pending

    def stats(self) -> dict[str, float]:
        """Return counters of the link, the node's last beat, and the clock offset."""
        link = self._link
        if link is None:
            return {}
        found: dict[str, float] = dict(link.counts)
        found["frames_sent"] = link.frames_sent
        found["clock_offset_s"] = link.offset.offset_ns / 1e9
        if link.beat is not None:
            found["node_last_batch_age_s"] = link.beat.last_batch_age_s
            found["node_queued"] = link.beat.queued
        return found

    def close(self) -> None:
        """Free sockets and threads; may be called twice. Open questions become ``cancelled``."""
        self.closed = True
        if self._finalizer is not None and self._pid == os.getpid():
            self._finalizer()
        self._link = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._session = secrets.token_hex(16)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._link = None
        self._finalizer = None
        self._jpegs: OrderedDict[str, Frame] = OrderedDict()

    def _open(self) -> Link:
        if self.closed:
            raise ConfigError("this source is closed; make another one")
        if self._pid != os.getpid():
            self._reset()  # the sockets and the thread stayed with the parent process
        with self._lock:
            if self._link is None or self._link.stopped:
                self._link = Link(
                    LinkConfig(
                        address=self.address,
                        session=self._session,
                        window=self.window,
                        priority=self.priority,
                        keys=as_keys(self.keys),
                    )
                )
                self._finalizer = weakref.finalize(self, self._link.stop)
            return self._link

    def _compressed(self, query: Query | Mark) -> Query | Mark:
        if self.jpeg_quality is None or isinstance(query, Mark):
            return query
        return replace(
            query,
            newest=tuple(self._jpeg(frame) for frame in query.newest),
            reference=tuple(self._jpeg(frame) for frame in query.reference),
            history=tuple(tuple(map(self._jpeg, views)) for views in query.history),
        )

    def _jpeg(self, frame: Frame) -> Frame:
        if frame.header.encoding == "jpeg":
            return frame
        with self._lock:
            made = self._jpegs.get(frame.id)
        if made is None:
            header = frame.header
            made = Frame.of(
                frame.image,
                camera=header.camera,
                sequence=header.sequence,
                mono_ns=header.mono_ns,
                wall_ns=header.wall_ns,
                jpeg_quality=self.jpeg_quality,
            )
            with self._lock:
                self._jpegs[frame.id] = made
                while len(self._jpegs) > JPEGS_KEPT:
                    self._jpegs.popitem(last=False)
        return made
