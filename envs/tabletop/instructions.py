"""Sentences for goals: a small grammar with paraphrases.

``WORDINGS`` are the sentences of training; ``HELD_OUT_WORDINGS`` say the same in ways that no
training sentence does, for the ``paraphrase`` split.
"""

from __future__ import annotations

import numpy as np

from .goal import Goal
from .spec import SceneSpec
from .tasks import family_of

WORDINGS: dict[str, tuple[str, ...]] = {
    "reach": (
        "reach the {target}",
        "move the gripper to the {target}",
        "bring the hand to the {target}",
        "go to the {target}",
        "reach for the {target}",
        "move the hand above the {target}",
        "approach the {target}",
        "position the gripper over the {target}",
        "get close to the {target}",
        "head over to the {target}",
        "let the hand come near the {target}",
    ),
    "push": (
        "push the {target} onto the {place}",
        "push the {target} to the {place}",
        "slide the {target} onto the {place}",
        "slide the {target} to the {place}",
        "push the {target} over to the {place}",
        "slide the {target} over onto the {place}",
        "nudge the {target} onto the {place}",
        "move the {target} across the table onto the {place}",
        "keep pushing the {target} until it sits on the {place}",
        "use the gripper to slide the {target} to the {place}",
        "without lifting it, bring the {target} to the {place}",
    ),
    "pick_place": (
        "put the {target} on the {place}",
        "place the {target} on the {place}",
        "pick up the {target} and place it on the {place}",
        "pick up the {target} and put it on the {place}",
        "set the {target} down on the {place}",
        "move the {target} to the {place}",
        "take the {target} and put it onto the {place}",
        "transfer the {target} to the {place}",
        "carry the {target} over to the {place}",
        "leave the {target} on the {place}",
        "grab the {target} and lay it on the {place}",
        "the {target} should end up on the {place}",
        "deliver the {target} to the {place}",
    ),
    "lift": (
        "lift the {target}",
        "lift up the {target}",
        "pick up the {target}",
        "raise the {target}",
        "grasp the {target} and lift it",
        "pick the {target} up off the table",
        "bring the {target} up",
        "elevate the {target}",
        "grab the {target} and raise it",
        "get the {target} off the table",
        "take hold of the {target} and lift it up",
    ),
    "stack": (
        "stack the {target} on the {place}",
        "put the {target} on top of the {place}",
        "stack the {target} on top of the {place}",
        "place the {target} on top of the {place}",
        "pick up the {target} and stack it on the {place}",
        "set the {target} on top of the {place}",
        "balance the {target} on the {place}",
        "build a stack with the {target} on the {place}",
        "lay the {target} onto the {place}",
        "the {target} should rest on top of the {place}",
        "use the {place} as a base for the {target}",
    ),
    "open_drawer": (
        "open the {target}",
        "pull the {target} open",
        "pull open the {target}",
        "slide the {target} open",
        "open up the {target}",
        "pull out the {target}",
        "make the {target} open",
        "leave the {target} open",
        "the {target} should be open",
        "can you open the {target}",
    ),
    "close_drawer": (
        "close the {target}",
        "push the {target} shut",
        "shut the {target}",
        "push the {target} closed",
        "slide the {target} shut",
        "push in the {target}",
        "push the {target} back in",
        "leave the {target} closed",
        "the {target} should be shut",
        "can you close the {target}",
    ),
    "press_button": (
        "press the {target}",
        "push the {target}",
        "push down the {target}",
        "press down on the {target}",
        "hit the {target}",
        "push the {target} down",
        "trigger the {target}",
        "switch on the {target}",
        "give the {target} a press",
        "poke the {target}",
    ),
    "turn_lever": (
        "turn the {target} to the {place}",
        "flip the {target} to the {place}",
        "push the {target} to the {place}",
        "swing the {target} to the {place}",
        "move the {target} over to the {place}",
        "rotate the {target} to the {place}",
        "tilt the {target} to the {place}",
        "set the {target} to the {place}",
        "the {target} should be on the {place}",
        "pull the {target} over to the {place}",
    ),
}

