"""Any OpenAI-compatible server (vLLM, SGLang, hosted) as a judge with a prompt of ours.

    endpoint=https://gpu:8000/v1,served=Qwen/Qwen3-VL-8B-Instruct

Idea: a rubric of ten steps about the present state, answered by one digit, which most tokenizers
have as one token. The digit is read as a distribution, out of the log-probabilities that the server
tells: progress is its expectation over nine, ``done`` the probability of a nine. Other generative
models are asked of a server by the same word in place of their weights:
``roboreward=https://gpu:8000/v1``. ``chat`` holds what they share.
Weights: those of the server. Licence: that of the model served.
Known faults: models that were not trained to judge robots are sure of themselves; ``done`` wants a
calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robo_reward.errors import ConfigError
from robo_reward.models.base import Capabilities, ModelCard

from .chat.options import address_of
from .vlm.readings import Vector, doubt, expectation
from .vlm.value import Shown, ValueModel

STEPS = tuple(range(10))


class EndpointJudge(ValueModel):
    """Reads the distribution over ten digits; see ``GenerativeModel`` for the arguments.

    Raises:
        ConfigError: No address was given.
    """

    named = "endpoint"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "done", "uncertainty"),
            history=15,
            goal_image=True,
            demo=True,
            metered=True,
            licence="that of the model served",
        ),
        weights="",
    )
    prompts = {"prompt": ("endpoint.v1", ("clip", "instruction"), ("goal", "demo"))}  # noqa: RUF012

    def __init__(self, *, device: str = "auto", **options: Any) -> None:
        if not address_of(str(options.get("checkpoint", ""))):
            raise ConfigError(
                "endpoint needs the address of a server: endpoint=https://host/v1,served=NAME"
            )
        super().__init__(device=device, **options)

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        chances = self.choose([one.filling for one in shown], [str(step) for step in STEPS])
        return {
            "progress": expectation(chances, STEPS) / STEPS[-1],
            "done": chances[:, -1],
            "uncertainty": doubt(chances),
        }
