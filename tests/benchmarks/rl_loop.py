"""The closed loop in a table: preset (task and observation) × reward × seed, with brackets.

    python tests/benchmarks/rl_loop.py --resume --json
    python tests/benchmarks/rl_loop.py --presets pick-place --rewards model --seeds 5 6 --resume

Every finished cell is one JSON below tests/benchmarks/results/rl_loop/; ``--resume`` skips those
that are there. A cell is about seven minutes of one core, with features twelve. Rewards:

* ``sparse``: −1 until done and 0 at done, true done: the lower bracket;
* ``oracle``: the simulator's stage-wise progress in the same shaper, true done: the upper bracket;
* ``model``: the reward model's progress in that shaper, the model's own done;
* ``degraded``: the oracle with noise on progress and done, through the same gate; it stands in for
  a model when settings are chosen, and is no bracket.

Success is the simulator's own check in an environment of the evaluator's; no learner sees it. In
every cell the last policy is evaluated, whatever came before it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from robo_reward.cli.output import write_atomically
from robo_reward.client import Source, local
from robo_reward.envs import VisualReward
from robo_reward.models import load_model
from robo_reward.policies.improve import improve, make_env, reward_env
from robo_reward.policies.observations import Encoder
from robo_reward.policies.oracle import DEGRADED, oracle_camera, oracle_source
from robo_reward.policies.presets import Preset, preset
from robo_reward.policies.records import IterationRow
from robo_reward.shaping import ShapingConfig

RESULTS = Path(__file__).parent / "results" / "rl_loop"
REWARDS = ("sparse", "oracle", "model", "degraded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of the grid."""

    preset: str
    reward: str
    seed: int
    model: str = "compact"
    iterations: int | None = None

    def path(self, results: Path) -> Path:
        """Where its result stands."""
        return results / self.preset / f"{self.reward}-seed{self.seed}.json"


def recipe(cell: Cell) -> Preset:
    """Return the preset with the reward of the cell."""
    made = preset(cell.preset)
    if cell.iterations is not None:
        made = replace(made, iterations=cell.iterations)
    if cell.reward in ("sparse", "oracle"):
        made = replace(made, reward=replace(made.reward, done_owner="env"))
    if cell.reward == "sparse":
        only = ShapingConfig(kappa=0.0, gamma=made.gamma)
        made = replace(made, reward=replace(made.reward, shaping=only))
    return made


def environments(cell: Cell, made: Preset) -> tuple[VisualReward, gym.Env[Any, Any], Source]:
    """Return the learner's environment, the evaluator's, and what answers."""
    truth = cell.reward != "model"
    model = (
        load_model(cell.model, device="cpu") if made.observes == "features" or not truth else None
    )
    encoder: Encoder | None = getattr(model, "visual_features", None)
    bare = make_env(made, encoder=encoder)
    options: dict[str, Any] = {"terminate_on_success": made.reward.done_owner == "env"}
    if not truth:
        assert model is not None
        source: Source = local(model)
        judged = make_env(made, encoder=encoder, render_mode="rgb_array", **options)
        return reward_env(judged, source, made), bare, source
    source = oracle_source()
    noise = DEGRADED if cell.reward == "degraded" else None
    judged = make_env(made, encoder=encoder, **options)
    cameras = {"oracle": oracle_camera(noise, seed=cell.seed)}
    return reward_env(judged, source, made, cameras=cameras), bare, source


def play(cell: Cell, *, quiet: bool = False) -> dict[str, Any]:
    """Run one cell and return what is kept of it."""
    made = recipe(cell)
    learner_env, bare_env, source = environments(cell, made)

    def tell(row: IterationRow) -> None:
        if not quiet:
            print(
                f"{cell.preset} {cell.reward} seed {cell.seed}: iteration {row.iteration} "
                f"model return {row.model_return:.1f} done {row.model_done_rate:.2f} "
                f"true success {row.true_success:.2f} {row.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )

    start = time.process_time()
    try:
        result = improve(learner_env, bare_env, made, seed=cell.seed, on_iteration=tell)
    finally:
        learner_env.close()
        bare_env.close()
        source.close()
    return {
        "preset": cell.preset,
        "reward": cell.reward,
        "observes": made.observes,
        "seed": cell.seed,
        **result.as_dict(),
        "cpu_seconds": time.process_time() - start,
        "machine": f"{platform.machine()}, 1 thread",
        "date": time.strftime("%Y-%m-%d"),
        "true_success": [row.true_success for row in result.rows],
        "model_return": [row.model_return for row in result.rows],
        "model_done_rate": [row.model_done_rate for row in result.rows],
    }


def fill(cells: list[Cell], *, results: Path, resume: bool, quiet: bool = False) -> list[Any]:
    """Run the cells that are not there yet and return the results of all."""
    found = []
    for cell in cells:
        path = cell.path(results)
        if not (resume and path.is_file()):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(play(cell, quiet=quiet), indent=1))
        found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


def summarise(found: list[Any]) -> list[dict[str, Any]]:
    """Return one row per preset, reward and observation: means and the worst seed."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in found:
        groups.setdefault((one["preset"], one["reward"]), []).append(one)
    rows = []
    for (name, reward), runs in groups.items():
        gains = [run["success_after"] - run["success_before"] for run in runs]
        after = [run["success_after"] for run in runs]
        rows.append(
            {
                "preset": name,
                "reward": reward,
                "observes": runs[0]["observes"],
                "done_owner": runs[0]["done_owner"],
                "seeds": len(runs),
                "before_mean": sum(run["success_before"] for run in runs) / len(runs),
                "after_mean": sum(after) / len(runs),
                "after_worst": min(after),
                "gain_worst": min(gains),
                "steps_mean": sum(run["steps"] for run in runs) / len(runs),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--presets", nargs="+", default=["pick-place", "pick-place-features"])
    parser.add_argument(
        "--rewards", nargs="+", default=["model", "oracle", "sparse"], choices=REWARDS
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[41, 42, 43])
    parser.add_argument("--model", default="compact")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--resume", action="store_true", help="skip cells that are there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cells = [
        Cell(
            preset=name,
            reward=reward,
            seed=seed,
            model=args.model,
            iterations=args.iterations,
        )
        for name in args.presets
        for reward in args.rewards
        for seed in args.seeds
    ]
    rows = summarise(fill(cells, results=args.results, resume=args.resume))
    for row in rows:
        print(
            f"{row['preset']:<20} {row['reward']:<9} seeds {row['seeds']}  "
            f"before {row['before_mean']:.2f}  after {row['after_mean']:.2f} "
            f"(worst {row['after_worst']:.2f}, worst gain {row['gain_worst']:+.2f})"
        )
    if args.json:
        print(json.dumps({"rows": rows, "cells": len(cells)}))


if __name__ == "__main__":
    main()
