"""What an episode of the suite can show: an expert, a slow one, or one of the scripted failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, did_you_mean

from ..tabletop.facts import Facts
from ..tabletop.goal import Goal
from ..tabletop.scene import rest_height
from ..tabletop.spec import SceneSpec
from ..tabletop.tasks import all_goals, family_of
from .expert import PlanFollower
from .plan import OPEN, Aim, Leg, carry_plan, plan_for

Action = NDArray[np.float32]

SLOPPY = {"pick_place": 0.034, "push": 0.012}
"""How far from the middle of the pad an expert may put things and still succeed, metres."""
MISS = (0.046, 0.10)
"""How far beside a near miss is, metres: from just outside of what counts."""


class Behaviour(Protocol):
    """Acts on the facts of the moment."""

    @property
    def finished(self) -> bool:
        """Whether it has nothing left to do."""
        ...

    def act(self, facts: Facts) -> Action:
        """Return the next action, ``(4,)`` in [-1, 1]."""
        ...


@dataclass(slots=True)
class Halfway:
    """Follows another behaviour until a share of the task is done, then stands still."""

    inner: PlanFollower
    spec: SceneSpec
    goal: Goal
    share: float
    stopped: bool = False

    @property
    def finished(self) -> bool:
        """Never: it stands there until the episode ends."""
        return False

    def act(self, facts: Facts) -> Action:
        """Follow, then hold the gripper as it was."""
        progress = family_of(self.goal.family).progress(facts, self.spec, self.goal)
        self.stopped = self.stopped or progress >= self.share
        action = self.inner.act(facts)
        if self.stopped:
            action[:3] = 0.0
        return action


@dataclass(slots=True)
class Random:
    """Smooth random motion: an autoregressive walk over actions."""

    rng: np.random.Generator
    action: NDArray[np.float64]

    @property
    def finished(self) -> bool:
        """Never."""
        return False

    def act(self, facts: Facts) -> Action:
        """Drift; the gripper opens and closes now and then."""
        self.action = 0.8 * self.action + self.rng.normal(0.0, 0.45, 4)
        # Without a pull downwards a walk stays in the air, where nothing can happen.
        self.action[2] += 0.15 * (0.06 - float(facts.grip[2])) / 0.06
        return np.clip(self.action, -1.0, 1.0).astype(np.float32)


@dataclass(slots=True)
class Idle:
    """Does nothing, or next to nothing."""

    rng: np.random.Generator

    @property
    def finished(self) -> bool:
        """Never."""
        return False

    def act(self, facts: Facts) -> Action:
        """Tremble."""
        return np.append(self.rng.normal(0.0, 0.05, 3), OPEN).astype(np.float32)


def behaviour(
    kind: str, spec: SceneSpec, goal: Goal, *, rng: np.random.Generator
) -> tuple[Behaviour, Goal]:
    """Make a behaviour.

    Args:
        kind: One of ``KINDS``.
        spec: The scene.
        goal: What the instruction asks for.
        rng: Source of randomness.

    Returns:
        The behaviour, and the goal that it really pursues (another one for ``wrong_object``).
    """
    if kind not in KINDS:
        raise ConfigError(f"no behaviour {kind!r}; {did_you_mean(kind, KINDS)}")
    return KINDS[kind](spec, goal, rng)


def _expert(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    noise = float(rng.uniform(0.0, 0.12))
    off = (0.0, 0.0, 0.0)
    if goal.family in SLOPPY:
        # Never only in the middle: a model that saw nothing between the middle and a clear miss
        # takes all of it for success, and a policy finds that.
        off = _beside(rng, 0.0, SLOPPY[goal.family])
    aim = Aim(spec=spec, goal=goal, end_error=off)
    return PlanFollower(plan_for(aim), rng=rng, noise=noise), goal


def _suboptimal(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    """Slow, shaky and by a detour, but it gets there."""
    way = np.array([rng.uniform(0.28, 0.48), rng.uniform(-0.18, 0.18), rng.uniform(0.14, 0.22)])
    legs = [Leg(lambda facts: way, OPEN, 0.03), *plan_for(Aim(spec=spec, goal=goal))]
    pace = float(rng.uniform(0.55, 0.8))
    return PlanFollower(legs, rng=rng, noise=0.15, pace=pace), goal


def _wrong_object(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    """An expert at something else that the scene allows."""
    others = [
        other
        for other in all_goals(spec)
        if other.family not in ("reach",)
        and (other.target, other.place) != (goal.target, goal.place)
    ]
    if not others:
        return _near_miss(spec, goal, rng)
    alike = [other for other in others if other.family == goal.family]
    pool = alike if alike and rng.random() < 0.7 else others
    chosen = pool[int(rng.integers(len(pool)))]
    return PlanFollower(plan_for(Aim(spec=spec, goal=chosen)), rng=rng, noise=0.05), chosen


def _halfway(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    inner = PlanFollower(plan_for(Aim(spec=spec, goal=goal)), rng=rng, noise=0.05)
    return Halfway(inner, spec, goal, float(rng.uniform(0.2, 0.9))), goal


def _near_miss(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    """Does everything a few centimetres beside where it should be."""
    beside = _beside(rng, *MISS)
    at_end = goal.family in ("pick_place", "stack", "push", "reach")
    aim = Aim(
        spec=spec,
        goal=goal,
        start_error=(0.0, 0.0, 0.0) if at_end else beside,
        end_error=beside if at_end else (0.0, 0.0, 0.0),
    )
    return PlanFollower(plan_for(aim), rng=rng, noise=0.05), goal


def _beside(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    """Return an offset along the table of a length in [low, high] metres, in any direction."""
    angle, size = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(low, high))
    return (size * np.cos(angle), size * np.sin(angle), 0.0)


def _undo(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    """Does the task and then takes it back."""
    legs = plan_for(Aim(spec=spec, goal=goal))
    return PlanFollower([*legs, *_reverse(spec, goal)], rng=rng, noise=0.05), goal


def _reverse(spec: SceneSpec, goal: Goal) -> list[Leg]:
    """How to take back what a plan for the goal has done."""
    if goal.family in ("pick_place", "stack", "push", "lift"):
        item = spec.objects[goal.target]
        start = np.array([item.position[0], item.position[1], rest_height(item.shape)])
        return carry_plan(Aim(spec=spec, goal=goal), lambda facts: start)
    opposite = {"open_drawer": "close_drawer", "close_drawer": "open_drawer"}
    if goal.family in opposite:
        back = Goal(family=opposite[goal.family], target=goal.target)
        return plan_for(Aim(spec=spec, goal=back))
    if goal.family == "turn_lever":
        back = Goal(family="turn_lever", target=goal.target, place=1 - goal.place)
        return plan_for(Aim(spec=spec, goal=back))
    home = np.array(spec.grip)
    return [Leg(lambda facts: home, OPEN, 0.02)]


def _idle(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    return Idle(rng), goal


def _random(spec: SceneSpec, goal: Goal, rng: np.random.Generator) -> tuple[Behaviour, Goal]:
    return Random(rng, rng.normal(0.0, 0.5, 4)), goal


KINDS: dict[str, Callable[[SceneSpec, Goal, np.random.Generator], tuple[Behaviour, Goal]]] = {
    "expert": _expert,
    "suboptimal": _suboptimal,
    "wrong_object": _wrong_object,
    "halfway": _halfway,
    "near_miss": _near_miss,
    "undo": _undo,
    "idle": _idle,
    "random": _random,
}
"""Name → how to make it. A button stays pressed, so that undoing it only moves the hand away."""
