"""Who is connected: tasks, open questions and the answers already given, per client."""

from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field, fields

from robo_reward.errors import ConfigError
from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.handshake import Hello, Priority
from robo_reward.protocol.score import MarkRequest, ScoreReply, ScoreRequest
from robo_reward.query import Query
from robo_reward.task import Task

from .past import Pasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a node; each one has a counter or a refusal.

    Attributes:
        sessions: Clients at once.
        tasks: Tasks per client; the one unused for longest is forgotten.
        window: Requests that one client may have open.
        queue: Requests that may wait, of all clients.
        queue_bytes: Bytes of the frames of requests that wait.
        replies: Answers kept per client for questions that are asked twice.
        reply_age_s: How long they are kept.
        silence_s: A client that says nothing for so long is forgotten.
        store_bytes: Frames that are kept.
        peer_sessions: Clients at once with one key.
        peer_messages_s: Messages per second of one key; of one connection where nobody has keys.
        peer_bytes_s: Bytes per second, likewise.
    """

    sessions: int = 64
    tasks: int = 64
    window: int = 256
    queue: int = 256
    queue_bytes: int = 256 * 1024 * 1024
    replies: int = 256
    reply_age_s: float = 30.0
    silence_s: float = 5.0
    store_bytes: int = 256 * 1024 * 1024
    peer_sessions: int = 32
    peer_messages_s: float = 10_000.0
    peer_bytes_s: float = 512e6

    def __post_init__(self) -> None:
        """Refuse bounds that would let nothing through."""
        names = [field.name for field in fields(self) if getattr(self, field.name) <= 0]
        if names:
            raise ConfigError(f"limits must be > 0: {', '.join(names)}")


Question = ScoreRequest | MarkRequest
Fingerprint = tuple[object, ...]


def fingerprint(question: Question) -> Fingerprint:
    """Return what must be equal when one sequence number comes twice."""
    if isinstance(question, ScoreRequest):
        what: Fingerprint = (
            tuple(ref.id for ref in question.newest),
            tuple(ref.id for ref in question.reference),
            question.history,
        )
    else:
        what = (question.cameras,)
    return (question.env, question.episode, question.step, question.task, what)


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """A question that was admitted and has no answer yet.

    Attributes:
        question: As asked; a retry replaces it.
        session: Of the client.
        arrived_s: Monotonic time of arrival.
        mark: What must be equal when the question comes twice.
        deadline_s: Monotonic time after which nobody waits.
        age_s: Age of the oldest newest frame at arrival; NaN where unknown.
        size: Bytes of its frames.
        supplied: Ids of the frames whose bytes came with it.
        query: Once frames and task are there.
        decode_s: Until then, seconds.
        running: The model has it.
        told: Its client was told that it is late; the answer is kept for a retry.
        dropped: Answered, cancelled or refused: the model must not see it.
    """

    question: Question
    session: Session
    mark: Fingerprint
    arrived_s: float
    deadline_s: float
    age_s: float
    size: int
    supplied: frozenset[str] = frozenset()
    query: Query | None = None
    decode_s: float = 0.0
    running: bool = False
    told: bool = False
    dropped: bool = False

    @property
    def online(self) -> bool:
        """Whether a robot waits for it."""
        return self.session.priority == "online"


@dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One client process. Only the I/O thread changes it."""

    id: str
    routing: bytes
    peer: str
    priority: Priority
    window: int
    heard_s: float
    tasks: OrderedDict[str, Future[Task]] = field(default_factory=OrderedDict)
    jobs: dict[int, Job] = field(default_factory=dict)
    replies: OrderedDict[int, tuple[float, Fingerprint, ScoreReply]] = field(
        default_factory=OrderedDict
    )
    pasts: Pasts = field(default_factory=Pasts)

    def remember(self, reply: ScoreReply, asked: Fingerprint, *, limits: Limits) -> None:
        """Keep an answer for the case that the question comes again."""
        now = time.monotonic()
        self.replies[reply.seq] = (now, asked, reply)
        while self.replies:
            oldest = next(iter(self.replies))
            fresh = now - self.replies[oldest][0] <= limits.reply_age_s
            if fresh and len(self.replies) <= limits.replies:
                break
            del self.replies[oldest]


class Sessions:
    """All clients of a node. Only the I/O thread calls it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._by_id: dict[str, Session] = {}

    def __len__(self) -> int:
        """Number of clients."""
        return len(self._by_id)

    def all(self) -> list[Session]:
        """Return every session."""
        return list(self._by_id.values())

    def find(self, session_id: str) -> Session | None:
        """Return the session of this name."""
        return self._by_id.get(session_id)

    def greet(self, hello: Hello, routing: bytes, *, peer: str = "") -> Session:
        """Take a client in, or move one to its new connection.

        Args:
            hello: What it says.
            routing: Its connection.
            peer: Its key, empty where nobody has one.

        Raises:
            Refusal: ``BUSY`` when the node is full, or has enough of this key; ``DENIED`` for the
                session of another key.
        """
        session = self._by_id.get(hello.session)
        if session is None:
            self._check_room(peer)
            session = Session(
                id=hello.session,
                routing=routing,
                peer=peer,
                priority=hello.priority,
                window=min(hello.window, self.limits.window),
                heard_s=time.monotonic(),
            )
            self._by_id[hello.session] = session
        elif session.peer != peer:
            raise Refusal("DENIED", "this session is that of another key")
        session.routing = routing
        session.heard_s = time.monotonic()
        return session

    def _check_room(self, peer: str) -> None:
        if len(self._by_id) >= self.limits.sessions:
            raise Refusal("BUSY", f"{len(self)} clients, no more are taken")
        same = sum(session.peer == peer for session in self._by_id.values()) if peer else 0
        if same >= self.limits.peer_sessions:
            raise Refusal("BUSY", f"{same} clients with this key, no more are taken")

    def silent(self, now_s: float) -> list[Session]:
        """Remove and return the clients that have said nothing for too long."""
        gone = [s for s in self.all() if now_s - s.heard_s > self.limits.silence_s]
        for session in gone:
            del self._by_id[session.id]
        return gone
