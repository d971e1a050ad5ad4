"""Questions by time: they wait here until the cameras have sent the frames that answer them."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future

from robo_reward.frames import Frame
from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.score import MarkRequest
from robo_reward.query import Mark
from robo_reward.task import Task
from robo_reward.transport.keys import Keys
from robo_reward.transport.stream import FrameSubscriber

from ..join import FrameJoiner, Joined
from .desk import Failure
from .gather import gather
from .sessions import Job

logger = logging.getLogger(__name__)

# Told so long before the deadline, so that the reason arrives and not only a late DEADLINE.
EARLY_S = 0.03

Prepared = Callable[[Job, tuple[int, int], list[object], BaseException | None], None]


class Marks:
    """Subscribes to cameras, and turns marks into queries. Only the I/O thread calls it.

    Args:
        cameras: Name of each camera and the address that it has bound.
        pool: Where frames are decoded.
        prepared: Takes the job with task and frames, once they are there.
        failed: Takes a job that no frame will answer.
        wake: Runs something in the I/O thread.
        history: Says at how many earlier instants the model looks.
        keys: Secure the sockets.
    """

    def __init__(
        self,
        cameras: Mapping[str, str],
        *,
        pool: Executor,
        prepared: Prepared,
        failed: Callable[[Failure], None],
        wake: Callable[[Callable[[], None]], None],
        history: Callable[[], int],
        keys: Keys | None = None,
    ) -> None:
        self.joiner = FrameJoiner()
        self.misalignment_s = 0.0
        self._names = frozenset(cameras)
        self._pool = pool
        self._prepared = prepared
        self._failed = failed
        self._wake = wake
        self._history = history
        self._jobs: list[tuple[Job, Future[Task]]] = []
        self.joiner.listen(self._arrived)
        self._subscribers = [
            FrameSubscriber(address, name="reward", on_frame=self.joiner.put, keys=keys)
            for address in cameras.values()
        ]

    def check(self, ask: MarkRequest) -> None:
        """Refuse a mark that names a camera which this node does not read.

        Raises:
            Refusal: ``NO_FRAME``.
        """
        strangers = [name for name in ask.cameras if name not in self._names]
        if strangers:
            known = ", ".join(sorted(self._names)) or "no cameras"
            raise Refusal("NO_FRAME", f"no camera {strangers[0]!r}; this node reads {known}")

    def add(self, job: Job, task: Future[Task]) -> None:
        """Take a mark in; it may be answered at once."""
        self._jobs.append((job, task))
        self.sweep()

    def sweep(self) -> None:
        """Pass on the marks whose frames are there, and those that have waited long enough."""
        now = time.monotonic()
        self._jobs = [
            (job, task)
            for job, task in self._jobs
            if not job.dropped and not self._settled(job, task, now)
        ]

    def close(self) -> None:
        """Disconnect from the cameras."""
        for subscriber in self._subscribers:
            subscriber.close()

    def _arrived(self, camera: str) -> None:
        if self._jobs:
            self._wake(self.sweep)

    def _settled(self, job: Job, task: Future[Task], now_s: float) -> bool:
        ask = job.question
        if not isinstance(ask, MarkRequest):
            return True
        found = self.joiner.join(_mark(ask))
        if isinstance(found, Joined):
            self._pass_on(job, task, found)
            return True
        if found.final or now_s + EARLY_S >= job.deadline_s:
            self._failed(Failure(job, Refusal(found.reason, found.detail[:200])))
            return True
        return False

    def _look_back(self, job: Job, newest: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], ...]:
        ask = job.question
        assert isinstance(ask, MarkRequest)  # only marks are waiting here
        return job.session.pasts.look_back(ask, newest, limit=self._history())

    def _pass_on(self, job: Job, task: Future[Task], found: Joined) -> None:
        self.misalignment_s = found.misalignment_s
        # The model adds the time since arrival; what the mark waited here is in this age already.
        job.age_s = found.age_s - (time.monotonic() - job.arrived_s)
        past = self._look_back(job, found.newest)
        every = [*found.newest, *found.reference, *(frame for views in past for frame in views)]
        frames = [self._pool.submit(_decoded, one) for one in every]
        counts = (len(found.newest), len(found.reference))
        gather([task, *frames], functools.partial(self._prepared, job, counts))


def _mark(ask: MarkRequest) -> Mark:
    # The task is not looked at when frames are joined, and the client has moved the times to this
    # machine's clock.
    return Mark(
        task=_ANY,
        cameras=ask.cameras,
        t_from_ns=ask.t_from_ns,
        t_to_ns=ask.t_to_ns,
        max_age_s=ask.max_age_s,
        env=ask.env,
        episode=ask.episode,
        step=ask.step,
    )


_ANY = Task(instruction="any")


def _decoded(frame: Frame) -> Frame:
    if frame.image.shape != frame.header.shape:
        raise Refusal("BAD_PAYLOAD", "a camera's frame is not what its header says")
    return frame
