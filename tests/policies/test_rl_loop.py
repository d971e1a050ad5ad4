"""The benchmark's bookkeeping: cells, resuming, brackets."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "rl_loop.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rl_loop", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["rl_loop"] = module
    spec.loader.exec_module(module)
    return module


def test_a_cell_runs_once(bench: ModuleType, tmp_path: Path) -> None:
    cells = [
        bench.Cell(preset="quick", reward=reward, seed=0, iterations=1)
        for reward in ("sparse", "degraded")
    ]
    found = bench.fill(cells, results=tmp_path, resume=True, quiet=True)
    assert [one["done_owner"] for one in found] == ["env", "model"]
    # A time-out of a sparse episode costs one a step and nothing else.
    assert found[0]["model_return"][0] <= -1
    marked = cells[0].path(tmp_path)
    marked.write_text(json.dumps({**found[0], "success_after": 0.25, "success_before": 0.0}))
    again = bench.fill(cells, results=tmp_path, resume=True, quiet=True)
    assert again[0]["success_after"] == 0.25
    rows = bench.summarise(again)
    assert [row["reward"] for row in rows] == ["sparse", "degraded"]
    assert rows[0]["gain_worst"] == 0.25
    assert not list(tmp_path.rglob("*.part"))


def test_brackets_differ_only_in_the_reward(bench: ModuleType) -> None:
    made = {
        reward: bench.recipe(bench.Cell(preset="pick-place", reward=reward, seed=0))
        for reward in bench.REWARDS
    }
    assert made["model"] == made["degraded"]
    assert made["oracle"].reward.shaping == made["model"].reward.shaping
    assert made["oracle"].reward.done_owner == "env"
    assert made["sparse"].reward.shaping.weight == 0
    assert made["sparse"].sac == made["model"].sac
