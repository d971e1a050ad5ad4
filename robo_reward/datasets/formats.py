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


def _mcaps(path: Path) -> list[Path]:
    names = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    return [name for name in names if ".mcap" in name.suffixes]


def _is_log(path: Path) -> bool:
    from .log_reader import is_recording

    found = _mcaps(path)
    # One that cannot be read is left to the reader of recordings, which names it.
    return bool(found) and any(is_recording(name) is not False for name in found)


def _is_ros(path: Path) -> bool:
    if path.is_dir() and any((p / "metadata.yaml").is_file() for p in (path, *path.iterdir())):
        return True
    return bool(_mcaps(path))


def _is_hdf5(path: Path) -> bool:
    return _holds(path, lambda file: file.suffix.lower() in HDF5_SUFFIXES)


def _is_lerobot(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


def _is_rlds(path: Path) -> bool:
    return _holds(path, lambda file: ".tfrecord" in file.name)


def _is_minari(path: Path) -> bool:
    from .minari_dataset import is_minari

    return path.is_dir() and is_minari(path)


_ROS = "robo_reward.datasets.ros_dataset:RosDataset"
_FORMATS: tuple[tuple[Callable[[Path], bool], str], ...] = (
    (_is_lerobot, "robo_reward.datasets.lerobot_dataset:LeRobotDataset"),
    (_is_minari, "robo_reward.datasets.minari_dataset:MinariDataset"),
    (_is_rlds, "robo_reward.datasets.rlds_dataset:RldsDataset"),
    (_is_hdf5, "robo_reward.datasets.hdf5_dataset:Hdf5Dataset"),
    (lambda path: (path / "metadata.yaml").is_file(), _ROS),
    (_is_log, "robo_reward.datasets.log_dataset:LogDataset"),
    (_is_ros, _ROS),
    (lambda path: True, "robo_reward.datasets.video_dataset:VideoDataset"),
)
"""Test and ``module:class``, the first that says yes; a video is what is left."""
