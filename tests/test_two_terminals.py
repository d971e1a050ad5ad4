"""The README's two terminals: a node in one, a script in the other, and the node is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mujoco")

DOWN_S = 1.0
"""How long the node stays away."""

# The README's script, with a report of every step: what was rendered, and which score came for it.
SCRIPT = """
import json, pathlib, sys
import gymnasium as gym
import robo_reward.envs
from robo_reward.client import connect
from robo_reward.envs import VisualReward
from robo_reward.frames import Frame

address, options, stop = sys.argv[1], json.loads(sys.argv[2]), pathlib.Path(sys.argv[3])
with connect(address) as source:
    bare = gym.make("robo_reward/PickPlace-v0", render_mode="rgb_array")
    env = VisualReward(bare, source, **options)
    env.reset(seed=0)
    rendered = Frame.of(bare.render())
    while not stop.exists():
        before = rendered
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        rendered = Frame.of(bare.render())
        score = info["score"]
        print(json.dumps({
            "name": info["reward_for"], "reward": reward, "status": score["status"],
            "progress": score["signals"]["progress"], "done": score["signals"]["done"],
            "identity": score["identity"], "rendered": rendered.id, "before": before.id,
            "pixels": [int(value) for value in rendered.image[0, :2, 0]],
        }), flush=True)
        if terminated or truncated:
            env.reset()
            rendered = Frame.of(bare.render())
    print(json.dumps({"wrapper": env.stats(), "link": source.stats()}), flush=True)
    env.close()
"""


class Terminal:
    """``robo-reward serve`` in a process that can be killed and started again."""

    def __init__(self, address: str) -> None:
        self._command = [sys.executable, "-m", "robo_reward.cli", "serve"]
        self._command += ["--model", "oracle-pixels", "--bind", address]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10.0)

    def restart(self) -> None:
        self.process = self._start()


@pytest.fixture
def address(free_port: int) -> str:
    return f"tcp://127.0.0.1:{free_port}"


@pytest.fixture
def node(address: str) -> Iterator[Terminal]:
    terminal = Terminal(address)
    yield terminal
    if terminal.process.poll() is None:
        terminal.kill()


class Script:
    """The other terminal."""

    def __init__(self, address: str, *, stop: Path, options: dict[str, Any]) -> None:
        self._stop = stop
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, address, json.dumps(options), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.steps: list[dict[str, Any]] = []

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, self.process.stderr and self.process.stderr.read()
        found: dict[str, Any] = json.loads(text)
        return found

    def play(self, steps: int, *, status: str = "ok") -> None:
        """Read until so many more steps have this status."""
        while steps:
            self.steps.append(self.line())
            steps -= self.steps[-1]["status"] == status

    def end(self) -> dict[str, Any]:
        """Let it finish; returns its counts."""
        self._stop.touch()
        while "wrapper" not in (found := self.line()):
            self.steps.append(found)
        assert self.process.wait(timeout=20.0) == 0
        return found

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=10.0)


def check(steps: list[dict[str, Any]]) -> None:
    """No score is wrong: it names its step and its frames and says what their pixels say."""
    for step in steps:
        identity = step["identity"]
        assert [identity["env"], identity["episode"], identity["step"]] == step["name"]
        if step["status"] == "ok":
            assert identity["frames"] == [step["rendered"]]
            assert identity["reference"] == [step["before"]]
            progress, done = (value / 255 for value in step["pixels"])
            assert abs(step["progress"] - progress) < 1e-6
            assert abs(step["done"] - done) < 1e-6
            assert step["reward"] == step["reward"] or lost_before(step, steps)
        else:
            assert step["reward"] != step["reward"], "a missing score must not be a number"
            assert step["progress"] != step["progress"]
    names = [tuple(step["name"]) for step in steps]
    assert len(set(names)) == len(names)


def lost_before(step: dict[str, Any], steps: list[dict[str, Any]]) -> bool:
    """Whether the score of the step before is missing: then this one's difference is too."""
    place = steps.index(step)
    return place > 0 and steps[place - 1]["status"] != "ok"


def test_the_script_waits_for_a_node_that_was_killed_and_goes_on(
    address: str, node: Terminal, tmp_path: Path
) -> None:
    with Script(address, stop=tmp_path / "stop", options={}) as script:
        script.play(20)
        node.kill()
        # What was answered before the kill may still be in the pipe; after that, nothing comes.
        time.sleep(DOWN_S)
        node.restart()
        script.play(60)
        counts = script.end()
    check(script.steps)
    assert all(step["status"] == "ok" for step in script.steps), "it waits: nothing is lost"
    assert counts["link"]["restarts"] == 1, "and it is counted that it had to"
    assert counts["link"].get("misattributed", 0) == 0
    assert counts["wrapper"]["ok"] == counts["wrapper"]["asked"]


def test_a_script_that_does_not_wait_marks_and_counts_what_was_lost(
    address: str, node: Terminal, tmp_path: Path
) -> None:
    # Does wait for the node to be there at first: patience is for that, not for scores.
    options = {"on_missing": "nan", "deadline_s": 0.2, "max_missing": 0.9}
    with Script(address, stop=tmp_path / "stop", options=options) as script:
        script.play(20)
        node.kill()
        script.play(3, status="timeout")
        node.restart()
        script.play(60)
        counts = script.end()
    check(script.steps)
    lost = [step for step in script.steps if step["status"] != "ok"]
    assert 3 <= len(lost) <= counts["wrapper"]["asked"] - counts["wrapper"]["ok"]
    assert counts["wrapper"]["dropped"] >= len(lost)
