"""A deterministic model that reads its answer out of the pixels: a test oracle, never a reward.

The first pixel of a frame holds progress (red / 255) and the second one done (red / 255), so that a
test or benchmark that paints a frame knows the score which must come back for it, whatever happened
on the way. Its cost can be set, to stand in for a device-like model of cost ``a + c·b``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from robo_reward.frames import Image
from robo_reward.models.base import Capabilities, Feature, RewardModel, ScoreArrays
from robo_reward.query import Query
from robo_reward.task import Task


def paint(progress: float, done: float, *, size: int = 8, salt: int = 0) -> Image:
    """Make a ``(size, size, 3)`` image that scores as given (to 1/255); salt makes it unique."""
    image = np.zeros((size, size, 3), np.uint8)
    image[0, 0, 0] = round(progress * 255)
    image[0, 1, 0] = round(done * 255)
    image[1, 0] = (salt & 255, salt >> 8 & 255, salt >> 16 & 255)
    image[1, 1, 0] = salt >> 24 & 255
    return image


class OraclePixels(RewardModel):
    """Reads progress and done from two pixels.

    Args:
        device: Ignored; there is nothing to place.
        fixed_s: Seconds that every batch takes.
        each_s: Seconds that every newly encoded frame adds.
    """

    def __init__(self, *, device: str = "cpu", fixed_s: float = 0.0, each_s: float = 0.0) -> None:
        super().__init__(
            name="oracle-pixels",
            version="1",
            capabilities=Capabilities(max_views=8, licence="Apache-2.0"),
            prompt_id="none",
        )
        self.device = device
        self.fixed_s = fixed_s
        self.each_s = each_s

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        if self.each_s:
            time.sleep(self.each_s * len(images))
        return [(image[0, 0, 0] / 255.0, image[0, 1, 0] / 255.0) for image in images]

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        if self.fixed_s:
            time.sleep(self.fixed_s)
        progress = np.array([np.mean([f[0] for f in views]) for views in newest], np.float32)
        before = np.array(
            [
                np.mean([f[0] for f in old or new])
                for old, new in zip(reference, newest, strict=True)
            ],
            np.float32,
        )
        return ScoreArrays(
            progress=progress,
            progress_delta=progress - before,
            done=np.array([min(f[1] for f in views) for views in newest], np.float32),
            contrastive=np.sign(progress - before),
            uncertainty=np.zeros(len(queries), np.float32),
        )
