"""TOPReward: how likely the token "True" is after "the robot has done it", without any training.

Idea: a backbone that was never trained for rewards reads the frames so far and a statement that
they complete the task; the log-probability that it then says "True" rises with progress (arXiv
2602.19313). It spans some twenty powers of ten, so progress is the fixed affine map of
log P in [−25, −5] to [0, 1], as Large Reward Models (arXiv 2603.16065) use it online; the min–max
of an episode is known only in hindsight. ``done``: P("True") against P("False").
Weights: any Qwen3-VL, by default Qwen/Qwen3-VL-8B-Instruct; Apache-2.0.
Known faults: published figures hold for Qwen3-VL and collapse on other backbones; a chat template
hurts, so the prompt goes past it; the map fits neither every task nor every backbone (``low``,
``high``), and ``done`` wants a calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robo_reward.errors import ConfigError
from robo_reward.models.base import Capabilities, ModelCard

from .vlm.options import VlmOptions
from .vlm.readings import Vector, affine, doubt, softmax
from .vlm.value import Shown, ValueModel

ANSWERS = ("True", "False")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopRewardOptions(VlmOptions):
    """Options of TOPReward.

    Attributes:
        clip: See ``VlmOptions``; published with 16.
        low: Log-probability of "True" that is progress 0.
        high: Log-probability of "True" that is progress 1.

    Raises:
        ConfigError: ``low`` is not below ``high``.
    """

    clip: int = 16
    low: float = -25.0
    high: float = -5.0

    def __post_init__(self) -> None:
        """Hold the order of the two ends."""
        if not self.low < self.high:
            raise ConfigError(f"low must be < high, got {self.low:g} and {self.high:g}")


class TopReward(ValueModel):
    """Reads the log-probability of one token; see ``GenerativeModel`` for the arguments."""

    named = "topreward"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "done", "uncertainty"),
            history=15,
            licence="Apache-2.0",
            parameters=8_767_123_696,
        ),
        weights="Qwen/Qwen3-VL-8B-Instruct",
    )
    prompts = {"prompt": ("topreward.v1", ("clip", "instruction"), ("goal",))}  # noqa: RUF012
    by_shares = False
    Options = TopRewardOptions
    options: TopRewardOptions

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        said = self.weigh([one.filling for one in shown], ANSWERS)
        chances = softmax(said)
        return {
            "progress": affine(said[:, 0], low=self.options.low, high=self.options.high),
            "done": chances[:, 0],
            "uncertainty": doubt(chances),
        }
