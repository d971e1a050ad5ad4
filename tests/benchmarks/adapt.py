"""What a few demonstrations buy: a model before and after ``adapt``, on episodes of other seeds.

    python tests/benchmarks/adapt.py --tasks stack turn_lever --camera side --resume
    python tests/benchmarks/adapt.py --model outputs/no-stack/model --tasks stack --resume
    python tests/benchmarks/adapt.py --demos mw/demos --test mw/test --tasks door-close --resume

Demonstrations are successes of the ``train`` split, set ``DEMO_SET``; they are stripped of what a
simulator knows, so that only pictures, the sentence and "it succeeded" are left, unless
``--truth``. The test is ``--split`` (``unseen``) with failures, never looked at by ``adapt``. With
``--demos`` and ``--test`` both are folders of recordings, and a task is the ``family`` in their
meta. Every finished cell is one JSON below tests/benchmarks/results/adapt/; ``--resume`` skips it.
Settings are chosen on ``--split seen``, which shares no seed with what is reported.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robo_reward.cli.output import write_atomically
from robo_reward.datasets.episode import Episode
from robo_reward.datasets.sources import open_episodes
from robo_reward.envs.experts.record import record_episodes
from robo_reward.evaluate import EvalOptions, evaluate
from robo_reward.models import load_model
from robo_reward.training.adapt import AdaptOptions, adapt
from robo_reward.training.negatives import NegativeConfig
from robo_reward.training.shards import read_folder

RESULTS = Path(__file__).parent / "results" / "adapt"
DEMO_SET = 900
KEYS = (
    "voc", "vroc", "success_auc", "mismatch_drop", "pearson", "progress_mae", "falling_f1",
    "tau_a_of_ceiling", "done_precision", "done_recall",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One adaptation."""

    model: str
    task: str
    camera: str
    split: str
    demos: int
    episodes: int
    truth: bool
    seed: int
    without: tuple[str, ...]
    text_rate: float
    statistics: bool
    steps: int
    demo_folder: str
    test_folder: str
    rehearse: str

    def path(self, results: Path) -> Path:
        """Where its result stands; whatever differs from the defaults is in the name."""
        words = [Path(self.model).parent.name or self.model, self.task, self.camera, self.split]
        words += [f"{self.demos}demos"]
        words += [f"without-{name}" for name in self.without]
        words += [f"text{self.text_rate:g}"] if self.text_rate != AdaptOptions().text_rate else []
        words += ["statistics" if self.statistics else "fixed"]
        words += ["truth"] if self.truth else []
        words += ["rehearsed"] if self.rehearse else []
        return results / f"{'_'.join(words)}_seed{self.seed}.json"


def demonstrations(cell: Cell) -> list[Episode]:
    """Return the first successes of the task."""
    if cell.demo_folder:
        found = _of_task(open_episodes(Path(cell.demo_folder)), cell.task)
    else:
        found = record_episodes(
            "train", episodes=12 * cell.demos, seed=DEMO_SET + cell.seed, families=(cell.task,),
            cameras=(cell.camera,),
        )  # fmt: skip
    kept: list[Episode] = []
    for episode in found:
        if len(kept) == cell.demos:
            break
        if episode.success:
            kept.append(episode if cell.truth else _stripped(episode))
    return kept


def tested(cell: Cell) -> Iterator[Episode]:
    """Yield the episodes of the table."""
    if cell.test_folder:
        return _of_task(open_episodes(Path(cell.test_folder)), cell.task)
    return record_episodes(
        cell.split,  # type: ignore[arg-type]
        episodes=cell.episodes,
        families=(cell.task,),
        cameras=(cell.camera,),
    )


def play(cell: Cell) -> dict[str, Any]:
    """Adapt, then evaluate both models on the same episodes."""
    base = load_model(cell.model, device="cpu")
    options = AdaptOptions(
        seed=cell.seed, text_rate=cell.text_rate, statistics=cell.statistics, steps=cell.steps,
        negatives=NegativeConfig().without(cell.without),
    )  # fmt: skip
    rehearsal = read_folder(Path(cell.rehearse)) if cell.rehearse else []
    demos = demonstrations(cell)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        made = adapt(base, demos, folder=Path(folder), options=options, rehearsal=rehearsal)
        cpu = time.process_time() - began
        models = {
            "before": load_model(cell.model, device="cpu"),
            "after": load_model(folder, device="cpu"),
        }
        result = evaluate(models, tested(cell), options=EvalOptions(resamples=1000))
    return {
        **asdict(cell),
        "improved": made.improved,
        "step": made.step,
        "steps": made.steps,
        "adapt_seconds": made.seconds,
        "adapt_cpu_seconds": cpu,
        "held_out": {"how": made.held_out, "before": made.before, "after": made.after},
        **{
            one.name: {
                key: [one.overall[key].value, one.overall[key].low, one.overall[key].high]
                for key in KEYS
            }
            for one in result.models
        },
        "base": made.base,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, shared",
        "date": time.strftime("%Y-%m-%d"),
    }


def fill(cells: list[Cell], *, results: Path, resume: bool) -> list[dict[str, Any]]:
    """Run the cells that are not there yet and return the results of all."""
    found = []
    for cell in cells:
        path = cell.path(results)
        if not (resume and path.is_file()):
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(play(cell), indent=1).replace("NaN", "null")
            write_atomically(path, text + "\n")
        row = json.loads(path.read_text(encoding="utf-8"))
        found.append(row)
        for name in ("before", "after"):
            shown = "  ".join(f"{key} {_short(row[name][key][0])}" for key in KEYS)
            print(f"{path.stem:<50} {name:<7} {shown}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Read the flags, fill the grid, print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--tasks", nargs="+", default=["stack"])
    parser.add_argument("--camera", default="front", help="side is one that compact never saw")
    parser.add_argument("--split", default="unseen")
    parser.add_argument("--shots", nargs="+", type=int, default=[5])
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--text-rate", type=float, default=AdaptOptions().text_rate)
    parser.add_argument("--fixed-statistics", action="store_true")
    parser.add_argument("--steps", type=int, default=AdaptOptions().steps)
    parser.add_argument("--demos", default="", help="folder of recordings to adapt to")
    parser.add_argument("--test", default="", help="folder of recordings to test on")
    parser.add_argument("--rehearse", default="", help="folder of table-top rollouts")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cells = [
        Cell(
            model=asked.model, task=task, camera=asked.camera, split=asked.split, demos=shots,
            episodes=asked.episodes, truth=asked.truth, seed=seed, without=tuple(asked.without),
            text_rate=asked.text_rate, statistics=not asked.fixed_statistics, steps=asked.steps,
            demo_folder=asked.demos, test_folder=asked.test, rehearse=asked.rehearse,
        )
        for task in asked.tasks
        for shots in asked.shots
        for seed in asked.seeds
    ]  # fmt: skip
    rows = fill(cells, results=asked.results, resume=asked.resume)
    if asked.json:
        print(json.dumps(rows))


def _stripped(episode: Episode) -> Episode:
    return replace(episode, progress=None, done=None, meta={})


def _of_task(episodes: Iterator[Episode], task: str) -> Iterator[Episode]:
    return (one for one in episodes if one.meta.get("family") == task)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
