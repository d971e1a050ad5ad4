"""Labels as a new Minari dataset, which any Minari reader opens.

The data are copied byte for byte, so that no image is compressed a second time. In the copy
``rewards`` and ``terminations`` are the model's; the environment's own are kept in ``infos`` as
``recorded_rewards`` and ``recorded_terminations``, the signals as ``label_<signal>``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.datasets.hdf5_dataset import open_file
from robo_reward.datasets.labels import EpisodeLabels, LabelTable
from robo_reward.datasets.minari_dataset import MinariDataset, MinariEpisode
from robo_reward.errors import DatasetError
from robo_reward.shaping import ShapingConfig

from .joined import joined, rows_for
from .rewards import Transitions, transitions

MAIN = "main_data.hdf5"


def write_copy(
    dataset: MinariDataset, table: LabelTable, folder: Path, *, shaping: ShapingConfig
) -> Path:
    """Write the new dataset into ``folder``; whole or not at all.

    Raises:
        DatasetError: The data are not HDF5, frames have no score, or episodes no labels.
        OSError: The disk is full.
    """
    if not (dataset.data / MAIN).is_file():
        raise DatasetError(f"{dataset.data} is not in Minari's hdf5 format; the table goes with it")
    if table.head.skipped or len(dataset) != sum(1 for _ in table):
        raise DatasetError("a Minari dataset has no gaps: every episode needs labels")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        (draft / "data").mkdir(parents=True)
        shutil.copyfile(dataset.data / MAIN, draft / "data" / MAIN)
        _describe(dataset, table, draft / "data" / "metadata.json")
        with open_file(draft / "data" / MAIN, "r+") as file:
            for episode, labels in joined(dataset, table):
                assert isinstance(episode, MinariEpisode)
                made = transitions(labels, table.head, shaping)
                _write(file[f"episode_{episode.number}"], table, labels, made)
        shutil.rmtree(folder, ignore_errors=True)
        return draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(group: Any, table: LabelTable, labels: EpisodeLabels, made: Transitions) -> None:
    steps = len(group["rewards"])
    # One frame a state: that of the reset and one behind every step; or the last one is missing.
    if len(labels) != steps:
        rows_for(labels, steps + 1)
    infos = group.require_group("infos")
    for name in ("rewards", "terminations"):
        group.move(name, f"infos/recorded_{name}")
    group.create_dataset("rewards", data=made.rewards[:steps].astype(np.float64))
    group.create_dataset("terminations", data=made.dones[:steps])
    for signal in table.head.signals:
        infos.create_dataset(f"label_{signal}", data=labels.signals[signal])
    infos.create_dataset("label_is_done", data=made.is_done)


def _describe(dataset: MinariDataset, table: LabelTable, path: Path) -> None:
    known = json.loads((dataset.data / "metadata.json").read_text(encoding="utf-8"))
    # The version stands at the end of an id: "namespace/name-v2" -> "namespace/name-labelled-v2".
    known["dataset_id"] = re.sub(r"(-v\d+)?$", r"-labelled\1", known["dataset_id"], count=1)
    known["reward_model"] = table.head.model
    path.write_text(json.dumps(known), encoding="utf-8")
