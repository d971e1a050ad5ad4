"""The label table: one row per scored frame, in a parquet file beside a dataset nobody touched.

Identity and signals only, no timings: the same dataset, model and settings give the same bytes.
``SCHEMA_VERSION`` counts up when a reader of the last one would misread a table.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError, ProtocolMismatch, require
from robo_reward.gate_config import GateConfig
from robo_reward.signals import SIGNALS

SCHEMA_VERSION = 1
FILE = "labels.parquet"
GROUP_ROWS = 32_768
"""Rows that make a row group: whole episodes are added until there are so many."""
_META = b"robo_reward"


class LabelRow(msgspec.Struct, frozen=True, array_like=True):
    """One scored frame.

    Attributes:
        episode: Id within the dataset.
        episode_index: Place in the dataset.
        frame: Number of the frame in its episode.
        stamp_ns: When it was captured, on the recording's clock; ``None`` where it has none.
        cameras: Names, in the order of the query.
        frames: Content hashes of the newest frames, one per camera.
        reference: Content hashes of what delta and contrastive refer to; empty for none.
        history: Content hashes of the earlier frames that were looked at, instant by instant.
        instruction: The sentence that was asked about.
        signals: In the order of ``SIGNALS``; NaN where there is none.
        status: See ``signals.Status``.
        reason: Key of ``signals.REASONS``.
        saw_future: Whether frames behind this one had a part in the label.
    """

    episode: str
    episode_index: int
    frame: int
    stamp_ns: int | None
    cameras: tuple[str, ...]
    frames: tuple[str, ...]
    reference: tuple[str, ...]
    history: tuple[str, ...]
    instruction: str
    signals: tuple[float, ...]
    status: str
    reason: str
    saw_future: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelHead:
    """What all rows of a table have in common.

    Attributes:
        dataset: Fingerprint of the dataset.
        kind: Its format.
        model: Model name and weight hash.
        prompt: Hash of the prompt.
        calibration: Id of the calibration and the limit of uncertainty.
        signals: Names of the signals that the model gives.
        every: Each n-th frame of an episode has a row.
        gates: Operating points by instruction, ``""`` for all others; empty without calibration.
        skipped: Episode that could not be read → why.
    """

    dataset: str
    kind: str
    model: str
    prompt: str
    calibration: str
    signals: tuple[str, ...] = SIGNALS
    every: int = 1
    gates: Mapping[str, GateConfig] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def gate(self, instruction: str) -> GateConfig:
        """Return the operating point for an instruction; the default one without calibration."""
        return self.gates.get(instruction) or self.gates.get("") or GateConfig()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpisodeLabels:
    """The rows of one episode, n of them.

    Attributes:
        id: Id within the dataset.
        index: Place in the dataset.
        frames: ``(n,) int64`` numbers of the frames.
        stamps_ns: ``(n,) int64``; -1 where the recording has no clock.
        frame_ids: Content hash of the first camera's frame, one a row.
        instructions: One a row.
        signals: Name → ``(n,) float32``; NaN where there is none.
        status: One a row.
    """

    id: str
    index: int
    frames: NDArray[np.int64]
    stamps_ns: NDArray[np.int64]
    frame_ids: tuple[str, ...]
    instructions: tuple[str, ...]
    signals: dict[str, NDArray[np.float32]]
    status: tuple[str, ...]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.frames)


def write_labels(path: Path, head: LabelHead, episodes: Iterable[Sequence[LabelRow]]) -> int:
    """Write a table, whole or not at all; return the number of rows.

    Args:
        path: The parquet file.
        head: What all rows have in common.
        episodes: Rows of one episode each, in the order of the dataset; streamed.

    Raises:
        MissingDependency: pyarrow is not installed.
        OSError: The disk is full; nothing is left of the new file.
    """
    parquet: Any = require("pyarrow.parquet", extra="data")
    schema = _schema(head)
    draft = path.with_name(f".{path.name}.part")
    count = 0
    try:
        with draft.open("wb") as file:
            # zstd and dictionaries: the columns that never change cost nothing.
            with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
                for rows in _groups(episodes):
                    writer.write_table(_table(schema, head, rows), row_group_size=len(rows))
                    count += len(rows)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


class LabelTable:
    """A table that ``write_labels`` wrote, read one episode at a time.

    Args:
        path: The parquet file, or the folder that holds ``labels.parquet``.

    Raises:
        DatasetError: It is not there or no such table.
        ProtocolMismatch: It has another schema version.
    """

    def __init__(self, path: Path) -> None:
        parquet: Any = require("pyarrow.parquet", extra="data")
        arrow: Any = require("pyarrow", extra="data")
        self.path = path / FILE if path.is_dir() else path
        try:
            with self.path.open("rb") as file:
                schema = parquet.read_schema(file)
            plain = json.loads((schema.metadata or {})[_META])
        except OSError as error:
            raise DatasetError(f"no labels at {self.path}: {error.strerror}") from error
        except (arrow.ArrowInvalid, KeyError, ValueError) as error:
            raise DatasetError(f"{self.path} is no label table of robo-reward: {error}") from error
        version = plain.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ProtocolMismatch(
                f"{self.path} has label schema {version}, this version reads {SCHEMA_VERSION}; "
                "relabel again"
            )
        self.head: LabelHead = msgspec.convert(plain, LabelHead)
        self._parquet = parquet

    def __iter__(self) -> Iterator[EpisodeLabels]:
        """Yield the episodes in the order of the dataset."""
        with self.path.open("rb") as file:
            table = self._parquet.ParquetFile(file)
            for group in range(table.num_row_groups):
                columns = table.read_row_group(group).to_pydict()
                yield from _episodes(columns)


def _schema(head: LabelHead) -> Any:
    arrow: Any = require("pyarrow", extra="data")
    text, names = arrow.string(), arrow.list_(arrow.string())
    columns = [
        ("schema_version", arrow.int32()),
        ("dataset", text),
        ("episode", text),
        ("episode_index", arrow.int64()),
        ("frame", arrow.int64()),
        ("stamp_ns", arrow.int64()),
        ("cameras", names),
        ("frame_ids", names),
        ("reference_ids", names),
        ("history_ids", names),
        ("instruction", text),
        ("model", text),
        ("prompt", text),
        ("calibration", text),
        *((name, arrow.float32()) for name in SIGNALS),
        ("status", text),
        ("reason", text),
        ("saw_future", arrow.bool_()),
    ]
    plain = {"schema_version": SCHEMA_VERSION, **msgspec.to_builtins(head)}
    text_of_head = json.dumps(plain, sort_keys=True, ensure_ascii=False)
    return arrow.schema(columns, metadata={_META: text_of_head.encode()})


def _groups(episodes: Iterable[Sequence[LabelRow]]) -> Iterator[list[LabelRow]]:
    rows: list[LabelRow] = []
    for episode in episodes:
        rows.extend(episode)
        if len(rows) >= GROUP_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _table(schema: Any, head: LabelHead, rows: Sequence[LabelRow]) -> Any:
    arrow: Any = require("pyarrow", extra="data")
    same = {
        "schema_version": SCHEMA_VERSION,
        "dataset": head.dataset,
        "model": head.model,
        "prompt": head.prompt,
        "calibration": head.calibration,
    }
    signals = np.array([row.signals for row in rows], np.float32)
    columns: dict[str, Any] = {name: [value] * len(rows) for name, value in same.items()}
    columns |= {name: signals[:, place] for place, name in enumerate(SIGNALS)}
    columns["frame_ids"] = [row.frames for row in rows]
    columns["reference_ids"] = [row.reference for row in rows]
    columns["history_ids"] = [row.history for row in rows]
    for name in ("episode", "episode_index", "frame", "stamp_ns", "cameras", "instruction"):
        columns[name] = [getattr(row, name) for row in rows]
    for name in ("status", "reason", "saw_future"):
        columns[name] = [getattr(row, name) for row in rows]
    arrays = [arrow.array(columns[entry.name], type=entry.type) for entry in schema]
    return arrow.Table.from_arrays(arrays, schema=schema)


def _episodes(columns: Mapping[str, list[Any]]) -> Iterator[EpisodeLabels]:
    index = np.array(columns["episode_index"], np.int64)
    edges = [0, *(np.flatnonzero(np.diff(index)) + 1), len(index)]
    for first, last in itertools.pairwise(edges):
        part = slice(int(first), int(last))
        stamps = [-1 if stamp is None else stamp for stamp in columns["stamp_ns"][part]]
        yield EpisodeLabels(
            id=columns["episode"][part.start],
            index=int(index[part.start]),
            frames=np.array(columns["frame"][part], np.int64),
            stamps_ns=np.array(stamps, np.int64),
            frame_ids=tuple(ids[0] if ids else "" for ids in columns["frame_ids"][part]),
            instructions=tuple(columns["instruction"][part]),
            signals={name: np.array(columns[name][part], np.float32) for name in SIGNALS},
            status=tuple(columns["status"][part]),
        )
