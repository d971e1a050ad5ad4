"""A node process with the shipped model is evaluated from outside, and as it is in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("torch")

from robo_reward.datasets.episode import Episode
from robo_reward.evaluate.metrics import voc
from robo_reward.evaluate.suites import open_suite
from robo_reward.frames import Frame
from robo_reward.models.registry import load_model
from robo_reward.task import Task

from .outside_harness import Harness, item, png, text, value_order_correlation
from .serving_tools import until

WAIT_S = 90.0
STRIDE = 2
# The model keeps a frame in half precision, and a batch of another size may round it otherwise.
CLOSE = 1e-3


@pytest.fixture(scope="module")
def episode() -> Episode:
    options = {"split": "unseen", "episodes": 1, "seed": 5, "families": ("push",)}
    return next(iter(open_suite("tabletop", renderer="rays", **options)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def url(worker_port: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="rr") as folder:
        command = [sys.executable, "-m", "robo_reward.cli", "serve", "--model", "compact"]
        command += ["--device", "cpu", "--bind", f"ipc://{folder}/n"]
        command += ["--robovalue-bind", f"127.0.0.1:{worker_port}", "--json"]
        node = subprocess.Popen(
            command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            yield f"http://127.0.0.1:{worker_port}/inference"
            node.send_signal(signal.SIGTERM)
            out, _ = node.communicate(timeout=WAIT_S)
            assert node.returncode == 0
            assert f'"robovalue": "http://127.0.0.1:{worker_port}/inference"' in out
        finally:
            node.kill()
            node.wait(timeout=WAIT_S)


@pytest.fixture(scope="module")
def worker_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def harness(url: str) -> Harness:
    harness = Harness(url)

    def answers() -> bool:
        try:
            return bool(harness.describe())
        except OSError:
            return False

    until(answers, within_s=WAIT_S)
    return harness


def pictures(episode: Episode) -> list[dict[str, str]]:
    images = episode.images["front"][::STRIDE]
    height, width = images.shape[1:3]
    return [{"front": text(png(width, height, image.tobytes()))} for image in images]


def test_an_outside_harness_finds_the_voc_that_we_find(harness: Harness, episode: Episode) -> None:
    frames = pictures(episode)
    asked = [
        item("value", episode.instruction, frames[: last + 1][-4:]) for last in range(len(frames))
    ]
    outside: list[float] = []
    for start in range(0, len(asked), 16):
        outside += harness.ask(asked[start : start + 16])

    task = Task(instruction=episode.instruction)
    model = load_model("compact", device="cpu")
    assert harness.describe()["model_version"] == model.model_id.partition("@")[2]
    clip = [Frame.of(image) for image in episode.images["front"][::STRIDE]]
    inside = [model.value([frame], task) for frame in clip]
    assert np.ptp(inside) > 0.05
    assert outside == pytest.approx(inside, abs=CLOSE)
    assert value_order_correlation(outside) == pytest.approx(voc(inside), abs=5e-3)

    pairs = [(0, len(clip) - 1), (len(clip) - 1, 0), (3, 3)]
    compared = harness.ask(
        [item("compare", episode.instruction, [frames[a]], [frames[b]]) for a, b in pairs]
    )
    assert compared == pytest.approx(
        [model.compare([clip[a]], [clip[b]], task) for a, b in pairs], abs=CLOSE
    )
    model.close()


def test_eight_threads_at_once_agree_with_one(harness: Harness, episode: Episode) -> None:
    frames = pictures(episode)[::8]
    task = episode.instruction
    alone = harness.ask([item("value", task, [frame]) for frame in frames])

    def ask(turn: int) -> list[float]:
        order = np.random.default_rng(turn).permutation(len(frames))
        found = harness.ask([item("value", task, [frames[place]]) for place in order])
        return [found[place] for place in np.argsort(order)]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(ask, range(8), timeout=WAIT_S):
            assert found == pytest.approx(alone, abs=CLOSE)
