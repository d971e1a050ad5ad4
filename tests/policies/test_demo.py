"""The demo with its real processes, in seconds: a few episodes on weights that know nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mujoco")
pytest.importorskip("stable_baselines3")

from robo_reward.errors import ConfigError
from robo_reward.models.compact_network import CompactConfig, CompactNetwork
from robo_reward.policies.demo import run
from robo_reward.policies.demo.processes import DemoNodes, NodesConfig
from robo_reward.policies.presets import PRESETS, Preset
from robo_reward.training.tokenizer import train_tokenizer
from robo_reward.training.trainer import save
from tests.conftest import Ran

if not Path("/proc/self/stat").exists():
    pytest.skip("looks for processes in /proc", allow_module_level=True)

pytestmark = pytest.mark.timeout(300)  # three processes that import torch, on a busy machine

TINY = PRESETS["quick"]
GONE_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights of the real architecture: for plumbing, never for quality."""
    folder = tmp_path_factory.mktemp("untrained")
    save(CompactNetwork.of(CompactConfig()), train_tokenizer(512), folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    wait_for_the_end_of(children_of(os.getpid()))


def children_of(parent: int) -> dict[int, str]:
    """Nodes that this process has started: process id and command line."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = stat.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if int(fields[1]) == parent and "robo_reward.nodes" in words:
            found[int(stat.parent.name)] = words
    return found


def wait_for_the_end_of(processes: dict[int, str]) -> None:
    end = time.monotonic() + GONE_WITHIN_S
    while left := [words for pid, words in processes.items() if alive(pid)]:
        assert time.monotonic() < end, f"still running: {left}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_command_tells_the_whole_story(
    command: Callable[..., Ran], weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tiny(preset: Preset) -> Preset:
        return TINY

    monkeypatch.setattr(run, "quick", tiny)
    ran = command("demo", "--quick", "--model", weights, "--out", str(tmp_path / "demo"))
    assert ran.code == 0, ran.err
    said: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    assert 0.0 <= said["success_before"] <= 1.0
    assert 0.0 <= said["success_after"] <= 1.0
    assert said["iterations"] == TINY.iterations
    assert said["seconds"] > 0
    assert said["done_owner"] == "model"
    assert said["observation"] == "state (simulator)"
    assert said["quick"] is True
    assert "QUICK" in said["notes"][0]
    assert said["scores"]["ok"] == said["scores"]["asked"] > 0
    for key in ("report", "gif", "plot"):
        assert Path(said[key]).stat().st_size > 1000
        assert said[key] in ran.err
    page = Path(said["report"]).read_text()
    assert "true success before" in page
    assert said["task"] in page
    for name in ("policy_before.zip", "policy_after.zip", "iterations.csv", "nodes.log"):
        assert (tmp_path / "demo" / name).stat().st_size > 0
    assert "error" not in ran.err.lower()
    assert "demo  2/2 it" in ran.err


def test_nodes_that_are_killed_come_back_and_the_run_goes_on(weights: str, tmp_path: Path) -> None:
    victims = {"learning": "nodes.serve", "return": "nodes.camera"}

    def kill_each_once(done: int, note: str) -> None:
        node = victims.pop(note.split()[0], None)
        for pid, words in children_of(os.getpid()).items():
            if node and node in words:
                os.kill(pid, signal.SIGKILL)

    options = run.DemoOptions(preset=TINY, model=weights, quick=True)
    said = run.run_demo(options, out=tmp_path, on_progress=kill_each_once)
    assert not victims
    assert said["node_restarts"] == 2
    assert said["iterations"] == TINY.iterations
    scores = said["scores"]
    # At most the step that was under way at each kill, and the one that is measured from it.
    assert scores["asked"] - scores["ok"] <= 2
    assert scores["dropped"] <= 4


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_the_nodes_end_with_the_learner(
    number: signal.Signals, code: int, weights: str, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    words = [sys.executable, "-m", "robo_reward", "demo", "--quick", "--model", weights]
    with subprocess.Popen(
        [*words, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as learner:
        log = out / "nodes.log"
        end = time.monotonic() + 90.0
        while not (log.exists() and "scores " in log.read_text()):
            assert learner.poll() is None
            assert time.monotonic() < end, "the nodes did not start"
            time.sleep(0.05)
        nodes = children_of(learner.pid)
        assert len(nodes) == 2
        learner.send_signal(number)
        assert learner.wait(timeout=GONE_WITHIN_S) == code
        wait_for_the_end_of(nodes)
        assert learner.stderr is not None
        assert "Traceback" not in learner.stderr.read()


def test_a_wrong_model_is_one_line(tmp_path: Path) -> None:
    nodes = DemoNodes(
        NodesConfig(model="compakt", scene="robo_reward/PickPlace-v0"), log=tmp_path / "nodes.log"
    )
    with pytest.raises(ConfigError, match=r"reward node gave up: .*did you mean compact") as caught:
        nodes.__enter__()
    assert "\n" not in str(caught.value)
