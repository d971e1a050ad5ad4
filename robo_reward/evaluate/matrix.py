"""The task × video matrix: final progress of successful videos under right and false tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics import mean_finite
from .scoring import EpisodeScores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskMatrix:
    """Mean final progress; what was not known to be right or false is NaN.

    Attributes:
        tasks: Names of the rows: the task that was asked about.
        videos: Names of the columns: the task that was carried out.
        progress: ``(tasks, videos)``: on the diagonal the episodes' own instructions, off it
            instructions of the row's task that are false of each video.
        other_things: ``(videos,)`` an instruction of the video's own task about things that are
            not there.
        counts: ``(videos,) int`` successful videos behind each column.
    """

    tasks: tuple[str, ...]
    videos: tuple[str, ...]
    progress: NDArray[np.float64]
    other_things: NDArray[np.float64]
    counts: NDArray[np.int64]

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "tasks": list(self.tasks),
            "videos": list(self.videos),
            "final_progress": self.progress.tolist(),
            "same_task_other_things": self.other_things.tolist(),
            "videos_counted": self.counts.tolist(),
        }


def task_matrix(videos: Sequence[tuple[str, EpisodeScores]]) -> TaskMatrix:
    """Fill the matrix.

    Args:
        videos: Task and scores of every *successful* episode.
    """
    columns = sorted({task for task, _ in videos})
    asked = {other for _, scores in videos for other in scores.other_tasks}
    rows = [*columns, *sorted(asked - set(columns))]
    cells: dict[tuple[str, str], list[float]] = {(r, c): [] for r in rows for c in columns}
    other_things: dict[str, list[float]] = {column: [] for column in columns}
    for task, scores in videos:
        cells[task, task].append(float(scores.forward.progress[-1]))
        for other, final in scores.other_tasks.items():
            (other_things[task] if other == task else cells[other, task]).append(final)
    return TaskMatrix(
        tasks=tuple(rows),
        videos=tuple(columns),
        progress=np.array([[mean_finite(cells[r, c]) for c in columns] for r in rows]),
        other_things=np.array([mean_finite(other_things[c]) for c in columns]),
        counts=np.array([len(cells[c, c]) for c in columns], np.int64),
    )
