"""Robo-Dopamine GRM: a hop between two instants, seen from up to three cameras, in signed percent.

Idea: eight pictures (start and goal of a reference, three views before, three after), answered by
``<score>±NN%</score>``: the share of what remained that was gained, or of what was achieved that
was lost (arXiv 2512.23703). Progress of a frame is the hop from the start of the episode to it
(forward), 1 plus the hop from the goal to it (backward), or the mean of both (fusion). The
published fusion adds an integral over the frames in between, which would have to be carried along;
a difference of two progress values telescopes without. One view stands for three; where no goal
image was given a grey one is shown and only forward is asked.
Weights: tanhuajie2001/Robo-Dopamine-GRM-3B (Qwen2.5-VL); Apache-2.0.
Known faults: users saw progress toggle between 0 and 1; a whole decoding per hop where it is served
as published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robo_reward.frames import Frame
from robo_reward.models.base import Capabilities, ModelCard

from .vlac import PERCENT, signed
from .vlm.options import VlmOptions
from .vlm.passage import Picture
from .vlm.prompt import Filling
from .vlm.readings import Vector, doubt, expectation
from .vlm.value import Shown, ValueModel

VIEWS = ("front", "left", "right")
GREY = 128
SIDE = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class RoboDopamineOptions(VlmOptions):
    """Options of the GRM.

    Attributes:
        clip: See ``VlmOptions``; of the history the first instant is read.
        mode: ``fusion``, ``forward`` or ``backward``; without goal image all are forward.
    """

    clip: int = 2
    mode: Literal["fusion", "forward", "backward"] = "fusion"


class RoboDopamine(ValueModel):
    """Reads hops from start and goal; see ``GenerativeModel`` for the arguments."""

    named = "robo-dopamine"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "uncertainty"),
            max_views=3,
            history=1,
            goal_image=True,
            licence="Apache-2.0",
            parameters=3_754_622_976,
        ),
        weights="tanhuajie2001/Robo-Dopamine-GRM-3B",
    )
    prompts = {  # noqa: RUF012
        "prompt": (
            "robo-dopamine.v1",
            ("instruction", "start", "goal", *(f"{when}_{view}" for when in ("before", "after")
                                               for view in VIEWS)),
            (),
        )
    }  # fmt: skip
    Options = RoboDopamineOptions
    options: RoboDopamineOptions

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        mode = self.options.mode
        has_goal = np.array([one.case.goal is not None for one in shown])
        forward = ~has_goal | (mode != "backward")
        backward = has_goal & (mode != "forward")
        asked = [self._filling(one, one.case.start) for one in _where(shown, forward)]
        asked += [self._filling(one, [self._goal(one)]) for one in _where(shown, backward)]
        chances = self.choose(asked, [signed(value) for value in PERCENT])
        hops = expectation(chances, PERCENT) / 100
        values = np.full((2, len(shown)), np.nan)
        doubts = np.full((2, len(shown)), np.nan)
        count = int(forward.sum())
        values[0, forward] = np.clip(hops[:count], 0.0, 1.0)
        values[1, backward] = np.clip(1.0 + hops[count:], 0.0, 1.0)
        doubts[0, forward], doubts[1, backward] = doubt(chances[:count]), doubt(chances[count:])
        return {"progress": np.nanmean(values, axis=0), "uncertainty": np.nanmax(doubts, axis=0)}

    def _filling(self, one: Shown, before: Sequence[Picture]) -> Filling:
        pictures: dict[str, Sequence[str | Picture]] = {
            "instruction": [one.case.text],
            "start": one.case.start[:1],
            "goal": [self._goal(one)],
        }
        for when, views in (("before", before), ("after", one.views)):
            for place, name in enumerate(VIEWS):
                pictures[f"{when}_{name}"] = [views[min(place, len(views) - 1)]]
        return pictures

    def _goal(self, one: Shown) -> Picture:
        if one.case.goal is not None:
            return one.case.goal
        return self.picture(Frame.of(np.full((SIDE, SIDE, 3), GREY, np.uint8), camera="goal"))


def _where(shown: Sequence[Shown], chosen: Sequence[bool] | np.ndarray) -> list[Shown]:
    return [one for one, taken in zip(shown, chosen, strict=True) if taken]
