"""Labels for eyes and scripts: JSON lines, and a film of each episode beside its curves."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.datasets.labels import EpisodeLabels, LabelTable
from robo_reward.datasets.recorded import Dataset, Recorded
from robo_reward.report import FILM_FRAMES, OverlayScores, overlay, shrunk
from robo_reward.signals import SIGNALS

from .joined import joined
from .rewards import gate_of

LINES = "labels.jsonl"


def write_lines(table: LabelTable, folder: Path) -> Path:
    """Write one JSON object a frame; ``null`` where there is no number."""
    path = folder / LINES
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            for labels in table:
                for line in _lines(table, labels):
                    file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_films(dataset: Dataset, table: LabelTable, folder: Path) -> list[Path]:
    """Write ``overlay/EPISODE.mp4`` for every labelled episode; of a long one each n-th frame."""
    target = folder / "overlay"
    target.mkdir(exist_ok=True)
    made = []
    for episode, labels in joined(dataset, table):
        name = re.sub(r"[^\w.-]+", "_", episode.id)
        made.append(_film(episode, labels, table, target / f"{name}.mp4"))
    return made


def _film(episode: Recorded, labels: EpisodeLabels, table: LabelTable, path: Path) -> Path:
    stride = -(-len(labels) // FILM_FRAMES)
    shown = np.arange(0, len(labels), stride)
    scores = OverlayScores(
        **{name: labels.signals[name][shown] for name in SIGNALS},
        is_done=gate_of(labels, table.head)[shown],
    )
    camera = episode.cameras[0]
    wanted = set(labels.frames[shown].tolist())
    every = table.head.every * stride
    images = [
        shrunk(instant.frames[0].image)
        for instant in episode.instants((camera,), every=every)
        if instant.index in wanted
    ]
    return overlay(np.stack(images), scores, path, instruction=labels.instructions[0], rate_hz=12.0)


def _lines(table: LabelTable, labels: EpisodeLabels) -> Iterator[dict[str, Any]]:
    for row in range(len(labels)):
        values = {name: float(labels.signals[name][row]) for name in SIGNALS}
        yield {
            "episode": labels.id,
            "frame": int(labels.frames[row]),
            "instruction": labels.instructions[row],
            **{name: None if math.isnan(value) else value for name, value in values.items()},
            "status": labels.status[row],
            "model": table.head.model,
        }
