"""VLA-RL's process reward: is the task completed, 0 or 1.

Idea: a small backbone is asked one question about the newest picture and answers one digit (vlarl,
``ppo/models/prm.py``). Here ``done`` is the probability of a 1.
Weights: those of its process reward model were not released; by default Qwen/Qwen2-VL-2B-Instruct,
Apache-2.0, as it was begun from.
Known faults: no progress and no delta; a backbone that was not trained for it is no judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robo_reward.models.base import Capabilities, ModelCard

from .vlm.options import VlmOptions
from .vlm.readings import Vector, doubt
from .vlm.value import Shown, ValueModel


@dataclass(frozen=True, slots=True, kw_only=True)
class VlaRlOptions(VlmOptions):
    """Options of the process reward; ``clip`` is 1, only the newest frame is judged."""

    clip: int = 1


class VlaRl(ValueModel):
    """Reads one digit; see ``GenerativeModel`` for the arguments."""

    named = "vla-rl"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("done", "uncertainty"), licence="Apache-2.0", parameters=2_208_985_600
        ),
        weights="Qwen/Qwen2-VL-2B-Instruct",
    )
    prompts = {"prompt": ("vla-rl.v1", ("frame", "instruction"), ())}  # noqa: RUF012
    Options = VlaRlOptions

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        chances = self.choose([one.filling for one in shown], ("0", "1"))
        return {"done": chances[:, 1], "uncertainty": doubt(chances)}
