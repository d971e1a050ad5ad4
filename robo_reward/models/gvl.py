"""GVL: how far along each of some shuffled frames is, in percent.

Idea: the first frame stands at 0 %, the others come in random order, so that a model cannot count;
it gives every one a percentage (arXiv 2411.04549). The answer is a JSON list. Its form is given
and only the numbers are the model's own, one pass for each until the newest frame has its number,
which is an expectation over 0 to 100. The order depends on the frames alone, so the same question
gets the same answer.
Weights: any backbone; by default Qwen/Qwen3-VL-8B-Instruct, Apache-2.0 (published with Gemini).
Known faults: as good as the backbone, rank correlation .19 with Qwen3-VL in TOPReward's tables; a
pass for each frame before the newest one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from robo_reward.models.base import Capabilities, ModelCard

from .vlm.passage import Passage
from .vlm.prompt import Part
from .vlm.readings import Vector, doubt, expectation, softmax
from .vlm.value import Shown, ValueModel

PERCENT = tuple(range(101))
NUMBER = "{number}"


@dataclass(slots=True, eq=False)
class Reading:
    """A clip whose frames are being given numbers, in shuffled order.

    Attributes:
        passage: The prompt and what was answered so far.
        newest: Place of the newest frame among the shuffled ones.
        chances: Of the newest frame's number, once it was read.
    """

    passage: Passage
    newest: int
    chances: Vector = field(default_factory=lambda: np.empty(0))


class Gvl(ValueModel):
    """Reads one number after the other; see ``GenerativeModel`` for the arguments."""

    named = "gvl"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "uncertainty"),
            history=15,
            demo=True,
            licence="Apache-2.0",
            parameters=8_767_123_696,
        ),
        weights="Qwen/Qwen3-VL-8B-Instruct",
    )
    prompts = {  # noqa: RUF012
        "prompt": ("gvl.v1", ("first", "frames", "instruction"), ("demo",)),
    }

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        readings = [self._begun(one) for one in shown]
        for place in range(max(reading.newest for reading in readings) + 1):
            # Where an answer cannot be begun all numbers are in one, and only the newest is read.
            later = [one for one in readings if one.newest > place and self.backbone.continues]
            if asked := [*later, *(one for one in readings if one.newest == place)]:
                self._read(asked, place)
        chances = np.stack([reading.chances for reading in readings])
        return {"progress": expectation(chances, PERCENT) / 100, "uncertainty": doubt(chances)}

    def _begun(self, one: Shown) -> Reading:
        order = shuffled([picture.key for picture in one.clip[1:]] or [one.clip[0].key])
        frames = one.clip[1:] or one.clip
        parts: list[Part] = []
        for number, index in enumerate(order, start=1):
            parts += [f"\nFrame {number}: ", frames[index]]
        (passage,) = self.write([{**one.filling, "frames": parts}])
        return Reading(passage, newest=order.index(len(frames) - 1))

    def _read(self, readings: Sequence[Reading], place: int) -> None:
        prompt, writer = self.texts["prompt"], self.backbone.writer
        opening = prompt.opening.replace(NUMBER, str(place + 1))
        tails = writer.tails([str(p) for p in PERCENT], opening=opening, closing=prompt.closing)
        passages = [reading.passage for reading in readings]
        said = np.stack(self.backbone.weigh(passages, [tails] * len(passages)))
        for reading, chances in zip(readings, softmax(said), strict=True):
            if reading.newest == place:
                reading.chances = chances
            else:
                reading.passage.write(list(tails[int(chances.argmax())]))


def shuffled(keys: Sequence[str]) -> list[int]:
    """Return an order of frames that follows from what they show and from nothing else."""
    seed = hashlib.sha256("+".join(keys).encode()).digest()
    chance = np.random.default_rng(int.from_bytes(seed[:8], "little"))
    return [int(index) for index in chance.permutation(len(keys))]
