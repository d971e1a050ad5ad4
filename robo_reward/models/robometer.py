"""Robometer: heads on the hidden states behind each frame, no text at all.

Idea: after every frame stands a token of its own, and two small networks read its last hidden
state: a distribution over ten bins of progress, and a logit of success (arXiv 2603.02115). Progress
is the mean of the bins' centres 0, 1/9 … 1; ``done`` the sigmoid of the logit. Only the newest
frame's token is read, so that earlier frames come from the cache.
Weights: lerobot/Robometer-4B (Qwen3-VL-4B), or robometer/Robometer-4B; Apache-2.0.
Known faults: eight frames at most, evenly spaced; done wants a threshold per robot; wrist views
alone can be unjudgeable. The third head, which prefers one of two trajectories, is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robo_reward.models.base import Capabilities, ModelCard

from .vlm.heads import perceptron, read_tensors
from .vlm.passage import Passage
from .vlm.prompt import Part
from .vlm.readings import Vector, doubt, expectation, softmax
from .vlm.value import Shown, ValueModel

if TYPE_CHECKING:
    from .vlm.backbone import Backbone

PROGRESS = "<|prog_token|>"
SIGNS = ("<|split_token|>", "<|reward_token|>", "<|pref_token|>", "<|sim_token|>", PROGRESS)
"""In the order in which they were added to the tokenizer: their numbers follow from it."""
HEADS = {"progress": "progress_head.", "done": "success_head."}


class Robometer(ValueModel):
    """Reads two heads; see ``GenerativeModel`` for the arguments."""

    named = "robometer"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "done", "uncertainty"),
            history=7,
            licence="Apache-2.0",
            parameters=4_450_286_861,
        ),
        weights="lerobot/Robometer-4B",
    )
    prompts = {"prompt": ("robometer.v1", ("clip", "instruction"), ())}  # noqa: RUF012
    kinds = ("qwen3_vl", "qwen2_5_vl")
    renamed = {r"^model\.model\.": "model.", r"^model\.lm_head\.": "lm_head."}  # noqa: RUF012
    signs = SIGNS
    by_answers = False
    backbone: Backbone

    def __init__(self, *, device: str = "auto", **options: Any) -> None:
        super().__init__(device=device, **options)
        self.heads = {
            name: read_tensors(self.folder, prefix, model=self.backbone.model, what=self.named)
            for name, prefix in HEADS.items()
        }

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        passages = [self._passage(one) for one in shown]
        states = [found[-1] for found in self.backbone.read(passages)]
        bins = np.stack([perceptron(self.heads["progress"], state) for state in states])
        logits = np.array([perceptron(self.heads["done"], state)[0] for state in states])
        chances = softmax(bins)
        return {
            "progress": expectation(chances, np.linspace(0, 1, bins.shape[1]).tolist()),
            "done": 1.0 / (1.0 + np.exp(-logits)),
            "uncertainty": doubt(chances),
        }

    def _passage(self, one: Shown) -> Passage:
        parts: list[Part] = []
        for number, picture in enumerate(one.clip, start=1):
            parts += [f"Picture {number}: ", picture, PROGRESS]
        (passage,) = self.write([{**one.filling, "clip": parts}])
        token = self.backbone.writer.token(PROGRESS)
        last = len(passage) - 1 - passage.tokens[::-1].index(token)
        passage.marks = [last]
        return passage
