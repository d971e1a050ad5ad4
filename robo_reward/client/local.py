"""A source whose model lives in this process, behind one worker thread."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from robo_reward.closing import Closing
from robo_reward.query import Mark, Query
from robo_reward.signals import Score

from .guarded import answer_each, asked
from .source import ModelInfo

if TYPE_CHECKING:
    from robo_reward.models.base import RewardModel


class LocalPending:
    """Scores that a ``LocalSource`` is working on."""

    def __init__(
        self, queries: Sequence[Query | Mark], *, client: str, deadline_s: float | None
    ) -> None:
        self.queries = list(queries)
        self.client = client
        self.submitted_s = time.monotonic()
        self.deadline_s = deadline_s
        self.cancelled = False
        self._scores: list[Score] | None = None
        self._ready = threading.Event()

    def done(self) -> bool:
        """Whether ``result`` would return without waiting."""
        return self._ready.is_set()

    def result(self, *, timeout_s: float) -> list[Score]:
        """Return one score per question; ``DEADLINE`` for all that are not there in time."""
        self._ready.wait(max(0.0, timeout_s))
        if self._scores is None:
            return self.missing("DEADLINE", f"no answer from the model within {timeout_s:g} s")
        return self._scores

    def cancel(self) -> None:
        """Give up: not run where it has not begun."""
        self.cancelled = True

    def deliver(self, scores: list[Score]) -> None:
        """Set the answers and wake who waits."""
        self._scores = scores
        self._ready.set()

    def missing(self, reason: str, detail: str) -> list[Score]:
        """Make one score without signals per question."""
        total = time.monotonic() - self.submitted_s
        return [
            Score.missing(
                reason, identity=asked(query, client=self.client, total_s=total), detail=detail
            )
            for query in self.queries
        ]


class LocalSource(Closing):
    """Asks a model in this process. ``submit`` returns at once; a worker thread runs the model.

    After a fork, or unpickled, it starts a worker of its own at the next question.

    Args:
        model: Closed with the source. From now on only the source may call it.

    Example:
        >>> from robo_reward.models.oracle_pixels import OraclePixels, paint
        >>> from robo_reward.frames import Frame
        >>> from robo_reward.task import Task
        >>> query = Query(task=Task(instruction="push"), newest=(Frame.of(paint(1.0, 0.0)),))
        >>> with LocalSource(OraclePixels()) as source:
        ...     source.submit([query]).result(timeout_s=5.0)[0].signals.progress
        1.0
    """

    def __init__(self, model: RewardModel) -> None:
        self.model = model
        self.closed = False
        self._worker: threading.Thread | None = None
        self._reset()

    def info(self) -> ModelInfo:
        """Say which model answers."""
        return describe(self.model)

    def submit(
        self, queries: Sequence[Query | Mark], *, deadline_s: float | None = None
    ) -> LocalPending:
        """Ask without waiting; questions that wait longer than ``deadline_s`` are not run."""
        pending = LocalPending(queries, client=self._session, deadline_s=deadline_s)
        if self.closed:
            pending.deliver(pending.missing("CANCELLED", "the source is closed"))
            return pending
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(
                    target=self._work, name="robo-reward-local", daemon=True
                )
                self._worker.start()
        self._inbox.put(pending)
        return pending

    def close(self) -> None:
        """Stop the worker and close the model; may be called twice."""
        if self.closed:
            return
        self.closed = True
        if self._worker is not None and self._pid == os.getpid():
            self._inbox.put(None)
            self._worker.join(timeout=60.0)
        self.model.close()

    def __getstate__(self) -> dict[str, object]:
        return {"model": self.model, "closed": self.closed}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._session = secrets.token_hex(16)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[LocalPending | None] = queue.SimpleQueue()
        self._worker = None

    def _work(self) -> None:
        while (pending := self._inbox.get()) is not None:
            self._answer(pending)
        # Whoever asked while the source was being closed must not wait for ever.
        with contextlib.suppress(queue.Empty):
            while (late := self._inbox.get_nowait()) is not None:
                late.deliver(late.missing("CANCELLED", "the source is closed"))

    def _answer(self, pending: LocalPending) -> None:
        waited = time.monotonic() - pending.submitted_s
        if pending.cancelled:
            pending.deliver(pending.missing("CANCELLED", "cancelled before it was run"))
        elif pending.deadline_s is not None and waited > pending.deadline_s:
            pending.deliver(pending.missing("DEADLINE", f"waited {waited:.3f} s for the model"))
        else:
            pending.deliver(self._run(pending, queue_s=waited))

    def _run(self, pending: LocalPending, *, queue_s: float) -> list[Score]:
        start = time.monotonic()
        queries = [query for query in pending.queries if isinstance(query, Query)]
        answers: list[Score] = []
        if queries:
            answers, _ = answer_each(self.model, queries, client=pending.client)
        end = time.monotonic()
        rest = iter(answers)
        scores = []
        for question in pending.queries:
            if isinstance(question, Query):
                score = next(rest)
                stamps = [frame.header.mono_ns for frame in question.newest]
                age = start - min(stamps) / 1e9 if stamps else math.nan
            else:
                detail = "a model in this process has no cameras; send the frames in a Query"
                identity = asked(question, client=pending.client)
                score, age = Score.missing("NO_FRAME", identity=identity, detail=detail), math.nan
            identity = replace(
                score.identity,
                age_s=age if age >= 0 else math.nan,
                queue_s=queue_s,
                inference_s=end - start,
                total_s=end - pending.submitted_s,
            )
            scores.append(replace(score, identity=identity))
        return scores


def describe(model: RewardModel) -> ModelInfo:
    """Say what a source tells of this model."""
    return ModelInfo(
        model=model.model_id,
        prompt=model.prompt_id,
        calibration=model.calibration_id,
        signals=model.capabilities.signals,
        max_views=model.capabilities.max_views,
        goal_image=model.capabilities.goal_image,
        demo=model.capabilities.demo,
        history=model.capabilities.history,
        gates={} if model.calibration is None else model.calibration.gates(),
    )
