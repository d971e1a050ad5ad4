"""A dataset beside its labels, episode by episode, neither held as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from robo_reward.datasets.labels import EpisodeLabels, LabelTable
from robo_reward.datasets.recorded import Dataset, Recorded
from robo_reward.errors import DatasetError


def joined(dataset: Dataset, table: LabelTable) -> Iterator[tuple[Recorded, EpisodeLabels]]:
    """Yield the labelled episodes in order; those that were skipped or not asked for are left out.

    Raises:
        DatasetError: The labels are those of another dataset.
    """
    rows = iter(table)
    labels = next(rows, None)
    for episode in dataset:
        if labels is None:
            return
        if episode.index < labels.index:
            continue
        if episode.id != labels.id:
            raise DatasetError(
                f"{table.path} has labels of episode {labels.id!r} where {dataset.path} has "
                f"{episode.id!r}: they do not belong together"
            )
        yield episode, labels
        labels = next(rows, None)
    if labels is not None:
        raise DatasetError(f"{dataset.path} has no episode {labels.id!r}, {table.path} has")


def rows_for(labels: EpisodeLabels, length: int) -> None:
    """Refuse labels that do not have one row for each of ``length`` frames.

    Raises:
        DatasetError: They do not.
    """
    if len(labels) != length:
        raise DatasetError(
            f"episode {labels.id} has {length} frames and {len(labels)} labels: they do not "
            "belong together"
        )
