"""Whole episodes from a path of any format, for what needs them in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from robo_reward.errors import ConfigError, DatasetError

from .episode import Episode
from .formats import open_dataset
from .recorded import Dataset

_log = logging.getLogger(__name__)


def open_episodes(path: Path, *, instruction: str = "", every: int = 1) -> Iterator[Episode]:
    """Read the episodes of a file or folder, one at a time, in their order.

    Args:
        path: Anything that ``open_dataset`` reads.
        instruction: For episodes that bring none; a video never does.
        every: Take each n-th frame only; recordings of the recorder are taken whole.

    Raises:
        DatasetError: There is nothing that can be read, or a file is broken. Of several recordings
            a broken one is left out and logged.
        ConfigError: ``every`` makes no sense.
    """
    if every < 1:
        raise ConfigError(f"every must be >= 1, got {every}")
    dataset = open_dataset(path)
    return _load(dataset, instruction=instruction, every=1 if dataset.kind == "log" else every)


def _load(dataset: Dataset, *, instruction: str, every: int) -> Iterator[Episode]:
    for recorded in dataset:
        try:
            episode = recorded.load(every=every)
        except DatasetError as error:
            if dataset.kind == "video":
                raise
            _log.warning("skipped: %s", error)
            continue
        yield replace(episode, instruction=episode.instruction or instruction)
