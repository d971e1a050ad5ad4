"""RoboReward: a judge trained to give a clip one to five points.

Idea: a rubric of five lines about the final state, answered by one digit (arXiv 2601.00675). The
digit is not generated: progress is its expectation e over the five, (e − 1) / 4; ``done`` is the
probability of a five.
Weights: teetone/RoboReward-8B (or -4B), Qwen3-VL; CC-BY-4.0.
Known faults: trained on whole episodes, so points for prefixes are coarse; they change with the
frame rate and under paraphrases of the instruction; 81 % of preferences right in its own benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence

from robo_reward.models.base import Capabilities, ModelCard

from .vlm.readings import Vector, doubt, expectation
from .vlm.value import Shown, ValueModel

POINTS = (1, 2, 3, 4, 5)


class RoboReward(ValueModel):
    """Reads the distribution over five digits; see ``GenerativeModel`` for the arguments."""

    named = "roboreward"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "done", "uncertainty"),
            history=15,
            licence="CC-BY-4.0",
            parameters=8_767_123_696,
        ),
        weights="teetone/RoboReward-8B",
    )
    prompts = {"prompt": ("roboreward.v1", ("clip", "instruction"), ("goal",))}  # noqa: RUF012

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        chances = self.choose([one.filling for one in shown], [str(point) for point in POINTS])
        return {
            "progress": (expectation(chances, POINTS) - 1) / 4,
            "done": chances[:, -1],
            "uncertainty": doubt(chances),
        }
