"""SOLE-R1: percent of the task, read off one picture that shows the first instant and the newest.

Idea: external view above wrist view, first instant left, newest right, in one composite picture;
reasoning, then ``<answer>NN%</answer>`` (arXiv 2603.28730). Its form without the previous instant
is used, which needs no progress handed on from query to query, so that deltas telescope. The answer
is an expectation over 0 to 100; ``think=N`` lets it reason for N tokens first, as it was taught.
Weights: Philip-MIT/SOLE-R1-8B (Qwen3-VL); no licence is stated.
Known faults: slow where it reasons, a chain of thought for each step; asked at once it answers
outside of what it was trained for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robo_reward.frames import Image
from robo_reward.models.base import Capabilities, Feature, ModelCard
from robo_reward.task import Task

from .vlm.options import VlmOptions
from .vlm.passage import Picture
from .vlm.prompt import Filling
from .vlm.readings import Vector, doubt, expectation
from .vlm.value import Shown, ValueModel

PERCENT = tuple(range(101))
SIDE = 384
GAP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SoleR1Options(VlmOptions):
    """Options of SOLE-R1; of the history the first instant is read.

    Attributes:
        clip: See ``VlmOptions``.
        cached_frames: See ``VlmOptions``; what is kept is a picture, not its features.
    """

    clip: int = 2
    cached_frames: int = 256


class SoleR1(ValueModel):
    """Composes pictures and reads a percentage; see ``GenerativeModel`` for the arguments."""

    named = "sole-r1"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "uncertainty"),
            max_views=2,
            history=1,
            parameters=8_767_123_696,
        ),
        weights="Philip-MIT/SOLE-R1-8B",
    )
    prompts = {"prompt": ("sole-r1.v1", ("composite", "instruction"), ())}  # noqa: RUF012
    Options = SoleR1Options

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        # A frame is never seen alone: the tower sees composites.
        return [tile(image) for image in images]

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        composites = [composite(one.case.start, one.views) for one in shown]
        seen = self.backbone.see(composites)
        fillings: list[Filling] = [
            {
                "instruction": [one.case.text],
                "composite": [Picture(key="+".join(one.key), seen=made)],
            }
            for one, made in zip(shown, seen, strict=True)
        ]
        chances = self.choose(fillings, [str(value) for value in PERCENT])
        return {"progress": expectation(chances, PERCENT) / 100, "uncertainty": doubt(chances)}


def tile(image: Image) -> Image:
    """Fit a picture into a black square, ``(SIDE, SIDE, 3)``, its proportions kept."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.BOX))
    made = np.zeros((SIDE, SIDE, 3), np.uint8)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    made[top : top + small.shape[0], left : left + small.shape[1]] = small
    return made


def composite(first: Sequence[Picture], newest: Sequence[Picture]) -> Image:
    """Put tiles together: instants from left to right, cameras from top to bottom."""
    rows: list[Any] = []
    for left, right in zip(first, newest, strict=False):
        gap = np.zeros((SIDE, GAP, 3), np.uint8)
        row = np.hstack([np.asarray(left.seen), gap, np.asarray(right.seen)])
        rows += [row, np.zeros((GAP, row.shape[1], 3), np.uint8)]
    made: Image = np.vstack(rows[:-1])
    return made
