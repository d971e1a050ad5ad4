"""What each kind of training data buys: the compact model without it, on combinations never seen.

    python tests/benchmarks/ablation.py --resume --json
    python tests/benchmarks/ablation.py --without near_miss undo --steps 2500 --resume

Every row is trained from random weights by ``robo-reward train-reward`` on the same rollouts with
the same seed and the same number of steps, and differs in what it is not shown: a negative
(``counterfactual``, ``mismatched``) or a recorded behaviour. ``nothing`` leaves nothing out. The
budget is a part of the shipped model's: differences count here, not levels.

A finished cell is one JSON below tests/benchmarks/results/ablation/; ``--resume`` skips it, and a
training that was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robo_reward.cli.output import write_atomically

RESULTS = Path(__file__).parent / "results" / "ablation"
NOTHING = "nothing"
LEFT_OUT = (
    NOTHING, "counterfactual", "mismatched", "wrong_object", "near_miss", "halfway", "undo",
    "suboptimal", "random",
)  # fmt: skip
KEYS = (
    "voc", "success_auc", "mismatch_drop", "falling_f1", "tau_a_of_ceiling", "done_precision",
    "done_recall", "false_done_per_1000", "diagonal_margin", "progress_mae",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training and its evaluation."""

    without: str
    steps: int
    data: Path
    work: Path
    split: str

    @property
    def name(self) -> str:
        """What was left out, with the budget."""
        return f"without-{self.without}_{self.steps}steps"

    def path(self, results: Path) -> Path:
        """Where its result stands."""
        return results / f"{self.name}_{self.split}.json"


def play(cell: Cell) -> dict[str, Any]:
    """Train, evaluate, and return the figures with their intervals."""
    folder = cell.work / cell.name
    left_out = [] if cell.without == NOTHING else ["--without", cell.without]
    began = time.monotonic()
    trained = _run(
        "train-reward", "--data", str(cell.data), "--steps", str(cell.steps), *left_out,
        "--out", str(folder), "--yes",
    )  # fmt: skip
    figures = _run(
        "eval-reward", "--model", str(folder / "model"), "--split", cell.split,
        "--out", str(folder / f"eval-{cell.split}"), "--yes",
    )  # fmt: skip
    return {
        "without": cell.without,
        "steps": cell.steps,
        "split": cell.split,
        "model": figures["model"],
        "train_minutes": trained["minutes"],
        "seconds": round(time.monotonic() - began, 1),
        "machine": platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
        **{key: [figures[key], *figures["intervals"][key]] for key in KEYS},
    }


def _run(*arguments: str) -> dict[str, Any]:
    """Run a verb and return its JSON object; what it says meanwhile goes to the terminal."""
    command = [sys.executable, "-m", "robo_reward", *arguments, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=24 * 3600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def fill(cells: list[Cell], *, results: Path, resume: bool) -> list[dict[str, Any]]:
    """Play what is not there yet, and read all of it."""
    found = []
    for cell in cells:
        path = cell.path(results)
        if not (resume and path.is_file()):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(play(cell), indent=1) + "\n")
        found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--without", nargs="+", default=list(LEFT_OUT), choices=LEFT_OUT)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--data", type=Path, default=Path("data/tabletop"))
    parser.add_argument("--work", type=Path, default=Path("outputs/ablation"))
    parser.add_argument("--split", default="unseen", choices=("seen", "unseen"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--resume", action="store_true", help="skip cells that are there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cells = [
        Cell(without=name, steps=args.steps, data=args.data, work=args.work, split=args.split)
        for name in args.without
    ]
    rows = fill(cells, results=args.results, resume=args.resume)
    for row in rows:
        shown = "  ".join(f"{key} {row[key][0]:.3f}" for key in KEYS)
        print(f"without {row['without']:<15} {shown}")
    if args.json:
        print(json.dumps({"rows": rows, "cells": len(cells)}))


if __name__ == "__main__":
    main()
