"""Meta-World: which tasks are trained on, which never, and what each is called in words.

The split is the one that ReWiND publishes (arXiv 2505.10911; ``utils/new_task_v2.json`` of its
code): 20 training tasks, 17 tasks for evaluation only, the other 13 of the 50 unused. The sentences
are our own.
"""

from __future__ import annotations

from .wording import Wording

TRAIN: tuple[str, ...] = (
    "button-press",
    "button-press-topdown-wall",
    "coffee-pull",
    "dial-turn",
    "door-open",
    "door-unlock",
    "drawer-close",
    "faucet-open",
    "handle-press",
    "handle-pull-side",
    "peg-insert-side",
    "pick-place",
    "plate-slide",
    "plate-slide-back-side",
    "push",
    "reach",
    "stick-push",
    "stick-pull",
    "window-open",
    "hand-insert",
)
"""Tasks that a model may be trained on."""

UNSEEN: tuple[str, ...] = (
    "button-press-wall",
    "button-press-topdown",
    "coffee-push",
    "coffee-button",
    "door-close",
    "door-lock",
    "faucet-close",
    "handle-press-side",
    "handle-pull",
    "pick-place-wall",
    "plate-slide-back",
    "plate-slide-side",
    "push-back",
    "reach-wall",
    "soccer",
    "window-close",
    "sweep-into",
)
"""Tasks that nothing is ever trained on, except in an adaptation that says so."""

