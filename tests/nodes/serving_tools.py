"""A reward node in its own process, models that misbehave, frames that say who they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from robo_reward.client import RemoteSource
from robo_reward.errors import PeerUnreachable
from robo_reward.frames import Frame, Image
from robo_reward.models.base import Feature, ScoreArrays
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.query import Query
from robo_reward.signals import Score
from robo_reward.task import Task

TASK = Task(instruction="put the red cube on the blue pad")
FREE = "tcp://127.0.0.1:0"


def expected(who: int, step: int) -> tuple[float, float]:
    """Progress and done that the frame of this step of this asker scores, and no other near it."""
    return (who * 37 + step * 5) % 256 / 255, (who * 11 + step * 3) % 256 / 255


def frame(who: int, step: int, *, jpeg: int | None = None, size: int = 8) -> Frame:
    progress, done = expected(who, step)
    return Frame.of(paint(progress, done, size=size, salt=who * 100_000 + step), jpeg_quality=jpeg)


def query(step: int, *, who: int = 0, episode: int = 0, size: int = 8) -> Query:
    """Transition ``step`` with the frame of the step before as reference."""
    reference = (frame(who, step - 1, size=size),) if step else ()
    newest = (frame(who, step, size=size),)
    return Query(task=TASK, newest=newest, reference=reference, env=who, episode=episode, step=step)


def check(asked: Query, score: Score) -> None:
    """Hold a score against what the pixels of its question say."""
    assert score.ok, score
    identity = score.identity
    assert (identity.env, identity.episode, identity.step) == (
        asked.env,
        asked.episode,
        asked.step,
    )
    progress, done = expected(asked.env, asked.step)
    assert abs(score.signals.progress - progress) < 1e-6
    assert abs(score.signals.done - done) < 1e-6
    if asked.reference:
        before, _ = expected(asked.env, asked.step - 1)
        assert abs(score.signals.progress_delta - (progress - before)) < 1e-6


def until(condition: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Poll until something holds."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class GatedModel(OraclePixels):
    """Waits in every batch until its gate is opened; counts batches and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.seen: list[tuple[int, int]] = []

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        self.entered.set()
        self.gate.wait(30.0)
        self.batches.append(len(queries))
        self.seen += [(one.env, one.step) for one in queries]
        return super()._score(queries, newest, reference, history)


class RememberingModel(OraclePixels):
    """Looks back: its progress is the mean over the instants that it is shown."""

    def __init__(self, *, device: str = "cpu", history: int = 4) -> None:
        super().__init__(device=device)
        self.capabilities = replace(self.capabilities, history=history)

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        said = super()._score(queries, newest, reference, history)
        shown = [[*past, now] for past, now in zip(history, newest, strict=True)]
        means = [np.mean([view[0] for views in clip for view in views]) for clip in shown]
        return replace(said, progress=np.array(means, np.float32))


class TouchyModel(OraclePixels):
    """Raises for step 13 and gives NaN for step 17."""

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        if any(one.step == 13 for one in queries):
            raise RuntimeError("secret path /somewhere")
        arrays = super()._score(queries, newest, reference, history)
        for row, one in enumerate(queries):
            if one.step == 17:
                arrays.progress[row] = np.nan
        return arrays


class CountingModel(OraclePixels):
    """Remembers how often each frame was encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        self.images += len(images)
        return super()._encode(images, task)


class NodeProcess:
    """``python -m robo_reward.nodes.serve`` with the pixel oracle."""

    def __init__(self, address: str, *flags: str, log: Path | None = None) -> None:
        self.address = address
        self._log = log
        self._command = [sys.executable, "-m", "robo_reward.nodes.serve"]
        self._command += ["--model", "oracle-pixels", "--bind", address, *flags]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self._log or os.devnull, "ab") as log:
            return subprocess.Popen(
                self._command, env=os.environ, stderr=log, stdout=subprocess.DEVNULL
            )

    def wait_ready(self) -> None:
        end = time.monotonic() + 30.0
        with RemoteSource(self.address, connect_timeout_s=1.0) as source:
            while True:
                try:
                    source.info()
                    return
                except PeerUnreachable:
                    assert time.monotonic() < end, "the node did not start"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10.0)

    def restart(self) -> None:
        self.process = self._start()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()
