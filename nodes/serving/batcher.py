"""Forms batches: no waiting, robots before relabelling, earliest deadline first, fair shares."""

from __future__ import annotations

import threading
import time
from collections import Counter

from .cost import CostModel
from .sessions import Job


class Batcher:
    """Holds the requests that are ready for the model; thread-safe.

    Args:
        cost: Predicts how long a batch will take: who cannot wait that long is not run.
    """

    def __init__(self, cost: CostModel) -> None:
        self._cost = cost
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Number of requests that wait."""
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Add a request whose frames are there."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def take(self, limit: int, *, timeout_s: float) -> tuple[list[Job], list[Job]]:
        """Return a batch and the requests that are too late for it.

        Both are empty when nothing came within ``timeout_s`` or the batcher was closed.

        Args:
            limit: Most rows of the batch.
            timeout_s: How long to wait for a first request.
        """
        with self._changed:
            if not self._jobs and not self._closed:
                self._changed.wait(timeout_s)
            self._jobs = [job for job in self._jobs if not job.dropped]
            now = time.monotonic()
            late = [job for job in self._jobs if job.deadline_s <= now]
            alive = [job for job in self._jobs if job.deadline_s > now]
            batch = choose(alive, limit)
            ends = now + self._cost.predict(len(batch))
            hopeless = [job for job in batch if job.deadline_s < ends]
            if len(hopeless) == len(batch) and batch:
                # One is run all the same: a prediction that was never tested would stay wrong.
                hopeless.remove(max(hopeless, key=lambda job: job.deadline_s))
            skipped = set(map(id, hopeless))
            batch = [job for job in batch if id(job) not in skipped]
            gone = set(map(id, [*batch, *late, *hopeless]))
            self._jobs = [job for job in self._jobs if id(job) not in gone]
            for job in batch:
                job.running = True
        return batch, late + hopeless

    def clear(self) -> list[Job]:
        """Remove and return everything that waits."""
        with self._changed:
            jobs, self._jobs = self._jobs, []
        return [job for job in jobs if not job.dropped]

    def close(self) -> None:
        """Wake who waits in ``take``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def choose(jobs: list[Job], limit: int) -> list[Job]:
    """Pick at most ``limit`` jobs of one class, the earliest deadline first, in fair shares."""
    urgent = [job for job in jobs if job.online] or jobs
    ordered = sorted(urgent, key=lambda job: job.deadline_s)
    if len(ordered) <= limit:
        return ordered
    share = max(1, limit // len({job.session.id for job in ordered}))
    taken: Counter[str] = Counter()
    batch: list[Job] = []
    rest: list[Job] = []
    for job in ordered:
        if len(batch) < limit and taken[job.session.id] < share:
            taken[job.session.id] += 1
            batch.append(job)
        else:
            rest.append(job)
    return batch + rest[: limit - len(batch)]
