"""Labels into what LeRobot reads: the progress parquet of its RA-BC, or a copy with columns.

The progress parquet has a row for every frame; between labelled frames (a stride) progress is
interpolated linearly, as LeRobot's own scripts do.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.labels import EpisodeLabels, LabelTable
from robo_reward.datasets.lerobot_dataset import LeRobotDataset, LeRobotEpisode, read_rows
from robo_reward.errors import DatasetError, require
from robo_reward.shaping import ShapingConfig

from .joined import joined, rows_for
from .rewards import transitions

PROGRESS = "progress.parquet"
COLUMNS = ("progress", "progress_delta", "done", "contrastive", "uncertainty")
PREFIX = "label."


def write_progress(dataset: LeRobotDataset, table: LabelTable, folder: Path) -> Path:
    """Write ``progress.parquet``: index, episode_index, frame_index, progress_sparse.

    Raises:
        DatasetError: Frames have no score at all.
    """
    arrow: Any = require("pyarrow", extra="data")
    parquet: Any = require("pyarrow.parquet", extra="data")
    schema = arrow.schema(
        [
            ("index", arrow.int64()),
            ("episode_index", arrow.int64()),
            ("frame_index", arrow.int64()),
            ("progress_sparse", arrow.float32()),
        ],
        metadata={b"reward_model_path": table.head.model.encode()},
    )
    path = folder / PROGRESS
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with parquet.ParquetWriter(draft, schema) as writer:
            for episode, labels in joined(dataset, table):
                assert isinstance(episode, LeRobotEpisode)
                rows = read_rows(episode.place, columns=["index", "frame_index"])
                frames = np.array(rows["frame_index"], np.int64)
                columns = {
                    "index": rows["index"],
                    "episode_index": [episode.place.number] * len(frames),
                    "frame_index": frames,
                    "progress_sparse": _progress(labels, frames),
                }
                writer.write_table(arrow.table(columns, schema=schema))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_copy(
    dataset: LeRobotDataset, table: LabelTable, folder: Path, *, shaping: ShapingConfig
) -> Path:
    """Write a copy of the dataset whose tables have the signals as columns ``label.…``.

    Where the dataset has no ``next.reward`` and ``next.done`` of its own, the model's are written
    under these names; else as ``label.reward`` and ``label.is_done``.

    Raises:
        DatasetError: Frames have no score, or episodes no labels: LeRobot's columns have no gaps.
        OSError: The disk is full.
    """
    if table.head.skipped or len(dataset) != sum(1 for _ in table):
        raise DatasetError("a LeRobot column has no gaps: every episode needs labels")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.copytree(dataset.path, draft)
        own = "next.reward" in dataset.info["features"]
        names = ("label.reward", "label.is_done") if own else ("next.reward", "next.done")
        kinds = dict.fromkeys([*(PREFIX + name for name in COLUMNS), names[0]], "float32")
        kinds[names[1]] = "bool"
        values = _values(dataset, table, shaping, names)
        stats: dict[str, list[NDArray[Any]]] = {}
        for data, columns in _by_file(values):
            target = draft / data.relative_to(dataset.path)
            _extend(target, columns)
            for name, column in columns.items():
                stats.setdefault(name, []).append(column.astype(np.float64))
        _describe(draft, kinds, {name: np.concatenate(parts) for name, parts in stats.items()})
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


Columns = dict[str, NDArray[Any]]


def _values(
    dataset: LeRobotDataset, table: LabelTable, shaping: ShapingConfig, names: tuple[str, str]
) -> Iterator[tuple[Path, int, Columns]]:
    """Yield table file, episode number and the new columns of each episode."""
    for episode, labels in joined(dataset, table):
        assert isinstance(episode, LeRobotEpisode)
        rows_for(labels, episode.place.length)
        made = transitions(labels, table.head, shaping)
        columns: Columns = {PREFIX + name: labels.signals[name] for name in COLUMNS}
        columns |= {names[0]: made.rewards, names[1]: made.dones}
        yield episode.place.data, episode.place.number, columns


def _by_file(values: Iterator[tuple[Path, int, Columns]]) -> Iterator[tuple[Path, Columns]]:
    """Join the episodes that stand in one table; v3 puts many into one file, in order."""
    current: Path | None = None
    parts: list[Columns] = []
    for data, _, columns in values:
        if current is not None and data != current:
            yield current, _stacked(parts)
            parts = []
        current = data
        parts.append(columns)
    if current is not None:
        yield current, _stacked(parts)


def _stacked(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _extend(path: Path, columns: Columns) -> None:
    """Add columns to a table, and to the description of its features if it carries one."""
    arrow: Any = require("pyarrow", extra="data")
    parquet: Any = require("pyarrow.parquet", extra="data")
    table = parquet.read_table(path)
    lengths = {name: len(column) for name, column in columns.items()}
    if set(lengths.values()) != {table.num_rows}:
        raise DatasetError(f"{path} has {table.num_rows} rows, the labels {lengths}")
    for name, column in columns.items():
        table = table.append_column(name, arrow.array(column))
    meta = dict(table.schema.metadata or {})
    # The description that the package `datasets` leaves would hide the new columns.
    meta.pop(b"huggingface", None)
    parquet.write_table(table.replace_schema_metadata(meta or None), path)


def _describe(folder: Path, kinds: dict[str, str], values: Columns) -> None:
    path = folder / "meta" / "info.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    for name, kind in kinds.items():
        info["features"][name] = {"dtype": kind, "shape": [1], "names": None}
    path.write_text(json.dumps(info, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    path = folder / "meta" / "stats.json"
    if not path.is_file():
        return
    stats = json.loads(path.read_text(encoding="utf-8"))
    for name, column in values.items():
        stats[name] = {
            "min": [float(column.min())],
            "max": [float(column.max())],
            "mean": [float(column.mean())],
            "std": [float(column.std())],
            "count": [len(column)],
        }
    path.write_text(json.dumps(stats, indent=4) + "\n", encoding="utf-8")


def _progress(labels: EpisodeLabels, frames: NDArray[np.int64]) -> NDArray[np.float32]:
    progress = labels.signals["progress"]
    known = ~np.isnan(progress)
    if not known.any():
        raise DatasetError(f"episode {labels.id} has no progress at all")
    return np.interp(frames, labels.frames[known], progress[known]).astype(np.float32)