HELD_OUT_WORDINGS: dict[str, tuple[str, ...]] = {
    "reach": ("hover over the {target}", "please get your hand to the {target}"),
    "push": (
        "shove the {target} until it is on the {place}",
        "get the {target} to the {place} by pushing it",
    ),
    "pick_place": ("drop the {target} off on the {place}", "the {target} belongs on the {place}"),
    "lift": ("hold the {target} in the air", "hoist the {target} up"),
    "stack": (
        "make a tower with the {target} above the {place}",
        "the {target} goes on top of the {place}",
    ),
    "open_drawer": ("get the {target} open", "please draw out the {target}"),
    "close_drawer": ("make sure the {target} is closed", "get the {target} shut"),
    "press_button": ("activate the {target}", "tap the {target} until it lights up"),
    "turn_lever": ("throw the {target} to the {place}", "the {target} should point to the {place}"),
}

SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "cube": ("cube", "block", "box"),
    "ball": ("ball", "sphere"),
    "cylinder": ("cylinder", "can"),
}
ANY_SHAPE = ("one", "object", "thing")
PAD_WORDS = ("pad", "mat", "square")
PART_WORDS: dict[str, tuple[str, ...]] = {
    "drawer": ("drawer with the {colour} handle", "{colour} drawer"),
    "button": ("{colour} button",),
    "lever": ("{colour} lever", "lever with the {colour} knob"),
}


def instruct(
    goal: Goal,
    spec: SceneSpec,
    *,
    rng: np.random.Generator | None = None,
    held_out: bool = False,
    partial: float = 0.0,
) -> str:
    """Say a goal in a sentence.

    Args:
        goal: What is to be done.
        spec: The scene that it is about.
        rng: Chooses the wording; without one the first, plainest wording is used.
        held_out: Whether to use the wordings kept out of training.
        partial: How often an object is named by its colour or its shape alone, where that tells it
            from the others; needs ``rng``.
    """
    wordings = (HELD_OUT_WORDINGS if held_out else WORDINGS)[goal.family]
    target = _target(goal, spec, rng, partial)
    return _pick(wordings, rng).format(target=target, place=_place(goal, spec, rng, partial))


def every_wording(goal: Goal, spec: SceneSpec, *, held_out: bool = False) -> list[str]:
    """Return the goal in each wording, with the plainest nouns."""
    wordings = (HELD_OUT_WORDINGS if held_out else WORDINGS)[goal.family]
    target, place = _target(goal, spec, None), _place(goal, spec, None)
    return [wording.format(target=target, place=place) for wording in wordings]


def names_something_here(goal: Goal, of: SceneSpec, here: SceneSpec) -> bool:
    """Whether what a goal of one scene acts on also exists in another one."""
    fixture = family_of(goal.family).fixture
    if fixture != "none":
        return here.fixture.kind == fixture and (
            of.fixture.colours[goal.target] in here.fixture.colours
        )
    item = of.objects[goal.target]
    return any((o.shape, o.colour) == (item.shape, item.colour) for o in here.objects)


def _target(
    goal: Goal, spec: SceneSpec, rng: np.random.Generator | None, partial: float = 0.0
) -> str:
    fixture = family_of(goal.family).fixture
    if fixture == "none":
        return _object(spec, goal.target, rng, partial)
    return _pick(PART_WORDS[fixture], rng).format(colour=spec.fixture.colours[goal.target])


def _place(
    goal: Goal, spec: SceneSpec, rng: np.random.Generator | None, partial: float = 0.0
) -> str:
    if goal.family in ("push", "pick_place"):
        return f"{spec.pads[goal.place].colour} {_pick(PAD_WORDS, rng)}"
    if goal.family == "stack":
        return _object(spec, goal.place, rng, partial)
    if goal.family == "turn_lever":
        return ("left", "right")[goal.place]
    return ""


def _object(spec: SceneSpec, index: int, rng: np.random.Generator | None, partial: float) -> str:
    item = spec.objects[index]
    if rng is not None and partial and rng.random() < partial:
        others = [one for place, one in enumerate(spec.objects) if place != index]
        names: tuple[str, ...] = ()
        if all(one.colour != item.colour for one in others):
            names += tuple(f"{item.colour} {word}" for word in ANY_SHAPE)
        if all(one.shape != item.shape for one in others):
            names += SHAPE_WORDS[item.shape]
        if names:
            return _pick(names, rng)
    return f"{item.colour} {_pick(SHAPE_WORDS[item.shape], rng)}"


def _pick(choices: tuple[str, ...], rng: np.random.Generator | None) -> str:
    return choices[0] if rng is None else choices[int(rng.integers(len(choices)))]
