"""Gymnasium-Robotics Fetch: which tasks, and what each is called in words.

``FetchSlide`` is left out: its puck is hit once and slides out of reach, which takes more than a
script.
"""

from __future__ import annotations

from .wording import Wording

TASKS: dict[str, Wording] = {
    "fetch-reach": Wording(
        said=(
            "move the gripper to the red ball",
            "bring the hand to the red dot",
            "reach the red point",
        ),
        held_out=("put the gripper where the red ball is", "touch the red marker"),
        about=(),
    ),
    "fetch-push": Wording(
        said=(
            "push the black cube to the red ball",
            "slide the block onto the red dot",
            "move the cube across the table to the red marker",
        ),
        held_out=("shove the black block to the red point", "get the cube to the dot by pushing"),
        about=("cube",),
    ),
    "fetch-pick-place": Wording(
        said=(
            "pick up the black cube and bring it to the red ball",
            "grasp the block and hold it at the red dot",
            "carry the cube to the red marker",
        ),
        held_out=("take the black block to the red point", "hold the cube where the dot is"),
        about=("cube",),
    ),
}
"""Task → its sentences."""

ELSEWHERE: tuple[str, ...] = (
    "open the drawer",
    "press the button",
    "turn the lever to the other side",
    "put the green cylinder on the blue pad",
    "close the door",
    "stack the yellow cube on the red one",
)
"""Sentences about what none of the scenes holds."""
