"""RL-VLM-F: which of two pictures shows the goal better, the label that a reward is learnt from.

Idea: a vision-language model compares two pictures and answers 0, 1, or −1 for neither; a reward
network is then fitted to such preferences (arXiv 2402.03681). This is the judge;
the learnt reward is ``rl-vlm-f`` (``preference.py``). ``contrastive`` is P(newest) − P(reference):
its sign is the label, its size says how sure it is.
Weights: any backbone; by default Qwen/Qwen2.5-VL-7B-Instruct, Apache-2.0 (published with GPT-4V and
Gemini).
Known faults: published in two stages, a description and then the choice; here the choice comes at
once unless ``think`` allows for words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robo_reward.models.base import Capabilities, ModelCard, ScoreArrays

from .vlm.generative import Case, GenerativeModel
from .vlm.pairs import PairOptions, preference

ANSWERS = ("0", "1", "-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class RlVlmFJudgeOptions(PairOptions):
    """Options of the comparison; ``clip`` is 1, one frame is compared with another."""

    clip: int = 1


class RlVlmFJudge(GenerativeModel):
    """Compares newest and reference; see ``GenerativeModel`` for the arguments."""

    named = "rl-vlm-f-judge"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("contrastive", "uncertainty"), licence="Apache-2.0", parameters=8_292_166_656
        ),
        weights="Qwen/Qwen2.5-VL-7B-Instruct",
    )
    prompts = {"prompt": ("rl-vlm-f-judge.v1", ("reference", "frame", "instruction"), ())}  # noqa: RUF012
    Options = RlVlmFJudgeOptions
    options: RlVlmFJudgeOptions

    def _judge(self, cases: Sequence[Case]) -> ScoreArrays:
        contrastive = preference(
            cases,
            lambda fillings: self.choose(fillings, ANSWERS),
            symmetric=self.options.symmetric,
        )
        return self.rows(len(cases), contrastive=contrastive, uncertainty=1.0 - np.abs(contrastive))
