"""The thread that owns the model: loads it, warms it up, runs batches, and stamps its progress."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from robo_reward.client.guarded import answer_each
from robo_reward.client.local import describe
from robo_reward.client.source import ModelInfo
from robo_reward.models.base import RewardModel
from robo_reward.models.noise import noise_queries
from robo_reward.signals import Identity, Score

from .batcher import Batcher
from .cost import CostModel
from .sessions import Job

logger = logging.getLogger(__name__)

WARM_UP_SIZE = 224
"""Side of the frames of the warm-up, pixels."""
LONGEST_BATCH_S = 0.5
SLOT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: The job.
        score: Its score, or why there is none.
        started_s: Monotonic time at which the model began, or would have.
        inference_s: Time in the model; NaN where it was not run.
        batch: Rows of the batch it was in; 0 where it was not run.
    """

    job: Job
    score: Score
    started_s: float
    inference_s: float = math.nan
    batch: int = 0


class Worker:
    """Runs one model in one thread.

    Args:
        load: Makes the model; called in the thread.
        batcher: Gives the batches.
        cost: Learns what they take.
        deliver: Takes the outcomes; must not block.
        on_loaded: Called once, when ``info`` or ``error`` is set.
        max_batch: Most rows of a batch; the warm-up may begin with fewer, and batches that turn
            out quick allow more again.
        warm_up: Whether to run batches of growing size before the first request.
    """

    def __init__(
        self,
        load: Callable[[], RewardModel],
        *,
        batcher: Batcher,
        cost: CostModel,
        deliver: Callable[[Sequence[Outcome]], None],
        on_loaded: Callable[[], None],
        max_batch: int,
        warm_up: bool = True,
    ) -> None:
        self.max_batch = max_batch
        self._most = max_batch
        self.busy_since_s = 0.0
        self.last_batch_s = 0.0
        self.counts: Counter[str] = Counter()
        self.info: ModelInfo | None = None
        self.error: BaseException | None = None
        self._load = load
        self._batcher = batcher
        self._cost = cost
        self._deliver = deliver
        self._on_loaded = on_loaded
        self._warm_up = warm_up
        self._stop = threading.Event()
        self._encoded_before = 0
        self._model: RewardModel | None = None
        self._thread = threading.Thread(target=self._run, name="robo-reward-model", daemon=True)

    @property
    def encoded_frames(self) -> int:
        """Frames that the model encoded for requests."""
        return 0 if self._model is None else self._model.encoded_frames - self._encoded_before

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def stop(self, *, timeout_s: float) -> bool:
        """End after the running batch; ``False`` where the model does not come back in time."""
        self._stop.set()
        self._batcher.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            model = self._load()
            self._model = model
            if self._warm_up and not model.capabilities.metered:
                self._climb(model)
            self._encoded_before = model.encoded_frames
            self.info = describe(model)
        except BaseException as error:  # handed to whoever waits for the node to be ready
            self.error = error
            self._on_loaded()
            return
        self._on_loaded()
        while not self._stop.is_set():
            batch, late = self._batcher.take(self.max_batch, timeout_s=SLOT_S)
            if late:
                self._deliver([self._late(job) for job in late])
            if batch:
                self._answer(model, batch)
        model.close()

    def _climb(self, model: RewardModel) -> None:
        """Run batches of 1, 2, 4 … rows: fits the cost and finds the largest useful batch."""
        chance = np.random.default_rng(0)
        noise = partial(noise_queries, model, chance=chance, size=WARM_UP_SIZE, compared=True)
        model.score(noise(1))  # first use pays for lazy initialisation
        rows = 1
        while rows <= self.max_batch:
            queries = noise(rows)
            start = time.monotonic()
            model.score(queries)
            seconds = time.monotonic() - start
            self._cost.add(rows, seconds)
            if seconds > LONGEST_BATCH_S and rows < self.max_batch:
                self.max_batch = rows
                break
            rows *= 2
        logger.info(
            "warm: %.1f ms + %.2f ms a row, at most %d rows",
            1e3 * self._cost.fixed_s,
            1e3 * self._cost.each_s,
            self.max_batch,
        )

    def _answer(self, model: RewardModel, batch: list[Job]) -> None:
        queries = [job.query for job in batch if job.query is not None]
        start = time.monotonic()
        self.busy_since_s = start
        scores, error = answer_each(model, queries)
        end = time.monotonic()
        self.busy_since_s = 0.0
        self.last_batch_s = end
        self.counts["batches"] += 1
        self.counts["rows"] += len(batch)
        if error is None:
            self._cost.add(len(batch), end - start)
            self._widen(len(batch), end - start)
        else:
            self.counts["failed_batches"] += 1
            self._shrink(error, len(batch))
        self._deliver(
            [
                Outcome(
                    job=job,
                    score=score,
                    started_s=start,
                    inference_s=end - start,
                    batch=len(batch),
                )
                for job, score in zip(batch, scores, strict=True)
            ]
        )

    def _widen(self, rows: int, seconds: float) -> None:
        """Allow more rows where a full batch was quick: the warm-up may have met a busy machine."""
        if rows == self.max_batch < self._most and seconds < LONGEST_BATCH_S / 2:
            self.max_batch = min(2 * rows, self._most)

    def _shrink(self, error: BaseException, rows: int) -> None:
        # torch.OutOfMemoryError by name: this module must not import torch.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            self.max_batch = self._most = max(1, min(self.max_batch, rows) // 2)
            logger.warning("out of memory with %d rows; at most %d from now", rows, self.max_batch)

    def _late(self, job: Job) -> Outcome:
        now = time.monotonic()
        question = job.question
        identity = Identity(
            client=job.session.id,
            env=question.env,
            episode=question.episode,
            step=question.step,
        )
        detail = f"waited {now - job.arrived_s:.3f} s, the model would be too late"
        score = Score.missing("DEADLINE", identity=identity, detail=detail)
        return Outcome(job=job, score=score, started_s=now)
