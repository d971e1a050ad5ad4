"""What the wrappers know of an episode: instants, steps that wait for a score, final rewards."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from robo_reward.frames import Frame
from robo_reward.history import History
from robo_reward.query import Mark, Query
from robo_reward.shaping import DoneGate, EpisodeShaping, RewardTerms
from robo_reward.signals import Score
from robo_reward.task import Task

from .score_desk import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was there to be seen at the end of a step, or after a reset.

    Attributes:
        frames: Newest frame of each camera; empty in stream mode and where nothing is asked.
        wall_ns: Wall-clock time of the instant, nanoseconds.
        asked: Whether the model is asked about this instant.
        vetoed: Whether proprioception says that the task cannot be done now.
    """

    frames: tuple[Frame, ...] = ()
    wall_ns: int = 0
    asked: bool = True
    vetoed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What the environment said of a step.

    Attributes:
        action: What was done; passed on to listeners.
        reward: The environment's own reward.
        terminated: The environment's own word.
        truncated: The environment's own word.
        declared: Whether a person said that the task is done.
    """

    action: Any = None
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    declared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRecord:
    """The last word on one transition: no other record names it.

    Attributes:
        env: Index of the environment.
        episode: Number of the episode.
        step: Number of the transition, from 1.
        reward: The reward; NaN where none will ever come, and the transition must be dropped.
        status: ``ok``, a ``Status`` value, or ``cancelled`` for a transition after the done.
        terminated: Whether this transition reached a true terminal.
        terms: The reward taken apart; ``None`` where there is none.
        score: The score that was used; ``None`` between queries.
    """

    env: int
    episode: int
    step: int
    reward: float = math.nan
    status: str = "ok"
    terminated: bool = False
    terms: RewardTerms | None = None
    score: Score | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """(env, episode, step)."""
        return (self.env, self.episode, self.step)

    @property
    def known(self) -> bool:
        """Whether there is a reward to learn from."""
        return not math.isnan(self.reward)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSummary:
    """An episode of which every reward is known.

    Attributes:
        env: Index of the environment.
        episode: Number of the episode.
        total: Sum of the rewards that are known.
        length: Steps up to the end, without those after a late done.
        missing: Steps without a reward among them.
        end: ``done:<owner>``, ``env_terminated``, ``truncated`` or ``abandoned``.
    """

    env: int
    episode: int
    total: float
    length: int
    missing: int
    end: str


@dataclass(slots=True, eq=False, kw_only=True)
class Episode:
    """Mutable state of one episode of one environment."""

    env: int
    number: int
    task: Task
    shaping: EpisodeShaping
    gate: DoneGate
    step: int = 0
    since: int = 0
    reference: tuple[Frame, ...] = ()
    reference_ns: int = 0
    reference_step: int = 0
    history: History = field(default_factory=lambda: History(0))
    over: bool = False
    end: str = ""
    lost: str = "cancelled"
    total: float = 0.0
    length: int = 0
    missing: int = 0
    open: list[Entry] = field(default_factory=list)

    def summary(self) -> EpisodeSummary:
        """Return what is left of it."""
        return EpisodeSummary(
            env=self.env,
            episode=self.number,
            total=self.total,
            length=self.length,
            missing=self.missing,
            end=self.end,
        )


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """One thing that waits its turn in the queue of an environment.

    Attributes:
        episode: Where it belongs.
        kind: ``base``: score of a state that transitions start from; ``step``: a transition;
            ``stop``: the episode was given up.
        step: Number of the transition.
        span: Steps since the previous query.
        query: The question; ``None`` between queries.
        vetoed: See ``Moment``.
        facts: See ``StepFacts``.
        last: Whether the episode ends here by the environment's or a person's word.
        batch: Where the question was submitted.
        place: Index of the question in the batch.
    """

    episode: Episode
    kind: Literal["base", "step", "stop"]
    step: int
    span: int = 1
    query: Query | Mark | None = None
    vetoed: bool = False
    facts: StepFacts = field(default_factory=StepFacts)
    last: bool = False
    batch: Batch | None = None
    place: int = 0
