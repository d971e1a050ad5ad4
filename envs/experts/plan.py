"""Plans: what a scripted arm does for a goal, as legs that each end when a point is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError

from ..tabletop.facts import Facts
from ..tabletop.goal import Goal, pad_point, vector
from ..tabletop.scene import rest_height
from ..tabletop.spec import SceneSpec
from ..tabletop.tasks.lever import SIDES

Point = NDArray[np.float64]
Target = Callable[[Facts], Point]

OPEN, CLOSED = -1.0, 1.0
HALF_OPEN = -0.05
"""Wide enough for a handle, narrow enough for the gap behind it."""
CARRY_HEIGHT = 0.125
HOVER = 0.10
PUSH_HEIGHT = 0.024
PUSH_MARGIN = 0.032
"""Largest offset along x or y at which a pushed object is left alone, metres."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of a plan.

    Attributes:
        target: Where the tool point should go, from the facts of the moment.
        gripper: Gripper command during the leg.
        tolerance: Distance that counts as there, metres.
        dwell: Steps to stay once there.
        patience: Steps after which the leg ends anyway.
        speed: Largest step, as a share of the arm's.
    """

    target: Target
    gripper: float
    tolerance: float = 0.012
    dwell: int = 0
    patience: int = 18
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a plan is for, and how far beside it the arm aims (zero for an expert).

    Attributes:
        spec: The scene.
        goal: The goal.
        start_error: Added to where the arm acts, ``(3,)`` metres.
        end_error: Added to where it brings things, ``(3,)`` metres.
    """

    spec: SceneSpec
    goal: Goal
    start_error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    end_error: tuple[float, float, float] = (0.0, 0.0, 0.0)


def plan_for(aim: Aim) -> list[Leg]:
    """Return the legs for a goal."""
    family = aim.goal.family
    if family not in _PLANS:
        raise ConfigError(f"no plan for {family!r}")
    return _PLANS[family](aim)


def carry_plan(aim: Aim, place: Target) -> list[Leg]:
    """Grasp an object, carry it to a place and let go; also how work is undone."""
    grasp = _object(aim)

    def over(facts: Facts) -> Point:
        return _with_height(servo(facts), CARRY_HEIGHT + 0.03)

    def down(facts: Facts) -> Point:
        return servo(facts) + vector(0.0, 0.0, 0.004)

    def servo(facts: Facts) -> Point:
        # The object, not the tool point, has to arrive: it may sit askew between the fingers.
        return facts.grip + place(facts) + vector(*aim.end_error) - facts.object_at(aim.goal.target)

    def away(facts: Facts) -> Point:
        return _with_height(facts.grip, 0.15)

    return [
        *_grasp(aim, grasp),
        Leg(lambda facts: _with_height(facts.grip, CARRY_HEIGHT), CLOSED, 0.03),
        Leg(over, CLOSED, 0.009),
        Leg(down, CLOSED, 0.006, speed=0.5),
        Leg(lambda facts: facts.grip, OPEN, 0.05, dwell=2),
        Leg(away, OPEN, 0.04, patience=5, speed=0.7),
    ]


def _grasp(aim: Aim, point: Target) -> list[Leg]:
    def above(facts: Facts) -> Point:
        return point(facts) + vector(0.0, 0.0, HOVER)

    return [
        Leg(above, OPEN, 0.018),
        Leg(point, OPEN, 0.009, speed=0.8),
        Leg(point, CLOSED, 0.05, dwell=3),
    ]


def _object(aim: Aim) -> Target:
    """Where to grasp: frozen once the gripper is near, for a grasp moves what it touches."""
    index = aim.goal.target

    def point(facts: Facts) -> Point:
        return facts.object_at(index) + vector(*aim.start_error)

    return point


def _with_height(point: Point, height: float) -> Point:
    return vector(point[0], point[1], height)


def _reach(aim: Aim) -> list[Leg]:
    def above(facts: Facts) -> Point:
        return facts.object_at(aim.goal.target) + vector(0.0, 0.0, 0.035) + vector(*aim.end_error)

    return [Leg(above, OPEN, 0.012, dwell=1)]


def _lift(aim: Aim) -> list[Leg]:
    return [
        *_grasp(aim, _object(aim)),
        Leg(lambda facts: _with_height(facts.grip, 0.16), CLOSED, 0.02, dwell=3, speed=0.8),
    ]


def _pick_place(aim: Aim) -> list[Leg]:
    rest = rest_height(aim.spec.objects[aim.goal.target].shape)
    pad = pad_point(aim.spec, aim.goal.place)
    return carry_plan(aim, lambda facts: pad + vector(0.0, 0.0, rest))


def _stack(aim: Aim) -> list[Leg]:
    upper = rest_height(aim.spec.objects[aim.goal.target].shape)
    lower = rest_height(aim.spec.objects[aim.goal.place].shape)
    return carry_plan(
        aim, lambda facts: facts.object_at(aim.goal.place) + vector(0.0, 0.0, upper + lower)
    )


