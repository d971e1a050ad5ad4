"""Chooses the uncertainty above which a model abstains, from episodes of what it shall judge."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robo_reward.models.calibration import Abstention, Interval
from robo_reward.report.bootstrap import Table, estimate

LEAST_ABOVE = 5
"""Frames that must lie above a limit for it to be more than a guess."""
FOLDS = 5

Floats = NDArray[np.floating]


def fit_abstention(
    uncertainty: Sequence[Floats], *, asked: float, resamples: int, seed: int
) -> Abstention | None:
    """Choose the lowest limit that at most ``asked`` of familiar frames exceed.

    The rate that is reported is that of limits chosen without the episode they are applied to, with
    a bootstrap interval over episodes: frames of one episode are alike.

    Args:
        uncertainty: Of every frame of each episode, ``(T,)`` each, from a model without a limit.
        asked: Share of frames in (0, 1).
        resamples: Of the bootstrap.
        seed: Of folds and bootstrap.

    Returns:
        ``None`` where the data do not support a limit: too few frames for that share, or so many of
        them at the highest uncertainty that nothing could lie above.
    """
    known = [values[np.isfinite(values)] for values in uncertainty]
    frames = sum(map(len, known))
    if frames * asked < LEAST_ABOVE or len(known) < FOLDS:
        return None
    limit = _limit(known, asked)
    if limit >= 1.0:
        return None
    fold = np.random.default_rng(seed).permutation(len(known)) % FOLDS
    limits = [
        _limit([one for one, place in zip(known, fold, strict=True) if place != number], asked)
        for number in range(FOLDS)
    ]
    counts = [
        (float((one > limits[place]).sum()), float(len(one)))
        for one, place in zip(known, fold.tolist(), strict=True)
    ]
    table: Table = {"above": np.array(counts)}
    rate = estimate(table, {"rate": _rate}, resamples=resamples, seed=seed)["rate"]
    return Abstention(
        limit=limit,
        asked=asked,
        rate=Interval(value=rate.value, low=rate.low, high=rate.high),
        frames=frames,
    )


def _limit(episodes: Sequence[Floats], asked: float) -> float:
    return float(np.quantile(np.concatenate(episodes), 1.0 - asked, method="higher"))


def _rate(table: Table) -> float:
    above, frames = table["above"].sum(0)
    return float(above / frames) if frames else math.nan
