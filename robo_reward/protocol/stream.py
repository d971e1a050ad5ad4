"""What travels on a stream: beats of a consumer one way; frames, states and events the other.

A source binds, consumers connect. A consumer says in every beat up to which item it may be sent
(``until``: its credit) and which it has (``received``), so a lost beat mends itself with the next.
Items are numbered per consumer: ``index`` 1, 2, 3 … counts what was sent to it, and ``dropped``
says how many it was not sent since the item before.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from robo_reward.frames import Encoding, Frame
from robo_reward.signals import Score

from .envelope import Codec, Count, Hash, Header, Name, Nanoseconds, Session, Short
from .handshake import Refused
from .payload import Side

MAX_WINDOW = 4096

Mode = Literal["newest", "auto", "lossless"]
"""What a consumer wants: the newest item only, every item, or what the source thinks right."""

Clock = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
"""Names the clocks of one boot of one machine: stamps compare exactly where it is the same."""


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """Which transition an item belongs to; the numbers are those of a query or mark.

    Attributes:
        env: Index of the environment within the client.
        episode: Number of the episode.
        step: Number of the transition; 0 is the state of the reset.
    """

    env: Count = 0
    episode: Count = 0
    step: Count = 0


class Beat(Header, frozen=True, kw_only=True, tag="beat"):
    """A consumer's heartbeat, acknowledgement, credit and first half of a clock sample.

    Attributes:
        session: The consumer, the same over reconnections.
        name: What to call it in a table.
        mode: Which items it wants.
        window: Items that it can hold when it may not miss any.
        boot: The source that ``received`` and ``until`` refer to; empty before the first pong.
        received: Index of the last item that arrived.
        until: Index of the last item that may be sent.
        sent_wall_ns: Wall clock of the consumer when this beat left.
        sent_mono_ns: Its monotonic clock then.
        leaving: Whether it will not come back: nothing needs to be kept for it.
    """

    session: Session
    name: Name
    mode: Mode
    sent_wall_ns: Nanoseconds
    sent_mono_ns: Nanoseconds
    window: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW)] = 1
    boot: Annotated[str, msgspec.Meta(max_length=32)] = ""
    received: Count = 0
    until: Count = 0
    leaving: bool = False


class Pong(Header, frozen=True, kw_only=True, tag="pong"):
    """The source's answer to a beat: who it is, and the other half of the clock sample.

    Attributes:
        boot: The source process; another value means that it was restarted and counts from 1.
        topic: Resolved name of the stream.
        content: What its items are.
        lossless: Whether this consumer is sent every item.
        clock: Names the clocks of the source's machine.
        sent_wall_ns: Copied from the beat.
        sent_mono_ns: Copied from the beat.
        received_wall_ns: Wall clock of the source when the beat arrived.
        replied_wall_ns: Wall clock of the source when this left.
    """

    boot: Session
    topic: Name
    content: Literal["frame", "scene", "event"]
    lossless: bool
    clock: Clock
    sent_wall_ns: Nanoseconds
    sent_mono_ns: Nanoseconds
    received_wall_ns: Nanoseconds
    replied_wall_ns: Nanoseconds


class Item(Header, frozen=True, kw_only=True):
    """Base of what a source sends.

    Attributes:
        mono_ns: Monotonic clock at capture, nanoseconds.
        wall_ns: Wall clock at capture, nanoseconds since the epoch.
        clock: The machine whose clocks these are.
        index: Number of the item among those sent to this consumer.
        dropped: Items that this consumer was not sent since the one before.
        age_ns: Age when it was sent, on the sender's clock: free of skew.
    """

    mono_ns: Nanoseconds
    wall_ns: Nanoseconds
    clock: Clock
    index: Count = 0
    dropped: Count = 0
    age_ns: Nanoseconds = 0


class FrameItem(Item, frozen=True, kw_only=True, tag="frame"):
    """One frame; its bytes are the only part.

    Attributes:
        camera: Name of the camera.
        sequence: Counts up by one for every frame the camera gave.
        id: Content hash.
        encoding: ``"rgb8"`` or ``"jpeg"``.
        shape: ``(height, width, 3)`` pixels.
        tag: The transition, where a simulator's scene is rendered.
    """

    camera: Name
    sequence: Count
    id: Hash
    encoding: Encoding
    shape: tuple[Side, Side, Literal[3]]
    tag: Tag | None = None


class SceneItem(Item, frozen=True, kw_only=True, tag="scene"):
    """One state of a simulator's scene; parts: the state, and at a reset the scene's make-up.

    Attributes:
        scene: Gymnasium id, to be compared with the id that the camera node was told; never opened.
        tag: The transition whose state this is.
        reset: Whether a new episode begins; the second part is then ``scene_config()``.
    """

    scene: Name
    tag: Tag
    reset: bool = False


class ActionEvent(Item, frozen=True, kw_only=True, tag="action"):
    """An action was sent to the robot; the only part is ``(A,) float32``, little-endian."""

    tag: Tag


class ScoreEvent(Item, frozen=True, kw_only=True, tag="score"):
    """A score was given to the learner."""

    score: Score


class StartEvent(Item, frozen=True, kw_only=True, tag="start"):
    """An episode begins.

    Attributes:
        tag: Its numbers; ``step`` is 0.
        instruction: What the robot was asked to do.
        meta: Plain values that the recorder keeps.
    """

    tag: Tag
    instruction: Annotated[str, msgspec.Meta(max_length=2048)]
    meta: dict[Name, str | int | float | bool | None] = msgspec.field(default_factory=dict)


class EndEvent(Item, frozen=True, kw_only=True, tag="end"):
    """An episode is over.

    Attributes:
        tag: Its numbers; ``step`` is that of the last state.
        success: The truth, where somebody knows it.
        reason: ``terminated``, ``truncated``, ``stopped``, ….
    """

    tag: Tag
    success: bool | None = None
    reason: Short = ""


Event = ActionEvent | ScoreEvent | StartEvent | EndEvent

BEATS: Codec[Beat] = Codec(Beat)
"""What a source reads."""
ITEMS: Codec[Header] = Codec(
    Pong, Refused, FrameItem, SceneItem, ActionEvent, ScoreEvent, StartEvent, EndEvent
)
"""What a consumer reads."""


def frame_item(frame: Frame, *, clock: str, tag: Tag | None = None) -> FrameItem:
    """Make the header under which a frame travels."""
    header = frame.header
    return FrameItem(
        camera=header.camera,
        sequence=header.sequence,
        mono_ns=header.mono_ns,
        wall_ns=header.wall_ns,
        id=header.id,
        encoding=header.encoding,
        shape=(header.shape[0], header.shape[1], 3),
        clock=clock,
        tag=tag,
    )