def _push(aim: Aim) -> list[Leg]:
    index = aim.goal.target
    pad = pad_point(aim.spec, aim.goal.place) + vector(*aim.end_error)

    def heading(facts: Facts) -> Point:
        way = (pad - facts.object_at(index))[:2]
        return np.append(way / max(float(np.linalg.norm(way)), 1e-6), 0.0)

    def behind(facts: Facts) -> Point:
        point = facts.object_at(index) - 0.068 * heading(facts) + vector(*aim.start_error)
        return _with_height(point, PUSH_HEIGHT)

    def slide(facts: Facts) -> Point:
        ahead = heading(facts)
        item = facts.object_at(index)
        side = (facts.grip - item) - ((facts.grip - item) @ ahead) * ahead
        # Contact is kept behind the object; a sideways error is undone while pushing on.
        remaining = float(np.linalg.norm((pad - item)[:2]))
        return _with_height(
            facts.grip - 1.2 * side + min(0.6 * remaining, 0.03) * ahead, PUSH_HEIGHT
        )

    def arrived(facts: Facts) -> Point:
        return facts.grip if short(facts) < PUSH_MARGIN else slide(facts)

    def short(facts: Facts) -> float:
        return float(np.abs((pad - facts.object_at(index))[:2]).max())

    def again(point: Target) -> Target:
        return lambda facts: point(facts) if short(facts) > PUSH_MARGIN else facts.grip

    # A push that slid off is tried once more from behind.
    return [
        Leg(lambda facts: _with_height(behind(facts), 0.11), CLOSED, 0.02),
        Leg(behind, CLOSED, 0.010, speed=0.7),
        Leg(arrived, CLOSED, 0.004, patience=24, speed=0.4),
        Leg(lambda facts: _with_height(facts.grip, 0.10), CLOSED, 0.02, patience=5),
        Leg(again(lambda facts: _with_height(behind(facts), 0.11)), CLOSED, 0.02),
        Leg(again(behind), CLOSED, 0.012),
        Leg(again(slide), CLOSED, 0.004, patience=16, speed=0.4),
    ]


def _open_drawer(aim: Aim) -> list[Leg]:
    index = aim.goal.target

    def handle(facts: Facts) -> Point:
        return facts.part_at(index) + vector(*aim.start_error)

    def out(facts: Facts) -> Point:
        left = max(0.115 - float(facts.joints[index]), 0.0)
        return facts.grip + vector(0.0, -min(left, 0.03), 0.0) + vector(*aim.end_error)

    return [
        Leg(lambda facts: handle(facts) + vector(0.0, 0.0, HOVER), HALF_OPEN, 0.012),
        Leg(lambda facts: handle(facts) + vector(0.0, 0.0, -0.008), HALF_OPEN, 0.012, speed=0.8),
        Leg(lambda facts: handle(facts) + vector(0.0, 0.0, -0.008), CLOSED, 0.05, dwell=2),
        Leg(out, CLOSED, 0.004, patience=16, dwell=1),
        Leg(lambda facts: facts.grip, OPEN, 0.05, dwell=2),
    ]


def _close_drawer(aim: Aim) -> list[Leg]:
    index = aim.goal.target

    def before(facts: Facts) -> Point:
        return facts.part_at(index) + vector(0.0, -0.045, 0.0) + vector(*aim.start_error)

    def shut(facts: Facts) -> Point:
        left = max(float(facts.joints[index]), 0.0)
        return vector(before(facts)[0], facts.grip[1] + min(left + 0.004, 0.03), before(facts)[2])

    return [
        Leg(lambda facts: before(facts) + vector(0.0, 0.0, HOVER), CLOSED, 0.015),
        Leg(before, CLOSED, 0.012),
        Leg(shut, CLOSED, 0.005, patience=18),
        Leg(lambda facts: facts.grip - vector(0.0, 0.02, 0.0), CLOSED, 0.02, patience=3),
    ]


def _press_button(aim: Aim) -> list[Leg]:
    index = aim.goal.target

    def above(facts: Facts) -> Point:
        return facts.part_at(index) + vector(0.0, 0.0, 0.06) + vector(*aim.start_error)

    def press(facts: Facts) -> Point:
        deeper = 0.0 if facts.lit[index] else 0.025
        return _with_height(above(facts), float(facts.grip[2]) - deeper)

    return [
        Leg(above, CLOSED, 0.012),
        Leg(press, CLOSED, 0.006, patience=8, dwell=1, speed=0.6),
        Leg(lambda facts: above(facts) + vector(0.0, 0.0, 0.03), CLOSED, 0.03, patience=4),
    ]


def _turn_lever(aim: Aim) -> list[Leg]:
    index = aim.goal.target
    side = SIDES[aim.goal.place]

    def beside(facts: Facts) -> Point:
        return facts.part_at(index) + vector(0.0, -side * 0.055, -0.022) + vector(*aim.start_error)

    def sweep(facts: Facts) -> Point:
        left = max(0.66 - float(facts.joints[index]) * side, 0.0)
        height = 0.095 - 0.03 * abs(float(facts.joints[index]))
        step = [0.0, side * min(left * 0.11 + 0.005, 0.035), 0.0]
        point = facts.grip + step if left > 0.03 else facts.grip
        return _with_height(point + vector(*aim.end_error), height)

    return [
        Leg(lambda facts: _with_height(beside(facts), 0.19), CLOSED, 0.02),
        Leg(beside, CLOSED, 0.014),
        Leg(sweep, CLOSED, 0.006, patience=16),
        Leg(lambda facts: facts.grip - vector(0.0, side * 0.02, 0.0), CLOSED, 0.02, patience=3),
    ]


_PLANS: dict[str, Callable[[Aim], list[Leg]]] = {
    "reach": _reach,
    "push": _push,
    "pick_place": _pick_place,
    "lift": _lift,
    "stack": _stack,
    "open_drawer": _open_drawer,
    "close_drawer": _close_drawer,
    "press_button": _press_button,
    "turn_lever": _turn_lever,
}
