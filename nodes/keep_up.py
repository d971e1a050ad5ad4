"""Will a reward node keep up with so many cameras at such a rate? It is tried, not computed.

Clients ask at the control rate without waiting for answers, as a pipelined wrapper does, every
frame a new one. A node keeps up where (nearly) every answer is there before the next scored step:
then its queue does not grow. Where it does not, larger strides are tried, beginning with the one
that its throughput allows.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from robo_reward.client import RemoteSource
from robo_reward.client.source import ModelInfo, Pending
from robo_reward.datasets.clips import ClipPlayer
from robo_reward.errors import ConfigError
from robo_reward.frames import Frame, Image
from robo_reward.query import Query
from robo_reward.task import Task

TASK = Task(instruction="put the red cube on the blue pad")
ENOUGH = 0.99
"""Share of questions that must be answered in time."""
ROOM = 0.8
"""Share of the throughput that a recommended stride may use."""
TRIALS = 5
DEADLINE_S = 2.0
"""Budget of one question: what takes longer counts as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a node is to carry.

    Attributes:
        clients: Environments or robots that ask at once.
        cameras: Cameras of each.
        rate_hz: Control rate of each.
        seconds: How long each trial lasts.
        side: Side of the frames, pixels.
        jpeg_quality: Of the frames on the wire; ``None`` sends them raw.

    Raises:
        ConfigError: A number is out of range.
    """

    clients: int = 1
    cameras: int = 1
    rate_hz: float = 10.0
    seconds: float = 5.0
    side: int = 224
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        """Refuse a load that is none."""
        for name, least in (("clients", 1), ("cameras", 1), ("side", 16)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if not self.rate_hz > 0 or not self.seconds > 0:
            raise ConfigError(
                f"rate_hz and seconds must be > 0, got {self.rate_hz:g} and {self.seconds:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How one stride went.

    Attributes:
        stride: Steps from one scored step to the next.
        period_s: Time from one scored step to the next, seconds.
        asked: Questions.
        answered: Those that got a score.
        in_time: Those whose score was there before the next scored step.
        p50_s: Time to a score, seconds: median; NaN where there was none.
        p95_s: 95th percentile.
        p99_s: 99th percentile.
        answers_hz: Scores a second, of all clients.
        wanted_hz: Questions a second, were every step scored.
        late_start_s: How far this program fell behind its own clock at most, seconds.
        reasons: Why questions got no score.
    """

    stride: int
    period_s: float
    asked: int
    answered: int
    in_time: int
    p50_s: float
    p95_s: float
    p99_s: float
    answers_hz: float
    wanted_hz: float
    late_start_s: float
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def keeps_up(self) -> bool:
        """Whether nearly all scores were there in time."""
        return self.in_time >= ENOUGH * self.asked


def find_stride(
    connect: Callable[[], RemoteSource],
    load: Load,
    *,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Try strides from 1 upwards until one keeps up.

    Args:
        connect: Makes a client of the node; called once per client.
        load: What it is to carry.
        on_trial: Called after every trial.

    Returns:
        The trials; the last one keeps up, or nothing did.
    """
    sources = [connect() for _ in range(load.clients)]
    try:
        info = sources[0].info()
        trials: list[Trial] = []
        stride = 1
        while len(trials) < TRIALS:
            trials.append(try_stride(sources, info, load, stride=stride))
            if on_trial is not None:
                on_trial(trials[-1])
            if trials[-1].keeps_up:
                break
            stride = max(stride + 1, _allowed(trials[-1]))
        return trials
    finally:
        for source in sources:
            source.close()


def try_stride(
    sources: Sequence[RemoteSource], info: ModelInfo, load: Load, *, stride: int
) -> Trial:
    """Ask at the control rate, every ``stride``-th step, and look at when answers came."""
    robots = [Robot(number, info, load) for number in range(len(sources))]
    for robot, source in zip(robots, sources, strict=True):  # connections and caches are warm
        source.submit(robot.look(), deadline_s=DEADLINE_S).result(timeout_s=2 * DEADLINE_S)
    period = stride / load.rate_hz
    pending: list[Pending] = []
    behind = 0.0
    start = time.monotonic()
    for step in range(max(2, math.ceil(load.seconds / period))):
        for number, (robot, source) in enumerate(zip(robots, sources, strict=True)):
            due = start + (step + number / len(robots)) * period
            queries = robot.look()
            time.sleep(max(0.0, due - time.monotonic()))
            behind = max(behind, time.monotonic() - due)
            pending.append(source.submit(queries, deadline_s=DEADLINE_S))
    scores = [score for one in pending for score in one.result(timeout_s=2 * DEADLINE_S)]
    spent = time.monotonic() - start
    waits = np.array([score.identity.total_s for score in scores if score.ok])
    p50, p95, p99 = np.percentile(waits, [50, 95, 99]) if len(waits) else [math.nan] * 3
    return Trial(
        stride=stride,
        period_s=period,
        asked=len(scores),
        answered=len(waits),
        in_time=int((waits <= period).sum()),
        p50_s=float(p50),
        p95_s=float(p95),
        p99_s=float(p99),
        answers_hz=len(waits) / spent,
        wanted_hz=len(robots) * robots[0].questions * load.rate_hz,
        late_start_s=behind,
        reasons=dict(Counter(score.reason for score in scores if not score.ok)),
    )


def _allowed(trial: Trial) -> int:
    """Return the stride at which the throughput of an overloaded trial would suffice."""
    if not trial.answered:
        return 2 * trial.stride
    return math.ceil(trial.wanted_hz / (ROOM * trial.answers_hz))


class Robot:
    """Makes the questions of one environment, every frame one that was never seen before.

    Attributes:
        questions: How many a step has.
    """

    def __init__(self, number: int, info: ModelInfo, load: Load) -> None:
        self._load = load
        self._views = min(load.cameras, max(info.max_views, 1))
        self._images = [self._scene() for _ in range(load.cameras)]
        self.questions = -(-load.cameras // self._views)
        self._players = [
            ClipPlayer(history=info.history, env=number * self.questions + place)
            for place in range(self.questions)
        ]
        self._step = 0

    def look(self) -> list[Query]:
        """Take a picture with every camera and ask: one question, or as many as the model needs."""
        frames = [self._picture(image, place) for place, image in enumerate(self._images)]
        self._step += 1
        return [
            player.ask(tuple(frames[place * self._views : (place + 1) * self._views]), TASK)
            for place, player in enumerate(self._players)
        ]

    def _scene(self) -> Image:
        # Smooth, as camera images are: noise would make JPEG look worse than it is.
        side = self._load.side
        image = np.empty((side, side, 3), np.uint8)
        image[:] = np.linspace(0, 255, side, dtype=np.uint8)[:, None, None]
        image[8:16, :8] = np.frombuffer(os.urandom(192), np.uint8).reshape(8, 8, 3)
        return image

    def _picture(self, image: Image, camera: int) -> Frame:
        # Blocks of 8 pixels, which survive JPEG: no two pictures may have one content hash.
        for bit in range(min(24, image.shape[1] // 8)):
            image[:8, 8 * bit : 8 * bit + 8] = 255 * (self._step >> bit & 1)
        return Frame.of(
            image,
            camera=f"camera{camera}",
            sequence=self._step,
            jpeg_quality=self._load.jpeg_quality,
        )
