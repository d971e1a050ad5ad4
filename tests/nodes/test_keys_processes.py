"""The recipe for two machines, on one: processes with keys of their own, open to the network."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from robo_reward.client import RemoteSource, connect
from robo_reward.query import Mark
from robo_reward.signals import Score

from .serving_tools import TASK, until

cv2 = pytest.importorskip("cv2")

WAIT_S = 60.0
CLI = (sys.executable, "-m", "robo_reward.cli")


@contextmanager
def running(*command: str, log: Path) -> Iterator[None]:
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=out)
    try:
        yield
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert process.wait(timeout=30.0) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *words], capture_output=True, text=True, timeout=90.0, check=False)


def film(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for number in range(60):
        writer.write(np.full((48, 64, 3), 4 * number, np.uint8))
    writer.release()
    return path


def marked(source: RemoteSource) -> Score:
    now = time.time_ns()
    mark = Mark(task=TASK, cameras=("front",), t_from_ns=0, t_to_ns=now, max_age_s=5.0)
    return source.submit([mark], deadline_s=5.0).result(timeout_s=10.0)[0]


def ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def test_camera_node_learner_and_viewer(tmp_path: Path) -> None:
    keys, log = tmp_path / "keys", tmp_path / "log"
    made = ran(
        "keys", "make", "robot:camera", "gpu:reward", "arm:learner", "desk:viewer",
        "--keys", str(keys),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    eye, node = ports(2)
    seen, asked = f"tcp://127.0.0.1:{eye}", f"tcp://127.0.0.1:{node}"
    module = (sys.executable, "-m")
    with ExitStack() as stack:
        stack.enter_context(running(
            *module, "robo_reward.nodes.camera", "--source", str(film(tmp_path / "film.avi")),
            "--loop", "--bind", f"tcp://0.0.0.0:{eye}", "--keys", str(keys / "robot"), log=log,
        ))  # fmt: skip
        stack.enter_context(running(
            *module, "robo_reward.nodes.serve", "--model", "oracle-pixels",
            "--bind", f"tcp://0.0.0.0:{node}", "--camera", f"front={seen}",
            "--keys", str(keys / "gpu"), log=log,
        ))  # fmt: skip
        with connect(asked, keys=keys / "arm", connect_timeout_s=WAIT_S) as source:
            source.info()
            until(lambda: marked(source).ok, within_s=WAIT_S)
        watch = ("monitor", "--cameras", seen, "--duration-s", "3", "--json", "-q")
        allowed = json.loads(ran(*watch, "--keys", str(keys / "desk")).stdout.splitlines()[-1])
        refused = json.loads(ran(*watch).stdout.splitlines()[-1])
        score = ran(
            "score", str(tmp_path / "film.avi"), "--instruction", "push the cube",
            "--node", asked, "--keys", str(keys / "desk"), "-q",
        )  # fmt: skip
    assert allowed["streams"][0]["state"] == "ok"
    assert "asks for keys" in refused["streams"][0]["state"]
    assert refused["streams"][0]["rate_hz"] == 0
    assert (score.returncode, score.stderr.count("\n")) == (5, 1)
    assert "desk (viewer) may not query" in score.stderr
    text = log.read_text()
    assert "Traceback" not in text
    for path in keys.glob("*/secret.key"):
        assert path.read_text().split()[-1] not in text
