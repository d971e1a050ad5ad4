"""The task families, by name; one file each."""

from __future__ import annotations

from robo_reward.errors import ConfigError, did_you_mean

from ..goal import Family, Goal
from ..spec import SceneSpec
from .button import PressButton
from .drawer import CloseDrawer, OpenDrawer
from .lever import TurnLever
from .lift import Lift
from .pick_place import PickPlace
from .push import Push
from .reach import Reach
from .stack import Stack

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Reach(),
        Push(),
        PickPlace(),
        Lift(),
        Stack(),
        OpenDrawer(),
        CloseDrawer(),
        PressButton(),
        TurnLever(),
    )
}


def family_of(name: str) -> Family:
    """Return a family by name; raises ``ConfigError`` with what there is."""
    if name not in FAMILIES:
        raise ConfigError(f"no task family {name!r}; {did_you_mean(name, FAMILIES)}")
    return FAMILIES[name]


def all_goals(spec: SceneSpec) -> list[Goal]:
    """Every goal of every family that this scene allows."""
    return [
        goal
        for family in FAMILIES.values()
        if family.fixture in ("none", spec.fixture.kind)
        for goal in family.goals(spec)
    ]
