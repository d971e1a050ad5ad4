"""What a run would cost, measured on its own first frames."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

from robo_reward.datasets.recorded import Dataset, Recorded
from robo_reward.datasets.video_dataset import VideoEpisode
from robo_reward.errors import DatasetError

from .engine import Tally, chosen, label_episodes
from .judging import Judge
from .options import RelabelOptions


class _Enough(Exception):
    """Ends the sample."""


def price(
    dataset: Dataset,
    judge: Judge,
    options: RelabelOptions,
    *,
    episodes: int,
    readers: int,
    for_s: float,
) -> dict[str, Any]:
    """Score for a few seconds and say what the whole would take.

    Args:
        dataset: What would be labelled.
        judge: What would answer.
        options: How.
        episodes: Number of episodes.
        readers: Threads that decode.
        for_s: How long the sample may take, seconds; the first batch is always finished.

    Returns:
        Plain values; ``seconds`` and ``frames`` are ``None`` where no length is known.
    """
    frames = _frames(dataset, options)
    sample = Tally(total=episodes)
    first_s = 0.0
    start = time.monotonic()

    def look(now: Tally) -> None:
        nonlocal sample, first_s
        if not first_s:
            # The first batch also opens files and warms the model up.
            first_s, now.started_s = time.monotonic(), time.monotonic()
        sample = now
        if time.monotonic() - start > for_s:
            raise _Enough

    with (
        tempfile.TemporaryDirectory(prefix="robo-reward-price-") as folder,
        contextlib.suppress(_Enough),
    ):
        label_episodes(
            dataset,
            judge,
            options,
            Path(folder),
            total=episodes,
            readers=readers,
            on_progress=look,
        )
    warm = max(0, sample.frames - options.batch)
    took = time.monotonic() - (first_s if warm else start)
    rate = (warm or sample.frames) / max(took, 1e-9)
    return {
        "dry_run": True,
        "dataset": str(dataset.path),
        "kind": dataset.kind,
        "model": judge.info().model,
        "episodes": episodes,
        "frames": frames,
        "sampled_frames": sample.frames,
        "frames_per_s": round(rate, 1),
        "seconds": None if frames is None else round(frames / rate, 3) if rate else None,
        "skipped": dict(sample.skipped),
    }


def _frames(dataset: Dataset, options: RelabelOptions) -> int | None:
    total = 0
    for episode in chosen(dataset, options):
        length = _length(episode)
        if length is None:
            return None
        total += -(-length // options.every)
    return total


def _length(episode: Recorded) -> int | None:
    if episode.length is not None:
        return episode.length
    if isinstance(episode, VideoEpisode):
        try:
            return episode.guess_length() or None
        except DatasetError:
            return 0
    return None
