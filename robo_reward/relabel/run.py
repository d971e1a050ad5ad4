"""The folder of a run: begun, gone on with, or finished already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from robo_reward.client.source import ModelInfo
from robo_reward.datasets.labels import FILE
from robo_reward.datasets.recorded import Dataset
from robo_reward.errors import ConfigError

from .journal import PATTERN
from .options import RelabelOptions

RECORD = "run.json"
State = Literal["fresh", "unfinished", "finished"]


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What ``run.json`` says: which run the folder belongs to.

    Attributes:
        key: See ``RelabelOptions.key``.
        dataset: Path as it was given.
        fingerprint: Of the dataset.
        model: Model name and weight hash.
    """

    key: str
    dataset: str
    fingerprint: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A folder that is ready to be worked in.

    Attributes:
        folder: Holds the journals, later the table.
        record: Which run it is.
        state: What was there.
    """

    folder: Path
    record: RunRecord
    state: State


def record_of(dataset: Dataset, info: ModelInfo, options: RelabelOptions) -> RunRecord:
    """Name a run."""
    fingerprint = dataset.fingerprint()
    key = options.key(dataset=fingerprint, info=info)
    return RunRecord(key=key, dataset=str(dataset.path), fingerprint=fingerprint, model=info.model)


def open_run(folder: Path, record: RunRecord, *, resume: bool, overwrite: bool) -> Run:
    """Make a folder ready, or find what an earlier run left in it.

    Args:
        folder: Made if need be.
        record: The run that is wanted.
        resume: Go on with an earlier run that has the same key.
        overwrite: Begin anew where the folder holds another run, or one that must not go on.

    Raises:
        ConfigError: The folder holds something else.
    """
    there = state_of(folder, record)
    state: State = "fresh" if there == "other" else there
    if there == "other" or (there != "fresh" and not resume):
        if not overwrite:
            why = "another run" if there == "other" else f"this run, {there}"
            raise ConfigError(f"--out {folder} holds {why}; choose another folder or add --yes")
        for path in [folder / FILE, *folder.glob(PATTERN)]:
            path.unlink(missing_ok=True)
        state = "fresh"
    folder.mkdir(parents=True, exist_ok=True)
    if state == "fresh":
        draft = folder / f".{RECORD}.{os.getpid()}"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        draft.replace(folder / RECORD)
    return Run(folder=folder, record=record, state=state)


def state_of(folder: Path, record: RunRecord) -> State | Literal["other"]:
    """Return what a folder holds of a run."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return "fresh"
    try:
        known = msgspec.json.decode((folder / RECORD).read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError):
        return "other"
    if known.key != record.key:
        return "other"
    return "finished" if (folder / FILE).is_file() else "unfinished"
