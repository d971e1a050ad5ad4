"""Synthetic episodes whose scores are painted into their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robo_reward.datasets.episode import Episode, Quality
from robo_reward.models.base import ScoreArrays
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.query import Query


def painted(
    progress: Sequence[float],
    *,
    number: int = 0,
    success: bool | None = None,
    done: Sequence[float] | None = None,
    truth: Sequence[float] | None = None,
    alternatives: Sequence[str] = ("push the blue cube", "open the drawer"),
    family: str = "push",
    size: int = 8,
    kind: str | None = None,
) -> Episode:
    """Make an episode that ``oracle-pixels`` scores as given; the truth is the same by default."""
    won = progress[-1] > 0.97 if success is None else success
    done = [float(p > 0.97) for p in progress] if done is None else done
    salts = range(1000 * number, 1000 * number + len(progress))
    images = [paint(p, d, size=size, salt=s) for p, d, s in zip(progress, done, salts, strict=True)]
    true = np.array(progress if truth is None else truth, np.float32)
    quality: Quality = "success" if won else "failure"
    return Episode(
        id=f"episode-{number}",
        instruction="push the red cube",
        images={"front": np.stack(images)},
        progress=true,
        done=true > 0.97,
        success=won,
        quality=quality,
        meta={
            "family": family,
            "kind": kind or ("expert" if won else "half-way"),
            "alternatives": list(alternatives),
            "never_true": list(alternatives),
            "other_tasks": {"push": "push the pink ball", "lift": "lift the yellow can"},
            "paraphrases": {
                "grammar": ["slide the red cube", "shove the red cube"],
                "held_out": ["red cube: push!"],
            },
        },
    )


def ramp(frames: int, *, end: float = 1.0) -> list[float]:
    """Progress from 0 to ``end`` in even steps."""
    return [float(p) for p in np.linspace(0.0, end, frames)]


MEANS_THE_SAME = {
    "push the red cube",
    "slide the red cube",
    "shove the red cube",
    "red cube: push!",
}


class Listener(OraclePixels):
    """Reads the pixels, but gives a tenth of the progress where the sentence means another goal."""

    def _score(self, queries, newest, reference, history):  # type: ignore[no-untyped-def]
        arrays = super()._score(queries, newest, reference, history)
        return _scaled(arrays, queries)


def _scaled(arrays: ScoreArrays, queries: Sequence[Query]) -> ScoreArrays:
    heard = [1.0 if q.task.text in MEANS_THE_SAME else 0.1 for q in queries]
    factor = np.array(heard, np.float32)
    return ScoreArrays(
        progress=arrays.progress * factor,
        progress_delta=arrays.progress_delta * factor,
        done=arrays.done * factor,
        contrastive=arrays.contrastive,
        uncertainty=arrays.uncertainty,
    )


class Clock(OraclePixels):
    """Counts the steps of the clip and looks at nothing: the shortcut that VROC exposes."""

    def _score(self, queries, newest, reference, history):  # type: ignore[no-untyped-def]
        arrays = super()._score(queries, newest, reference, history)
        steps = np.array([q.step / 40 for q in queries], np.float32)
        return ScoreArrays(
            progress=steps,
            progress_delta=np.full(len(queries), 1 / 40, np.float32),
            done=arrays.done * 0,
            contrastive=np.ones(len(queries), np.float32),
            uncertainty=arrays.uncertainty,
        )


FAMILIES: dict[str, object] = {"push": None, "lift": None}
"""What ``record`` records, as a suite names its families."""


def record(split: str, *, episodes: int, seed: int = 0, renderer: str = "gl") -> Iterator[Episode]:
    """A recorder as a suite has one: every third episode stops half-way."""
    for index in range(episodes):
        end = 0.5 if index % 3 == 2 else 1.0
        family = ("push", "lift")[index % 2]
        yield painted(ramp(12 + index, end=end), number=100 * seed + index, family=family, size=16)
