"""Where the labels and what the recording itself says of success disagree: reported, not mended."""

from __future__ import annotations

from typing import Any

from robo_reward.datasets.labels import LabelTable
from robo_reward.datasets.recorded import Dataset
from robo_reward.errors import DatasetError

from .joined import joined
from .rewards import gate_of

NAMED = 20


def compare_with_truth(dataset: Dataset, table: LabelTable) -> dict[str, Any]:
    """Compare the gate at the end of each episode with the success that was recorded.

    Returns:
        Counts, and the first episodes of either disagreement; empty where nobody recorded any.
    """
    agree = 0
    false_done: list[str] = []
    missed: list[str] = []
    for episode, labels in joined(dataset, table):
        try:
            success = episode.truth().success
        except DatasetError:
            continue
        if success is None:
            continue
        is_done = bool(gate_of(labels, table.head).any())
        if is_done == success:
            agree += 1
        else:
            (missed if success else false_done).append(episode.id)
    known = agree + len(false_done) + len(missed)
    if not known:
        return {}
    return {
        "episodes_with_truth": known,
        "agree": agree,
        "done_but_recorded_as_failure": len(false_done),
        "not_done_but_recorded_as_success": len(missed),
        "done_but_failure": false_done[:NAMED],
        "not_done_but_success": missed[:NAMED],
    }
