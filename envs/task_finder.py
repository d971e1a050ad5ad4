"""Which task an episode is about: said by the caller, or by the environment itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robo_reward.errors import InstructionError
from robo_reward.frames import Frame, Image
from robo_reward.task import Task

from .cameras import as_image

Info = Mapping[str, Any]
Instruction = str | Callable[[Info], str] | None
Goal = Frame | Image | Callable[[Info], Any] | None
Demo = Sequence[Frame | Image]


class TaskFinder:
    """Turns ``info`` into the task that holds from now on.

    Args:
        instruction: The sentence, or a callable that reads it from ``info``; ``None`` takes
            ``info["instruction"]``, which the wrappers fill in from ``env.unwrapped.instruction``.
        goal: Image of the goal, ``(H, W, 3) uint8 RGB``, or a callable from ``info`` to it.
        demo: Images of a success, first to last, for a model that reads a demonstration; a handful
            spread over it suffices.
    """

    def __init__(self, instruction: Instruction = None, goal: Goal = None, demo: Demo = ()) -> None:
        self._instruction = instruction
        self._goal = goal
        self._demo = _frames(demo)
        self._task: Task | None = None

    def set(self, instruction: Instruction, *, goal: Goal = None, demo: Demo = ()) -> None:
        """Replace what the caller said; ``None`` goes back to the environment's own words."""
        self._instruction = instruction
        self._goal = goal
        self._demo = _frames(demo)

    def find(self, info: Info) -> Task:
        """Return the task, the same object as long as nothing changed.

        Raises:
            InstructionError: Nobody says what the robot should do.
        """
        text = self._text(info)
        goal = self._frame(info)
        old = self._task
        said = (text, _id(goal), tuple(map(_id, self._demo)))
        if old is None or said != (old.instruction, _id(old.goal), tuple(map(_id, old.demo))):
            made = Task(instruction=text, goal=goal, demo=self._demo)
            if old is None or made.key != old.key:
                self._task = made
        assert self._task is not None  # made above when there was none
        return self._task

    def _text(self, info: Info) -> str:
        if isinstance(self._instruction, str):
            return self._instruction
        text = info.get("instruction") if self._instruction is None else self._instruction(info)
        if not isinstance(text, str):
            raise InstructionError(
                'no instruction: pass instruction="put the red cube on the blue pad" (or a '
                'callable of info), or let the environment give info["instruction"] or '
                f"env.unwrapped.instruction (got {text!r})"
            )
        return text

    def _frame(self, info: Info) -> Frame | None:
        raw = self._goal(info) if callable(self._goal) else self._goal
        return None if raw is None else _frame(raw, camera="goal")


def _frames(demo: Demo) -> tuple[Frame, ...]:
    return tuple(_frame(image, camera="demo") for image in demo)


def _frame(image: Any, *, camera: str) -> Frame:
    if isinstance(image, Frame):
        return image
    return Frame.of(as_image(image, camera=camera), camera=camera, mono_ns=0, wall_ns=0)


def _id(goal: Frame | None) -> str:
    return goal.id if goal is not None else ""


def with_instruction(info: dict[str, Any], env: Any) -> dict[str, Any]:
    """Return ``info`` with the environment's own instruction, where it has one and said none."""
    if "instruction" not in info:
        text = getattr(env.unwrapped, "instruction", None)
        if isinstance(text, str):
            info["instruction"] = text
    return info


def without_truth(info: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return ``info`` without the truth, also in the parts that vector environments nest."""
    hidden = {*keys, *(f"_{key}" for key in keys)}
    return {
        name: without_truth(value, keys)
        if name == "final_info" and isinstance(value, dict)
        else value
        for name, value in info.items()
        if name not in hidden
    }
