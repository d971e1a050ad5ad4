"""A query: which transition is asked about, with which frames, for which task."""

from __future__ import annotations

from dataclasses import dataclass

from robo_reward.frames import Frame
from robo_reward.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question to a reward model; the frames ride along (request mode).

    Attributes:
        task: What the robot should do.
        newest: Newest frame of each camera, the same camera order in every query of an episode.
        reference: The frames that delta and contrastive refer to, one per camera. Empty means
            that there is none (the frame of the reset): both signals are then relative to the
            newest frame itself, hence 0.
        history: Earlier instants of the episode for a model that looks back, oldest first, one
            frame per camera each; none later than the reference. See ``history.History``.
        env: Index of the environment within the client.
        episode: Number of the episode.
        step: Number of the transition; 0 is the frame of the reset.
    """

    task: Task
    newest: tuple[Frame, ...]
    reference: tuple[Frame, ...] = ()
    history: tuple[tuple[Frame, ...], ...] = ()
    env: int = 0
    episode: int = 0
    step: int = 0

    @property
    def past(self) -> tuple[Frame, ...]:
        """The frames of the history, instant by instant."""
        return tuple(frame for views in self.history for frame in views)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Every frame of the question: newest, reference, then history instant by instant."""
        return (*self.newest, *self.reference, *self.past)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One question by time (stream mode): camera nodes push the frames, the node joins them.

    The node takes, per camera, the first frame captured at or after ``t_to_ns``; the reference is
    the same rule at ``t_from_ns``.

    Attributes:
        task: What the robot should do.
        cameras: Names of the cameras to use, in order.
        t_from_ns: Wall-clock end of the previous scored step, nanoseconds; 0 for the first.
        t_to_ns: Wall-clock end of this step, nanoseconds.
        max_age_s: How much later than ``t_to_ns`` the frame may have been captured, seconds.
        env: Index of the environment within the client.
        episode: Number of the episode.
        step: Number of the transition; 0 is the state after the reset.
    """

    task: Task
    cameras: tuple[str, ...]
    t_from_ns: int
    t_to_ns: int
    max_age_s: float = 0.2
    env: int = 0
    episode: int = 0
    step: int = 0
