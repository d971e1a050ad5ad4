"""Who talks to whom: hello, welcome, refusal, and the beats that tell a live peer from a dead."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from robo_reward.gate_config import GateConfig

from .envelope import MAJOR, MINOR, OLDEST_MINOR, Count, Header, Name, Nanoseconds, Session, Short

Minor = Annotated[int, msgspec.Meta(ge=0, le=255)]
Priority = Literal["online", "offline"]
State = Literal["unconfigured", "configuring", "inactive", "active", "draining", "finalized"]
"""Lifecycle of a node, with the names of ROS 2 where it has them."""


class Hello(Header, frozen=True, kw_only=True, tag="hello"):
    """First message of a client on the score socket, and again whenever the node's boot id changes.

    Attributes:
        session: Names the client process.
        oldest: Oldest minor version that the client reads.
        newest: Newest minor version that the client writes.
        software: Version of the package, for messages to people.
        window: How many requests the client would like to have open at once.
        priority: Class of all its requests.
    """

    session: Session
    oldest: Minor = OLDEST_MINOR
    newest: Minor = MINOR
    software: Short = ""
    window: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 1
    priority: Priority = "online"


class Welcome(Header, frozen=True, kw_only=True, tag="welcome"):
    """The node's answer to ``Hello``: what it is and what it grants.

    Attributes:
        session: Of the client that is welcomed.
        boot: Names this run of the node; another boot id means that all its state is gone.
        minor: Minor version that both ends will speak.
        window: How many requests this client may have open at once.
        control: Port of the control socket on the same host; 0 for ``<address>.control``.
        model: Model name and weight hash.
        prompt: Hash of the prompt.
        calibration: Id of the calibration.
        signals: Names of the signals that the model gives.
        max_views: Number of cameras that one query may hold.
        goal_image: Whether ``Task.goal`` is read.
        demo: Whether ``Task.demo`` is read.
        history: Number of earlier instants that one query may hold.
        gates: Operating points of the calibration by instruction, ``""`` for all others; empty
            where there is none.
        software: Version of the package.
    """

    session: Session
    boot: Session
    minor: Minor
    window: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    control: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    model: Short
    prompt: Short
    calibration: Short
    signals: tuple[Name, ...]
    max_views: Annotated[int, msgspec.Meta(ge=1, le=64)]
    goal_image: bool
    demo: bool = False
    history: Annotated[int, msgspec.Meta(ge=0, le=128)] = 0
    gates: Annotated[dict[str, GateConfig], msgspec.Meta(max_length=128)] = msgspec.field(
        default_factory=dict
    )
    software: Short = ""


class Refused(Header, frozen=True, kw_only=True, tag="refused"):
    """A message was not taken; what cannot be answered by a ``ScoreReply`` ends in this.

    Attributes:
        reason: Key of ``signals.REASONS``.
        detail: A sentence for people, nothing of the node's inside.
        boot: The node that refuses.
        retry_after_s: When asking again is worth it; 0 where it is not known.
    """

    reason: Short
    detail: Short = ""
    boot: Annotated[str, msgspec.Meta(max_length=32)] = ""
    retry_after_s: float = 0.0


class Beat(Header, frozen=True, kw_only=True, tag="beat"):
    """The client is alive; stamps of its two clocks, to be echoed.

    Attributes:
        session: Of the client.
        mono_ns: Monotonic clock of the client.
        wall_ns: Wall clock of the client.
    """

    session: Session
    mono_ns: Nanoseconds
    wall_ns: Nanoseconds


class BeatReply(Header, frozen=True, kw_only=True, tag="beat_reply"):
    """The node is alive, and this is how its model does.

    Attributes:
        session: Of the client that beat.
        boot: This run of the node.
        known: Whether the node knows the session; if not, the client must say hello again.
        state: Lifecycle state.
        echo_mono_ns: ``Beat.mono_ns``.
        echo_wall_ns: ``Beat.wall_ns``.
        wall_ns: Wall clock of the node.
        last_batch_age_s: Since the model last finished a batch; -1 before the first one.
        busy_s: For how long the batch that is now in the model has been there; 0 when idle.
        queued: Requests that wait.
        stalled: Whether the watchdog has given the model up.
        clock: Names the clocks of the node's machine; the same name means the same clock.
    """

    session: Session
    boot: Session
    known: bool
    state: State
    echo_mono_ns: Nanoseconds
    echo_wall_ns: Nanoseconds
    wall_ns: Nanoseconds
    last_batch_age_s: float
    busy_s: float = 0.0
    queued: Count = 0
    stalled: bool = False
    clock: Short = ""


class Cancel(Header, frozen=True, kw_only=True, tag="cancel"):
    """The answers to these requests will not be used; no reply.

    Attributes:
        session: Of the client.
        seqs: Sequence numbers of the requests.
    """

    session: Session
    seqs: Annotated[tuple[Count, ...], msgspec.Meta(max_length=512)]


def agree(hello: Hello) -> int | None:
    """Return the newest minor version that both ends speak, or ``None`` where there is none."""
    newest = min(hello.newest, MINOR)
    return newest if newest >= max(hello.oldest, OLDEST_MINOR) else None


def mismatch(hello: Hello) -> str:
    """Say what each end speaks, for the refusal of a ``Hello``."""
    return (
        f"client speaks protocol {MAJOR}.{hello.oldest} to {MAJOR}.{hello.newest}, node speaks "
        f"{MAJOR}.{OLDEST_MINOR} to {MAJOR}.{MINOR}; install the same robo-reward on both ends"
    )
