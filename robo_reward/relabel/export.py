"""Where labels go besides their table, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from robo_reward.datasets.labels import LabelTable
from robo_reward.datasets.recorded import Dataset
from robo_reward.errors import ConfigError
from robo_reward.shaping import ShapingConfig

Target = Literal["report", "ranking", "jsonl", "overlay", "progress", "copy", "in-place"]
_TAKES: dict[Target, tuple[str, ...]] = {
    "progress": ("lerobot",),
    "copy": ("hdf5", "lerobot", "minari", "mcap", "rosbag2"),
    "in-place": ("hdf5",),
}
"""Target → the formats it is for; one that is not named takes all."""


def check_target(target: Target, kind: str) -> None:
    """Refuse, before anything is scored, what a format has no place for.

    Raises:
        ConfigError: It has none.
    """
    takes = _TAKES.get(target)
    if takes is not None and kind not in takes:
        raise ConfigError(
            f"--write {target} is for {', '.join(takes)}; this dataset is {kind}. "
            "report, ranking, jsonl and overlay go with every format"
        )


def export(
    target: Target,
    dataset: Dataset,
    table: LabelTable,
    folder: Path,
    *,
    shaping: ShapingConfig,
    replace: bool = False,
) -> list[Path]:
    """Write the labels somewhere else too.

    Args:
        target: Where.
        dataset: What was labelled.
        table: Its labels.
        folder: Of the run; copies stand in ``copy`` below it.
        shaping: How rewards are made from the signals.
        replace: Rewards that a copy holds already make way; they are kept under another name.

    Returns:
        What was written.

    Raises:
        ConfigError: The format has no place for it.
        DatasetError: Labels and dataset do not go together, or frames have no score.
    """
    from robo_reward.datasets.hdf5_dataset import Hdf5Dataset
    from robo_reward.datasets.lerobot_dataset import LeRobotDataset
    from robo_reward.datasets.minari_dataset import MinariDataset
    from robo_reward.datasets.ros_dataset import RosDataset

    from . import write_hdf5, write_lerobot, write_mcap, write_minari, write_plain
    from .quality import write_ranking
    from .report_page import write_page
    from .truth import compare_with_truth

    check_target(target, dataset.kind)
    if target == "report":
        return [write_page(dataset, table, folder, truth=compare_with_truth(dataset, table))]
    if target == "ranking":
        return [write_ranking(table, folder)]
    if target == "jsonl":
        return [write_plain.write_lines(table, folder)]
    if target == "overlay":
        return write_plain.write_films(dataset, table, folder)
    if isinstance(dataset, Hdf5Dataset):
        if target == "in-place":
            return write_hdf5.write_in_place(dataset, table, shaping=shaping)
        return write_hdf5.write_copy(
            dataset, table, folder / "copy", shaping=shaping, replace=replace
        )
    if isinstance(dataset, LeRobotDataset):
        if target == "progress":
            return [write_lerobot.write_progress(dataset, table, folder)]
        return [write_lerobot.write_copy(dataset, table, folder / "copy", shaping=shaping)]
    if isinstance(dataset, RosDataset):
        return write_mcap.write_copy(dataset, table, folder / "copy")
    if isinstance(dataset, MinariDataset):
        return [write_minari.write_copy(dataset, table, folder / "copy", shaping=shaping)]
    raise AssertionError(f"no writer for {target} and {dataset.kind}")
