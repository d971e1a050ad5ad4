"""Numbers out of distributions: what a model says of its answer before it has said it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ModelError

Vector = NDArray[np.float64]


class Unanswered(ModelError):
    """One question has no answer; others may have theirs."""


def softmax(log_weights: Vector) -> Vector:
    """Turn log weights into probabilities, ``(…, n)`` over the last axis."""
    shifted = np.exp(log_weights - log_weights.max(axis=-1, keepdims=True))
    made: Vector = shifted / shifted.sum(axis=-1, keepdims=True)
    return made


def expectation(probabilities: Vector, values: Sequence[float]) -> Vector:
    """Return the mean of values, ``(…,)``: finer than the likeliest one, and never unparsable."""
    mean: Vector = probabilities @ np.asarray(values, np.float64)
    return mean


def doubt(probabilities: Vector) -> Vector:
    """Return entropy over the greatest there is, in [0, 1]: 0 for sure, 1 for no idea."""
    count = probabilities.shape[-1]
    kept = np.clip(probabilities, 1e-12, 1.0)
    entropy = -(kept * np.log(kept)).sum(axis=-1) / np.log(count)
    made: Vector = np.clip(entropy, 0.0, 1.0)
    return made


def affine(log_probability: Vector, *, low: float, high: float) -> Vector:
    """Map [low, high] to [0, 1], clipped: the fixed map of TOPReward online.

    A log-probability spans many powers of ten; its exponential is 0 nearly everywhere, and the
    extremes of an episode are known only when it is over.
    """
    made: Vector = np.clip((log_probability - low) / (high - low), 0.0, 1.0)
    return made
