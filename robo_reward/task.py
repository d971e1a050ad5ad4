"""A task: the sentence, and optionally a goal image, a demonstration and the active stage."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from robo_reward.errors import InstructionError
from robo_reward.frames import Frame

MAX_INSTRUCTION_BYTES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the robot should do.

    Attributes:
        instruction: One sentence, 1 to 2048 bytes of UTF-8, without control characters.
        goal: Image of the goal, for models that take one.
        demo: Frames of a successful demonstration in order, for models that take one.
        stage: Sub-task that is being executed now; scored instead of the instruction when set.

    Raises:
        InstructionError: The instruction or the stage is empty, too long or not printable.
    """

    instruction: str
    goal: Frame | None = None
    demo: tuple[Frame, ...] = ()
    stage: str | None = None

    def __post_init__(self) -> None:
        """Refuse a sentence that no model can be asked with."""
        object.__setattr__(self, "instruction", check_instruction(self.instruction))
        if self.stage is not None:
            object.__setattr__(self, "stage", check_instruction(self.stage))

    @property
    def text(self) -> str:
        """The sentence to score: the stage when there is one, else the instruction."""
        return self.stage or self.instruction

    @property
    def key(self) -> str:
        """Hash of everything in the task, 32 hex digits; names the task on the wire."""
        parts = [self.instruction, self.stage or "", self.goal.id if self.goal else ""]
        parts += [frame.id for frame in self.demo]
        return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def check_instruction(text: str) -> str:
    """Return the instruction with white space collapsed.

    Raises:
        InstructionError: It is empty, longer than 2048 bytes, or holds control characters.
    """
    clean = " ".join(text.split())
    if not clean:
        raise InstructionError(
            "the instruction is empty; say in one sentence what the robot should do, "
            'for example --instruction "put the red cube on the blue pad"'
        )
    size = len(clean.encode("utf-8", errors="replace"))
    if size > MAX_INSTRUCTION_BYTES:
        raise InstructionError(
            f"the instruction has {size} bytes, at most {MAX_INSTRUCTION_BYTES} are read; "
            "say it in one sentence"
        )
    if not clean.isprintable():
        raise InstructionError("the instruction holds control characters; plain text is needed")
    return clean
