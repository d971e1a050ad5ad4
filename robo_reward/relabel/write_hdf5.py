"""Labels into HDF5 of robomimic, LIBERO and ALOHA: a copy, or the file itself on request.

``rewards`` and ``dones`` are written where the demonstration has none. What is there already, a
simulator's word, stays where it is, and the model's go to ``model_rewards`` and ``model_dones``;
with ``replace`` (copies only) the recorded ones are kept as ``recorded_rewards`` and
``recorded_dones``. The signals stand in the group ``labels`` of each demonstration.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.datasets.hdf5_dataset import Hdf5Dataset, Hdf5Episode, open_file
from robo_reward.datasets.labels import EpisodeLabels, LabelHead, LabelTable
from robo_reward.errors import DatasetError
from robo_reward.shaping import ShapingConfig

from .joined import joined, rows_for
from .rewards import Transitions, transitions

GROUP = "labels"


def write_copy(
    dataset: Hdf5Dataset,
    table: LabelTable,
    folder: Path,
    *,
    shaping: ShapingConfig,
    replace: bool = False,
) -> list[Path]:
    """Write a copy of every file with rewards in it; whole files or none.

    Returns:
        The copies.

    Raises:
        DatasetError: A frame has no score.
        OSError: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = dataset.files().root
    drafts: dict[Path, Path] = {}
    try:
        for path in dataset.paths:
            target = folder / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            drafts[path] = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copyfile(path, drafts[path])
        for episode, labels in joined(dataset, table):
            assert isinstance(episode, Hdf5Episode)
            _write(
                drafts[episode.path], episode.group, table.head, labels, shaping, replace=replace
            )
        return [draft.replace(folder / path.relative_to(root)) for path, draft in drafts.items()]
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def write_in_place(
    dataset: Hdf5Dataset, table: LabelTable, *, shaping: ShapingConfig
) -> list[Path]:
    """Add rewards to the files themselves; nothing that is there is changed or removed.

    Raises:
        DatasetError: A frame has no score, or a file holds labels already.
    """
    work = list(joined(dataset, table))
    for episode, labels in work:
        assert isinstance(episode, Hdf5Episode)
        with _group(episode.path, episode.group, "r") as group:
            if GROUP in group:
                raise DatasetError(f"{episode.path} {episode.group} holds labels already")
            rows_for(labels, _frames(group))
        transitions(labels, table.head, shaping)  # all can be written, or nothing is
    for episode, labels in work:
        assert isinstance(episode, Hdf5Episode)
        _write(episode.path, episode.group, table.head, labels, shaping, replace=False)
    return list(dataset.paths)


def _write(
    path: Path,
    name: str,
    head: LabelHead,
    labels: EpisodeLabels,
    shaping: ShapingConfig,
    *,
    replace: bool,
) -> None:
    made = transitions(labels, head, shaping)
    with _group(path, name, "r+") as group:
        rows_for(labels, _frames(group))
        prefix = "model_" if not replace and ("rewards" in group or "dones" in group) else ""
        for key in ("rewards", "dones"):
            if replace and key in group:
                group.move(key, f"recorded_{key}")
        _add(group, prefix, made)
        inside = group.create_group(GROUP)
        for signal in head.signals:
            inside.create_dataset(signal, data=labels.signals[signal])
        inside.create_dataset("is_done", data=made.is_done)
        inside.attrs["model"] = head.model
        inside.attrs["prompt"] = head.prompt
        inside.attrs["calibration"] = head.calibration
        inside.attrs["instruction"] = labels.instructions[0]


def _add(group: Any, prefix: str, made: Transitions) -> None:
    # robomimic's own types: rewards float64, dones int64.
    group.create_dataset(f"{prefix}rewards", data=made.rewards.astype(np.float64))
    group.create_dataset(f"{prefix}dones", data=made.dones.astype(np.int64))


@contextmanager
def _group(path: Path, name: str, mode: str) -> Iterator[Any]:
    with open_file(path, mode) as file:
        yield file[name]


def _frames(group: Any) -> int:
    from robo_reward.datasets.hdf5_dataset import images_of

    return min(len(node) for node in images_of(group).values())
