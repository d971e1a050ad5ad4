"""The oracle reward: true progress and success in place of a model, for brackets only.

It answers through the same wrapper, shaper and gate as a model does: the "camera" paints the truth
into two pixels and ``OraclePixels`` reads them back. A result made with it is an upper bracket and
is labelled so; with noise it stands in for a learned model when settings are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np

from robo_reward.client import LocalSource, local
from robo_reward.frames import Image
from robo_reward.models.oracle_pixels import OraclePixels, paint


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleNoise:
    """How far the painted answer is from the truth.

    Attributes:
        progress: Standard deviation added to progress.
        done: Standard deviation added to the probability of done.
        false_done: Probability of done shown just short of success; 0 far from it.
    """

    progress: float = 0.0
    done: float = 0.0
    false_done: float = 0.0


DEGRADED = OracleNoise(progress=0.06, done=0.15, false_done=0.6)
"""About what a learned model gives."""


def oracle_source() -> LocalSource:
    """Return the source that reads what ``oracle_camera`` paints."""
    return local(OraclePixels())


def oracle_camera(noise: OracleNoise | None = None, *, seed: int = 0) -> Callable[[Any], Image]:
    """Return a camera for ``VisualReward(cameras={"oracle": …})`` that shows the truth.

    Args:
        noise: How far from it.
        seed: Of the noise.
    """
    rng = np.random.default_rng(seed)
    salts = count()
    noise = noise or OracleNoise()

    def look(env: gym.Env[Any, Any]) -> Image:
        progress = float(env.unwrapped.progress())  # type: ignore[attr-defined]
        done = 1.0 if progress >= 1.0 else noise.false_done * progress**8
        progress += noise.progress * float(rng.normal())
        done += noise.done * float(rng.normal())
        return paint(float(np.clip(progress, 0, 1)), float(np.clip(done, 0, 1)), salt=next(salts))

    return look
