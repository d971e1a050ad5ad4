"""Which reader opens a path: one line a format, nothing imported until it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from robo_reward.errors import DatasetError

from .recorded import Dataset

HDF5_SUFFIXES = frozenset({".hdf5", ".h5", ".hdf"})


def open_dataset(path: Path) -> Dataset:
    """Open a dataset of any format; no frame is read.

    Args:
        path: A file or a folder.

    Raises:
        DatasetError: There is nothing, or nothing that any reader knows.
        MissingDependency: The reader of this format needs a package that is not installed.
    """
    if not path.exists():
        raise DatasetError(f"no dataset {path}; give recordings, a video, or a folder of them")
    for looks, reader in _FORMATS:
        if looks(path):
            module, _, name = reader.partition(":")
            opened: Dataset = getattr(importlib.import_module(module), name)(path)
            return opened
    raise AssertionError("the last reader takes everything")


def _holds(path: Path, test: Callable[[Path], bool]) -> bool:
    return test(path) if path.is_file() else any(test(p) for p in path.iterdir() if p.is_file())


def _is_log(path: Path) -> bool:
    def test(file: Path) -> bool:
        return ".mcap" in file.suffixes

    return _holds(path, test)


def _is_hdf5(path: Path) -> bool:
    return _holds(path, lambda file: file.suffix.lower() in HDF5_SUFFIXES)


def _is_lerobot(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


_FORMATS: tuple[tuple[Callable[[Path], bool], str], ...] = (
    (_is_lerobot, "robo_reward.datasets.lerobot_dataset:LeRobotDataset"),
    (_is_hdf5, "robo_reward.datasets.hdf5_dataset:Hdf5Dataset"),
    (_is_log, "robo_reward.datasets.log_dataset:LogDataset"),
    (lambda path: True, "robo_reward.datasets.video_dataset:VideoDataset"),
)
"""Test and ``module:class``, the first that says yes; a video is what is left."""