TASKS: dict[str, Wording] = {
    "button-press": Wording(
        said=("press the button", "push the red button in", "press the button on the box"),
        held_out=("make the gripper push the button all the way in", "hit the red button"),
        about=("button",),
    ),
    "button-press-wall": Wording(
        said=(
            "press the button behind the wall",
            "go around the wall and push the button in",
            "push the red button that is behind the wall",
        ),
        held_out=("reach past the wall and press the button", "hit the button behind the barrier"),
        about=("button",),
    ),
    "button-press-topdown": Wording(
        said=(
            "press the button from above",
            "push the button on top of the box down",
            "press down on the red button",
        ),
        held_out=("lower the gripper onto the button until it goes down", "push the button down"),
        about=("button",),
    ),
    "button-press-topdown-wall": Wording(
        said=(
            "press the button from above, past the wall",
            "go over the wall and push the button down",
            "push down the button that is next to the wall",
        ),
        held_out=("reach over the wall and press the button down", "press the button by the wall"),
        about=("button",),
    ),
    "coffee-pull": Wording(
        said=(
            "pull the mug away from the coffee machine",
            "move the mug from the coffee machine to the target",
            "take the cup back from under the coffee machine",
        ),
        held_out=("drag the cup away from the machine", "bring the coffee mug back to the goal"),
        about=("coffee",),
        undone=("push the mug under the coffee machine",),
    ),
    "coffee-push": Wording(
        said=(
            "push the mug under the coffee machine",
            "move the mug to the coffee machine",
            "slide the cup under the spout of the coffee machine",
        ),
        held_out=("put the cup where the coffee comes out", "bring the mug to the machine"),
        about=("coffee",),
        undone=("pull the mug away from the coffee machine",),
    ),
    "coffee-button": Wording(
        said=(
            "press the button of the coffee machine",
            "push the button on the coffee machine",
            "start the coffee machine with its button",
        ),
        held_out=("switch the coffee machine on", "make the gripper press the coffee button"),
        about=("coffee", "button"),
        undone=("pull the mug away from the coffee machine",),
    ),
    "dial-turn": Wording(
        said=("turn the dial", "rotate the dial", "turn the knob on the table by half a turn"),
        held_out=("swing the dial around", "twist the round dial with the gripper"),
        about=("dial",),
    ),
    "door-open": Wording(
        said=("open the door", "pull the door open by its handle", "swing the safe's door open"),
        held_out=("make the door stand open", "draw the door open with the gripper"),
        about=("door",),
        undone=("close the door", "push the door shut"),
    ),
    "door-close": Wording(
        said=("close the door", "push the door shut", "swing the safe's door closed"),
        held_out=("make the door stand closed", "shut the open door"),
        about=("door",),
        undone=("open the door", "pull the door open by its handle"),
    ),
    "door-lock": Wording(
        said=("lock the door", "turn the lock of the door down", "rotate the lock to close it"),
        held_out=("make sure that the door is locked", "swing the door's lock shut"),
        about=("lock", "door"),
        undone=("unlock the door",),
    ),
    "door-unlock": Wording(
        said=(
            "unlock the door",
            "turn the lock of the door up",
            "rotate the lock to free the door",
        ),
        held_out=("undo the lock on the door", "swing the door's lock open"),
        about=("lock", "door"),
        undone=("lock the door",),
    ),
    "drawer-close": Wording(
        said=("close the drawer", "push the drawer shut", "slide the drawer in"),
        held_out=("shut the drawer", "push the open drawer all the way in"),
        about=("drawer",),
        undone=("open the drawer", "pull the drawer out"),
    ),
    "faucet-open": Wording(
        said=("open the faucet", "turn the faucet on", "rotate the tap's handle to open it"),
        held_out=("let the water run", "swing the handle of the tap to on"),
        about=("faucet",),
        undone=("close the faucet", "turn the faucet off"),
    ),
    "faucet-close": Wording(
        said=("close the faucet", "turn the faucet off", "rotate the tap's handle to close it"),
        held_out=("stop the water", "swing the handle of the tap to off"),
        about=("faucet",),
        undone=("open the faucet", "turn the faucet on"),
    ),
    "handle-press": Wording(
        said=("press the handle down", "push the handle down", "push down on the lever"),
        held_out=("lower the handle with the gripper", "bring the lever all the way down"),
        about=("handle",),
        undone=("pull the handle up",),
    ),
    "handle-press-side": Wording(
        said=(
            "press the handle at the side down",
            "push the sideways handle down",
            "push down on the lever at the side",
        ),
        held_out=("lower the handle from the side", "bring the side lever all the way down"),
        about=("handle",),
        undone=("pull the sideways handle up",),
    ),
    "handle-pull": Wording(
        said=("pull the handle up", "lift the handle", "raise the lever"),
        held_out=("bring the handle all the way up", "tug the lever upwards"),
        about=("handle",),
        undone=("press the handle down",),
    ),
    "handle-pull-side": Wording(
        said=("pull the sideways handle up", "lift the handle at the side", "raise the side lever"),
        held_out=("bring the side handle all the way up", "tug the lever at the side upwards"),
        about=("handle",),
        undone=("press the handle at the side down",),
    ),
    "peg-insert-side": Wording(
        said=(
            "put the peg into the hole in the side of the box",
            "insert the peg sideways",
            "pick up the peg and push it into the box",
        ),
        held_out=("plug the stick into the hole of the block", "slide the peg into its hole"),
        about=("peg",),
    ),
    "pick-place": Wording(
        said=(
            "pick up the puck and bring it to the target",
            "pick and place the puck at the goal",
            "lift the puck to the target",
        ),
        held_out=("grasp the puck and carry it to the goal point", "take the puck to the marker"),
        about=("puck",),
    ),
    "pick-place-wall": Wording(
        said=(
            "pick up the puck and bring it over the wall to the target",
            "carry the puck over the wall",
            "lift the puck past the wall and place it at the goal",
        ),
        held_out=("take the puck to the other side of the wall", "get the puck over the barrier"),
        about=("puck",),
    ),
    "plate-slide": Wording(
        said=(
            "slide the plate into the cabinet",
            "push the plate into the goal",
            "slide the plate in",
        ),
        held_out=("move the plate forward into the rack", "shove the plate inside"),
        about=("plate",),
        undone=("slide the plate back out of the cabinet",),
    ),
    "plate-slide-back": Wording(
        said=(
            "slide the plate back out of the cabinet",
            "pull the plate out of the goal",
            "draw the plate back towards the robot",
        ),
        held_out=("get the plate out of the rack", "drag the plate back"),
        about=("plate",),
        undone=("slide the plate into the cabinet",),
    ),
    "plate-slide-side": Wording(
        said=(
            "slide the plate sideways into the cabinet",
            "push the plate to the side into the goal",
            "move the plate sideways until it is in the cabinet",
        ),
        held_out=("shove the plate into the rack at the side", "slide the plate in from the side"),
        about=("plate",),
        undone=("slide the plate sideways out of the cabinet",),
    ),
    "plate-slide-back-side": Wording(
        said=(
            "slide the plate sideways out of the cabinet",
            "pull the plate to the side out of the goal",
            "move the plate sideways until it is out of the cabinet",
        ),
        held_out=("get the plate out of the rack sideways", "drag the plate out to the side"),
        about=("plate",),
        undone=("slide the plate sideways into the cabinet",),
    ),
    "push": Wording(
        said=(
            "push the puck to the target",
            "slide the puck to the goal",
            "move the puck to the marker",
        ),
        held_out=("shove the puck onto the goal point", "get the puck to the target by pushing"),
        about=("puck",),
    ),
    "push-back": Wording(
        said=(
            "pull the puck back to the target",
            "push the block back towards the robot",
            "slide the puck back to the goal",
        ),
        held_out=("drag the block backwards onto the goal point", "bring the puck back"),
        about=("puck",),
    ),
    "reach": Wording(
        said=(
            "move the gripper to the target",
            "reach the goal point",
            "bring the hand to the marker",
        ),
        held_out=("put the gripper where the goal is", "go to the target point"),
        about=(),
    ),
    "reach-wall": Wording(
        said=(
            "move the gripper past the wall to the target",
            "reach the goal point behind the wall",
            "bring the hand around the wall to the marker",
        ),
        held_out=("go around the barrier to the target point", "reach over the wall to the goal"),
        about=(),
    ),
    "stick-push": Wording(
        said=(
            "push the thermos with the stick",
            "use the stick to push the bottle to the target",
            "pick up the stick and push the can with it",
        ),
        held_out=(
            "shove the bottle to the goal by means of the stick",
            "move the can with a stick",
        ),
        about=("stick",),
        undone=("pull the thermos back with the stick",),
    ),
    "stick-pull": Wording(
        said=(
            "pull the thermos back with the stick",
            "use the stick to pull the bottle to the target",
            "hook the can's handle with the stick and pull",
        ),
        held_out=("drag the bottle to the goal by means of the stick", "pull the can with a stick"),
        about=("stick",),
        undone=("push the thermos away with the stick",),
    ),
    "hand-insert": Wording(
        said=(
            "put the gripper into the hole in the table",
            "insert the hand into the hole",
            "move the gripper down into the gap",
        ),
        held_out=("lower the hand into the hole of the table", "reach down into the opening"),
        about=("hole",),
    ),
    "soccer": Wording(
        said=("push the ball into the goal", "kick the ball into the goal", "score with the ball"),
        held_out=("get the football between the goal's posts", "shoot the ball into the net"),
        about=("soccer",),
    ),
    "sweep-into": Wording(
        said=(
            "sweep the block into the hole",
            "push the cube into the hole in the table",
            "sweep the puck into the gap",
        ),
        held_out=("wipe the cube off the table into the hole", "make the block fall into the hole"),
        about=("sweep", "puck"),
    ),
    "window-open": Wording(
        said=("open the window", "slide the window open", "push the window's handle to open it"),
        held_out=("let air in through the window", "move the window pane to the open side"),
        about=("window",),
        undone=("close the window",),
    ),
    "window-close": Wording(
        said=("close the window", "slide the window shut", "push the window's handle to close it"),
        held_out=("shut the window", "move the window pane to the closed side"),
        about=("window",),
        undone=("open the window",),
    ),
}
"""Task → its sentences."""
