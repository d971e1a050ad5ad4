"""RoboFuME's success question: has the robot done it, yes or no.

Idea: a vision-language model, fine-tuned on a few successes and failures, says of one picture
whether the task is done, and reinforcement learning without resets gets that as its sparse reward
(arXiv 2310.15145). Here ``done`` is the probability of "yes".
Weights: none were released; by default Qwen/Qwen2.5-VL-3B-Instruct as it comes. Fine-tune it, or
name your own.
Known faults: no progress and no delta; without fine-tuning the answer leans to yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robo_reward.models.base import Capabilities, ModelCard

from .vlm.options import VlmOptions
from .vlm.readings import Vector, doubt
from .vlm.value import Shown, ValueModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RoboFumeOptions(VlmOptions):
    """Options of the success question; ``clip`` is 1, only the newest frame is judged."""

    clip: int = 1


class RoboFume(ValueModel):
    """Reads yes or no; see ``GenerativeModel`` for the arguments."""

    named = "robofume"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("done", "uncertainty"), licence="Qwen-Research", parameters=3_754_622_976
        ),
        weights="Qwen/Qwen2.5-VL-3B-Instruct",
    )
    prompts = {"prompt": ("robofume.v1", ("frame", "instruction"), ("goal",))}  # noqa: RUF012
    Options = RoboFumeOptions

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        chances = self.choose([one.filling for one in shown], ("yes", "no"))
        return {"done": chances[:, 0], "uncertainty": doubt(chances)}
