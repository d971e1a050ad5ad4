"""Frames and events on the wire: what cameras and learners bind, and what others connect.

Example:
    >>> import numpy as np
    >>> publisher = FramePublisher("tcp://127.0.0.1:*", camera="front")
    >>> subscriber = FrameSubscriber(publisher.address, name="doctest")
    >>> publisher.wait_for_consumers(1, timeout_s=5.0)
    True
    >>> publisher.publish(Frame.of(np.zeros((8, 8, 3), np.uint8), camera="front"))
    >>> arrival = subscriber.receive(timeout_s=5.0)
    >>> arrival.frame.header.camera, arrival.dropped
    ('front', 0)
    >>> subscriber.close(); publisher.close()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.closing import Closing
from robo_reward.errors import ConfigError
from robo_reward.frames import Frame
from robo_reward.protocol.envelope import Buffer, Refusal
from robo_reward.protocol.payload import checked
from robo_reward.protocol.stream import (
    ActionEvent,
    EndEvent,
    Event,
    FrameItem,
    Item,
    Mode,
    ScoreEvent,
    StartEvent,
    Tag,
    frame_item,
)
from robo_reward.signals import Score

from .clock import clock_name
from .inlet import Delivery, Inlet, StreamStats
from .keys import Keys
from .outlet import ConsumerStats, Limits, Outlet

MAX_ACTION_VALUES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A frame as it arrived.

    Attributes:
        frame: Checked, not decoded.
        tag: Its transition, where a simulator's scene was rendered.
        dropped: Frames that were not sent since the one before.
        clock: The machine whose clocks the frame's stamps are from.
        age_ns: Age when it was sent, nanoseconds, on the sender's clock.
        received_mono_ns: Our monotonic clock on arrival.
        offset_ns: The camera's wall clock minus ours; 0 on one machine.
        uncertainty_ns: How wrong ``offset_ns`` may be.
    """

    frame: Frame
    tag: Tag | None
    dropped: int
    clock: str
    age_ns: int
    received_mono_ns: int
    offset_ns: int
    uncertainty_ns: int

    @property
    def local_wall_ns(self) -> int:
        """Capture time on this machine's wall clock, nanoseconds since the epoch."""
        return self.frame.header.wall_ns - self.offset_ns

    def age_s(self, *, now_mono_ns: int | None = None) -> float:
        """Return the time since capture, seconds; no clock of another machine enters."""
        now = time.monotonic_ns() if now_mono_ns is None else now_mono_ns
        if self.clock == clock_name():
            return (now - self.frame.header.mono_ns) / 1e9
        return (self.age_ns + now - self.received_mono_ns) / 1e9


class FramePublisher(Closing):
    """The camera's end: binds, and gives each consumer the newest frame when it asks.

    Args:
        address: Endpoint to bind; ``tcp://127.0.0.1:*`` takes a free port.
        camera: Name of the camera.
        topic: Resolved topic; ``camera/<name>/frame`` when not given.
        lossless: Nobody who leaves the choice to the camera misses a frame: for a simulator's
            scene, where each frame belongs to one transition.
        limits: Bounds of the queue of a consumer that may miss nothing.
        insecure_no_auth: Allow an address that other machines can reach, without keys.
        keys: Secure the socket.

    Raises:
        ConfigError: The address is malformed, or open to the network without permission.
        DeviceError: The port or path is busy or forbidden.
    """

    def __init__(
        self,
        address: str,
        *,
        camera: str,
        topic: str = "",
        lossless: bool = False,
        limits: Limits | None = None,
        insecure_no_auth: bool = False,
        keys: Keys | None = None,
    ) -> None:
        self.camera = camera
        self._outlet = Outlet(
            address,
            topic=topic or f"camera/{camera}/frame",
            content="frame",
            lossless=lossless,
            limits=limits,
            insecure_no_auth=insecure_no_auth,
            keys=keys,
        )
        self.address: str = self._outlet.address

    def publish(self, frame: Frame, *, tag: Tag | None = None, clock: str = "") -> None:
        """Offer a frame to every consumer. Never waits.

        Args:
            frame: Its bytes must not change afterwards.
            tag: The transition whose state it shows; kept for consumers that come later.
            clock: The machine whose clocks stamped it; this one when not given.

        Raises:
            ConfigError: It is larger than a message may be (8 MiB).
        """
        item = frame_item(frame, clock=clock or clock_name(), tag=tag)
        try:
            self._outlet.publish(item, [frame.data], latch="" if tag is None else f"env {tag.env}")
        except Refusal as refusal:
            raise ConfigError(f"{refusal.detail}; send JPEG or a smaller image") from refusal

    def wait_for_room(self, *, timeout_s: float) -> bool:
        """Wait until every consumer that may miss nothing can take another frame."""
        return self._outlet.wait_for_room(timeout_s=timeout_s)

    def wait_for_consumers(self, count: int, *, timeout_s: float) -> bool:
        """Wait until this many consumers are connected; ``False`` at the time-out."""
        return self._outlet.wait_for_consumers(count, timeout_s=timeout_s)

    def drain(self, *, timeout_s: float) -> bool:
        """Wait until consumers that may miss nothing have it all; ``False`` at the time-out."""
        return self._outlet.drain(timeout_s=timeout_s)

    def consumers(self) -> list[ConsumerStats]:
        """Return what is known of everyone who is connected."""
        return self._outlet.consumers()

    def close(self) -> None:
        """Unbind and free the thread. May be called twice."""
        self._outlet.close()


