"""Experts and failures in a simulator that has a scripted policy: what an episode can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, did_you_mean

Vector = NDArray[np.float64]
Policy = Callable[[Vector], Vector]
"""From an observation to an action ``(4,)`` in [-1, 1]: three of motion, one of the gripper."""

LINGER = 40
"""Steps for which an actor that gave up stands there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A state of the simulator.

    Attributes:
        observation: What its policies act on.
        progress: True stage-wise progress, [0, 1].
        done: Its own check of success.
    """

    observation: Vector
    progress: float
    done: bool


class World(Protocol):
    """A simulator in which one episode is played."""

    stride: int
    """Steps between two frames."""
    limit: int
    """Steps after which an episode ends."""

    def begin(self) -> Moment:
        """Return the first state."""
        ...

    def step(self, action: Vector) -> Moment:
        """Act once."""
        ...

    def image(self) -> NDArray[np.uint8]:
        """Return what the camera sees, ``(S, S, 3) uint8 RGB``."""
        ...

    def expert(self) -> Policy:
        """Return the scripted policy of the task."""
        ...

    def other_expert(self, rng: np.random.Generator) -> Policy:
        """Return the scripted policy of a task that this one is not."""
        ...

    def misread(self, observation: Vector, offset: Vector) -> Vector:
        """Return the observation with what the policy aims at moved by ``(3,)`` metres."""
        ...

    def close(self) -> None:
        """Free the simulator."""
        ...


class Actor(Protocol):
    """Acts on the state of the moment."""

    @property
    def finished(self) -> bool:
        """Whether it has nothing left to do."""
        ...

    def act(self, now: Moment) -> Vector:
        """Return the next action."""
        ...


@dataclass(slots=True, kw_only=True)
class Follower:
    """Follows a policy, with noise, at a pace, after a detour, or until it gives up.

    Attributes:
        policy: What to follow.
        rng: Source of the noise.
        noise: Standard deviation of what is added to the motion.
        pace: Share of the motion that is made.
        detour: Steps of drift in one direction before it begins.
        until: Progress at which it stands still for good.
    """

    policy: Policy
    rng: np.random.Generator
    noise: float = 0.0
    pace: float = 1.0
    detour: int = 0
    until: float = np.inf
    _drift: Vector = field(default_factory=lambda: np.zeros(3))
    _idle: int = 0

    @property
    def finished(self) -> bool:
        """Whether it gave up some time ago."""
        return self._idle > LINGER

    def act(self, now: Moment) -> Vector:
        """Return the policy's action, disturbed."""
        action = np.clip(np.asarray(self.policy(now.observation), np.float64), -1.0, 1.0)
        if self._idle or now.progress >= self.until:
            self._idle += 1
            return np.append(np.zeros(3), action[3])
        if self.detour:
            self.detour -= 1
            if not self._drift.any():
                self._drift = self.rng.uniform([-0.8, -0.8, 0.0], 0.8)
            return np.append(self._drift, -1.0)
        action[:3] = self.pace * action[:3] + self.rng.normal(0.0, self.noise, 3)
        return np.clip(action, -1.0, 1.0)


@dataclass(slots=True)
class Wanderer:
    """An autoregressive walk over actions; with a small size it hardly moves."""

    rng: np.random.Generator
    size: float
    last: Vector = field(default_factory=lambda: np.zeros(4))

    @property
    def finished(self) -> bool:
        """Never."""
        return False

    def act(self, now: Moment) -> Vector:
        """Drift."""
        self.last = 0.8 * self.last + self.rng.normal(0.0, self.size, 4)
        return np.clip(self.last, -1.0, 1.0)


def actor(kind: str, world: World, *, rng: np.random.Generator) -> Actor:
    """Make an actor.

    Args:
        kind: A key of ``KINDS``.
        world: Where it acts; its policies are used.
        rng: Source of randomness.
    """
    if kind not in KINDS:
        raise ConfigError(f"no behaviour {kind!r}; {did_you_mean(kind, KINDS)}")
    return KINDS[kind](world, rng)


def _expert(world: World, rng: np.random.Generator) -> Actor:
    return Follower(policy=world.expert(), rng=rng, noise=float(rng.uniform(0.0, 0.1)))


def _suboptimal(world: World, rng: np.random.Generator) -> Actor:
    """Slow, shaky and by a detour; mostly it gets there."""
    return Follower(
        policy=world.expert(),
        rng=rng,
        noise=0.2,
        pace=float(rng.uniform(0.55, 0.8)),
        detour=int(rng.integers(2, 7)) * world.stride,
    )


def _noisy(world: World, rng: np.random.Generator) -> Actor:
    return Follower(policy=world.expert(), rng=rng, noise=float(rng.uniform(0.8, 1.6)))


def _halfway(world: World, rng: np.random.Generator) -> Actor:
    """Stops before the end, and stands there."""
    until = float(rng.uniform(0.2, 0.8))
    return Follower(policy=world.expert(), rng=rng, noise=0.05, until=until)


def _near_miss(world: World, rng: np.random.Generator) -> Actor:
    """Does everything some centimetres beside where it should be."""
    angle, size = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.08, 0.14))
    offset = size * np.array([np.cos(angle), np.sin(angle), 0.0])
    policy = world.expert()
    return Follower(policy=lambda seen: policy(world.misread(seen, offset)), rng=rng, noise=0.05)


def _wrong_task(world: World, rng: np.random.Generator) -> Actor:
    return Follower(policy=world.other_expert(rng), rng=rng, noise=0.05)


def _idle(world: World, rng: np.random.Generator) -> Actor:
    return Wanderer(rng, 0.02)


def _random(world: World, rng: np.random.Generator) -> Actor:
    return Wanderer(rng, 0.45)


KINDS: dict[str, Callable[[World, np.random.Generator], Actor]] = {
    "expert": _expert,
    "suboptimal": _suboptimal,
    "noisy": _noisy,
    "halfway": _halfway,
    "near_miss": _near_miss,
    "wrong_task": _wrong_task,
    "idle": _idle,
    "random": _random,
}
"""Name → how to make it. A failure may end well by chance: the simulator's check is the label."""

FAILURES = ("halfway", "near_miss", "wrong_task", "noisy", "random", "idle")
ROUND = ("expert", "failure", "suboptimal", "failure", "expert")
"""What the episodes of one task show, in turn; the failures take turns too."""


def kind_in_turn(task: int, turn: int) -> str:
    """Return what episode number ``turn`` of task number ``task`` shows.

    Of five episodes two are an expert's, one is a slow one's, and two are failures, which differ
    from task to task: so that a handful of episodes of each task can already be ranked.
    """
    place = ROUND[turn % len(ROUND)]
    if place != "failure":
        return place
    before = turn // len(ROUND) * ROUND.count("failure")
    before += ROUND[: turn % len(ROUND)].count("failure")
    return FAILURES[(task + before) % len(FAILURES)]
