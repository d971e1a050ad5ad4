"""Reward models on scenes that they were not made for: Meta-World's 17 unseen tasks, and Fetch.

    robo-reward record --suite metaworld --episodes 85 --out data/unseen
    robo-reward record --suite metaworld --episodes 17 --kinds expert --seed 1 --out data/demos
    python tests/benchmarks/external_eval.py data/unseen --demos data/demos --resume --json

Recording needs the simulators (``make external`` installs them in ``.venv-external``); the last
command does not. Goal images are the last frames of successes in other scenes of the same tasks;
without ``--demos`` the models that read them are left out.

A cell is one model on one folder; each finished cell is one JSON below
tests/benchmarks/results/external_eval/, and ``--resume`` skips those that are there. Models are
named as ``robo-reward models`` lists them, or are folders, such as those that ``adapt`` writes;
``NAME=FOLDER`` says under what name a folder stands in the table. A cell states which episodes it
was measured on, by the hash of their ids and frames.

Truth is ``staged`` progress of the simulators (``robo_reward.envs.external``); alignment is over
successes, as Robometer has it, τ-a over failure < suboptimal < success within a task.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robo_reward.cli.output import write_atomically
from robo_reward.datasets.episode import Episode
from robo_reward.datasets.log_reader import LogReader
from robo_reward.evaluate import EvalOptions, evaluate
from robo_reward.evaluate.suites import demos_of
from robo_reward.models import load_model

RESULTS = Path(__file__).parent / "results" / "external_eval"
MODELS = (
    "compact",
    "language-blind",
    "time-counter",
    "constant",
    "goal-distance",
    "random-features",
)
NEED_GOALS = ("goal-distance", "random-features")
SHOWN = ("pearson_success", "pearson", "tau_a", "tau_a_of_ceiling", "voc", "vroc", "success_auc",
         "success_auc_progress", "pairwise_accuracy", "mismatch_drop")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model on one folder of recordings."""

    data: Path
    name: str
    model: str
    resamples: int
    demos: Path | None = None

    def path(self, results: Path) -> Path:
        """Where its result stands."""
        return results / self.data.name / f"{self.name}.json"


class Counted:
    """Episodes on their way through, and the hash of all of them.

    Args:
        episodes: Where they come from.
    """

    def __init__(self, episodes: Iterable[Episode]) -> None:
        self._episodes = episodes
        self._hash = hashlib.blake2b(digest_size=8)
        self.tasks: set[str] = set()

    def __iter__(self) -> Iterator[Episode]:
        """Yield them, and take their content into the hash."""
        for episode in self._episodes:
            self._hash.update(f"{episode.id} {episode.instruction}".encode())
            for images in episode.images.values():
                self._hash.update(images.tobytes())
            self.tasks.add(str(episode.meta.get("family")))
            yield episode

    @property
    def digest(self) -> str:
        """16 hex digits over what has passed."""
        return self._hash.hexdigest()


def play(cell: Cell) -> dict[str, Any]:
    """Evaluate one cell."""
    demos = demos_of(LogReader(cell.demos)) if cell.demos is not None else {}
    options = EvalOptions(resamples=cell.resamples)
    episodes = Counted(LogReader(cell.data))
    began = time.perf_counter()
    model = load_model(cell.model)
    try:
        result = evaluate({cell.name: model}, episodes, options=options, demos=demos)
        figures = result.models[0].as_dict()
    finally:
        model.close()
    return {
        **figures,
        "name": cell.name,
        "data": cell.data.name,
        "data_hash": episodes.digest,
        "tasks": sorted(episodes.tasks),
        "resamples": cell.resamples,
        "seconds": round(time.perf_counter() - began, 1),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def fill(cells: list[Cell], *, results: Path, resume: bool) -> list[dict[str, Any]]:
    """Play what is not there yet, and read all of it."""
    found = []
    for cell in cells:
        path = cell.path(results)
        if not (resume and path.is_file()):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(_finite(play(cell)), indent=1))
        found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


def _finite(value: Any) -> Any:
    """NaN as null, for JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table, one row a cell: figures with their 95 % intervals."""
    lines = ["| data | model | " + " | ".join(SHOWN) + " |", "| --- " * (len(SHOWN) + 2) + "|"]
    for row in rows:
        figures = [_figure(row, name) for name in SHOWN]
        lines.append("| " + " | ".join([row["data"], row["name"], *figures]) + " |")
    return "\n".join(lines)


def _figure(row: dict[str, Any], name: str) -> str:
    value, (low, high) = row[name], row["intervals"][name]
    if value is None:
        return "–"
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def cells_of(data: Path, args: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells of one folder of recordings."""
    for text in args.models:
        name, _, model = text.rpartition("=")
        if model in NEED_GOALS and args.demos is None:
            continue
        yield Cell(
            data=data,
            name=name or Path(model).name,
            model=model,
            resamples=args.resamples,
            demos=args.demos,
        )


def main() -> None:
    """Fill the grid and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="folders of recordings")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="names, or NAME=FOLDER")
    parser.add_argument("--demos", type=Path, help="recorded successes of the same tasks")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--resume", action="store_true", help="skip cells that are there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cells = [cell for data in args.data for cell in cells_of(data, args)]
    rows = fill(cells, results=args.results, resume=args.resume)
    print(table(rows))
    if args.json:
        short = [{key: row[key] for key in ("data", "name", "data_hash", *SHOWN)} for row in rows]
        print(json.dumps({"rows": short, "cells": len(rows)}))


if __name__ == "__main__":
    main()