class FrameSubscriber(Closing):
    """A consumer's end of one camera: connects, reconnects, and never holds an old frame.

    With ``on_frame`` every arrival is handed over in this object's own thread, and the next frame
    is asked for when the call returns; without it ``receive`` asks.

    Args:
        address: Endpoint that the camera has bound.
        name: What the camera shall call this consumer.
        on_frame: Called with each frame; must not block for long.
        mode: ``"newest"``, ``"lossless"``, or ``"auto"``: newest of a camera, all of a simulator.
        window: Frames in flight when none may be missed.
        keys: Secure the socket.

    Raises:
        ConfigError: The address is malformed.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        on_frame: Callable[[Arrival], None] | None = None,
        mode: Mode = "auto",
        window: int = 16,
        keys: Keys | None = None,
    ) -> None:
        self.address = address
        self._refused = 0
        callback = None if on_frame is None else (lambda item: on_frame(_arrival(item)))
        self._inlet = Inlet(
            address, name=name, mode=mode, window=window, on_item=callback, keys=keys
        )

    @property
    def connected(self) -> bool:
        """Whether the camera was heard of within the last 1.5 s."""
        return self._inlet.connected

    def stats(self) -> StreamStats:
        """Return counters and the state of the connection."""
        return self._inlet.stats()

    def wait_until_connected(self, *, timeout_s: float) -> None:
        """Wait for the camera's first answer.

        Raises:
            PeerUnreachable: Nobody answered in time.
        """
        self._inlet.wait_until_connected(timeout_s=timeout_s)

    def receive(self, *, timeout_s: float) -> Arrival | None:
        """Ask for a frame and wait for it.

        Returns:
            The newest frame (the next one, where none may be missed); ``None`` at the time-out.

        Raises:
            Refusal: The frame is not what its header says; ask again.
        """
        item = self._inlet.take(timeout_s=timeout_s)
        return None if item is None else _arrival(item)

    def close(self) -> None:
        """Disconnect and free the thread. May be called twice."""
        self._inlet.close()


def _arrival(item: Delivery) -> Arrival:
    header = item.header
    if not isinstance(header, FrameItem) or len(item.parts) != 1:
        raise Refusal("BAD_HEADER", "not a frame: is this the address of a camera?")
    return Arrival(
        frame=checked(header, item.parts[0]),
        tag=header.tag,
        dropped=header.dropped,
        clock=header.clock,
        age_ns=header.age_ns,
        received_mono_ns=item.received_mono_ns,
        offset_ns=item.offset_ns,
        uncertainty_ns=item.uncertainty_ns,
    )


class EventPublisher(Closing):
    """A learner's or wrapper's account of its episodes, for recorders; no consumer misses any.

    Args:
        address: Endpoint to bind; ``tcp://127.0.0.1:*`` takes a free port.
        topic: Resolved topic.
        limits: Bounds of a recorder's queue; what does not fit is dropped and counted.
        insecure_no_auth: Allow an address that other machines can reach, without keys.
        keys: Secure the socket.
    """

    def __init__(
        self,
        address: str,
        *,
        topic: str = "episode/events",
        limits: Limits | None = None,
        insecure_no_auth: bool = False,
        keys: Keys | None = None,
    ) -> None:
        self._outlet = Outlet(
            address,
            topic=topic,
            content="event",
            lossless=True,
            limits=limits or Limits(items=16384),
            insecure_no_auth=insecure_no_auth,
            keys=keys,
        )
        self.address: str = self._outlet.address

    def start(
        self,
        instruction: str,
        *,
        env: int = 0,
        episode: int = 0,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Say that an episode begins; recorders that come later are still told.

        Args:
            instruction: What the robot is asked to do.
            env: Index of the environment.
            episode: Number of the episode.
            meta: Plain values to keep with the recording.
        """
        tag = Tag(env=env, episode=episode, step=0)
        event = StartEvent(tag=tag, instruction=instruction, meta=meta or {}, **_stamps())
        self._outlet.publish(event, latch=f"env {env}")

    def action(
        self, values: NDArray[np.floating[Any]], *, env: int = 0, episode: int = 0, step: int
    ) -> None:
        """Say what was sent to the robot: ``(A,)`` floats that led to the state ``step``."""
        data = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
        if data.size > MAX_ACTION_VALUES:
            raise ConfigError(f"an action has {data.size} values, at most {MAX_ACTION_VALUES}")
        tag = Tag(env=env, episode=episode, step=step)
        self._outlet.publish(ActionEvent(tag=tag, **_stamps()), [data.tobytes()])

    def score(self, score: Score) -> None:
        """Say what the reward model answered; the score names its transition itself."""
        self._outlet.publish(ScoreEvent(score=score, **_stamps()))

    def end(
        self,
        *,
        env: int = 0,
        episode: int = 0,
        step: int,
        success: bool | None = None,
        reason: str = "",
    ) -> None:
        """Say that an episode is over; ``step`` is that of its last state."""
        tag = Tag(env=env, episode=episode, step=step)
        event = EndEvent(tag=tag, success=success, reason=reason, **_stamps())
        self._outlet.publish(event, latch=f"env {env}", add_to_latch=True)

    def wait_for_consumers(self, count: int, *, timeout_s: float) -> bool:
        """Wait until this many recorders are connected; ``False`` at the time-out."""
        return self._outlet.wait_for_consumers(count, timeout_s=timeout_s)

    def drain(self, *, timeout_s: float) -> bool:
        """Wait until recorders have everything; ``False`` at the time-out."""
        return self._outlet.drain(timeout_s=timeout_s)

    def close(self) -> None:
        """Unbind and free the thread. May be called twice."""
        self._outlet.close()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Happening:
    """An event as it arrived.

    Attributes:
        event: What happened.
        values: ``(A,) float32`` of an action, else ``None``.
        local_wall_ns: When, on this machine's wall clock, nanoseconds since the epoch.
    """

    event: Event
    values: NDArray[np.float32] | None
    local_wall_ns: int


