"""Large Reward Models: three adapters on one backbone, one for each of three questions.

Idea: which of two pictures is nearer to the goal (contrastive), how far the task has come
(progress, in tenths) and whether it is done (completion), each learnt by a LoRA adapter on
Qwen3-VL-8B (arXiv 2603.16065). Their answers are JSON; here the keys are given and the value is a
distribution. Both orders of the two pictures are asked, so that a liking for the first or the
second cancels out. The published reward is the mean of (contrastive + 1)/2, progress and done.
Weights: USC-PSI-Lab/LRM-models on Qwen/Qwen3-VL-8B-Instruct; no licence is stated.
Known faults: published scores hold for ten steps; single evaluations swing by several points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.models.base import Capabilities, ModelCard, ScoreArrays

from .vlm.checkpoint import fetch
from .vlm.generative import Case
from .vlm.pairs import PairOptions, preference
from .vlm.prompt import Filling
from .vlm.readings import Vector, doubt, expectation
from .vlm.value import Shown, ValueModel

ADAPTERS = "USC-PSI-Lab/LRM-models"
USES = ("contrastive", "progress", "completion")
TENTHS = tuple(step / 10 for step in range(11))
IMAGES = ("ImageA", "ImageB")
DONE = ("yes", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class LrmOptions(PairOptions):
    """Options of LRM.

    Attributes:
        clip: See ``VlmOptions``; one frame is judged at a time.
        adapters: Folder or hub id with folders contrastive, progress and completion. Without it
            those published, and none where ``checkpoint`` names weights that are complete.
        contrastive_prompt: File instead of ours.
        progress_prompt: The same.
        completion_prompt: The same.
    """

    clip: int = 1
    adapters: str = ""
    contrastive_prompt: str = ""
    progress_prompt: str = ""
    completion_prompt: str = ""


class Lrm(ValueModel):
    """Asks three questions; see ``GenerativeModel`` for the arguments."""

    named = "lrm"
    card = ModelCard(
        capabilities=Capabilities(goal_image=True, parameters=8_767_123_696),
        weights="Qwen/Qwen3-VL-8B-Instruct",
    )
    prompts = {  # noqa: RUF012
        "contrastive_prompt": (
            "lrm-contrastive.v1", ("reference", "frame", "instruction"), ("goal",)
        ),
        "progress_prompt": ("lrm-progress.v1", ("frame", "instruction"), ("goal",)),
        "completion_prompt": ("lrm-completion.v1", ("frame", "instruction"), ("goal",)),
    }  # fmt: skip
    Options = LrmOptions
    options: LrmOptions

    def __init__(self, *, device: str = "auto", **options: Any) -> None:
        super().__init__(device=device, **options)
        named = self.options.adapters or ("" if self.options.checkpoint else ADAPTERS)
        if named:
            folder = fetch(named, model=self.named, offline=self.options.offline)
            adapters = {use: str(Path(folder) / use) for use in USES}
            self.backbone.wear(adapters, offline=self.options.offline)

    def weigh(
        self, fillings: Sequence[Filling], answers: Sequence[str], *, use: str = "prompt"
    ) -> Vector:
        """Return log-probabilities by the adapter of this use."""
        with self.backbone.under(use.removesuffix("_prompt")):
            return super().weigh(fillings, answers, use=use)

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        fillings = [one.filling for one in shown]
        tenths = self.choose(fillings, [f"{t:.1f}" for t in TENTHS], use="progress_prompt")
        done = self.choose(fillings, DONE, use="completion_prompt")
        return {
            "progress": expectation(tenths, TENTHS),
            "done": done[:, 0],
            "uncertainty": doubt(tenths),
        }

    def _judge(self, cases: Sequence[Case]) -> ScoreArrays:
        rows = super()._judge(cases)
        contrastive = preference(
            cases,
            lambda fillings: self.choose(fillings, IMAGES, use="contrastive_prompt"),
            symmetric=self.options.symmetric,
        )
        signals: Mapping[str, Any] = {
            name: getattr(rows, name) for name in ("progress", "progress_delta", "done")
        }
        return self.rows(
            len(cases),
            **signals,
            uncertainty=rows.uncertainty.astype(np.float64),
            contrastive=contrastive,
        )