class EventSubscriber(Closing):
    """A recorder's end of an ``EventPublisher``.

    Args:
        address: Endpoint that the learner has bound.
        name: What to call this consumer there.
        keys: Secure the socket.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        keys: Keys | None = None,
    ) -> None:
        self.address = address
        self._inlet = Inlet(
            address, name=name, mode="lossless", window=256, keys=keys, right="report"
        )

    @property
    def connected(self) -> bool:
        """Whether the learner was heard of within the last 1.5 s."""
        return self._inlet.connected

    def stats(self) -> StreamStats:
        """Return counters and the state of the connection."""
        return self._inlet.stats()

    def wait_until_connected(self, *, timeout_s: float) -> None:
        """Wait for the learner's first answer; raises ``PeerUnreachable``."""
        self._inlet.wait_until_connected(timeout_s=timeout_s)

    def receive(self, *, timeout_s: float) -> Happening | None:
        """Return the next event, or ``None`` at the time-out.

        Raises:
            Refusal: It is malformed; ask again.
        """
        item = self._inlet.take(timeout_s=timeout_s)
        if item is None:
            return None
        event, values = _event(item.header, item.parts)
        return Happening(event=event, values=values, local_wall_ns=event.wall_ns - item.offset_ns)

    def close(self) -> None:
        """Disconnect and free the thread. May be called twice."""
        self._inlet.close()


def _event(header: Item, parts: Sequence[Buffer]) -> tuple[Event, NDArray[np.float32] | None]:
    if isinstance(header, ActionEvent):
        size = memoryview(parts[0]).nbytes if len(parts) == 1 else -1
        if size % 4 or not 0 <= size <= 4 * MAX_ACTION_VALUES:
            raise Refusal("BAD_PAYLOAD", "an action must be one part of at most 4096 floats")
        return header, np.frombuffer(parts[0], "<f4").copy()
    if isinstance(header, (ScoreEvent, StartEvent, EndEvent)):
        return header, None
    raise Refusal("BAD_HEADER", "not an event: is this the address of a learner?")


def _stamps() -> dict[str, Any]:
    return {"mono_ns": time.monotonic_ns(), "wall_ns": time.time_ns(), "clock": clock_name()}
