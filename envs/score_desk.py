"""The desk where scores are asked for: batches, waiting, retries, and a limit on losses."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from robo_reward.client.source import ModelInfo, Pending, Source
from robo_reward.errors import ConfigError, PeerUnreachable, RewardLost, TransportError
from robo_reward.query import Mark, Query
from robo_reward.signals import OUTAGE, Identity, Score, Signals, Status
from robo_reward.task import Task

from .reward_config import RewardConfig

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0
DEADLINE_SLACK_S = 0.1
"""So that the source's own word on a deadline comes before this side gives up."""


class Batch:
    """Queries that were submitted together, and their scores once they were collected."""

    def __init__(self, queries: Sequence[Query | Mark], *, number: int, pending: Pending) -> None:
        self.queries = list(queries)
        self.number = number
        self.pending = pending
        self.scores: list[Score] | None = None

    def ready(self) -> bool:
        """Whether collecting would not wait."""
        return self.scores is not None or self.pending.done()

    def cancel(self) -> None:
        """Say that nobody will collect this."""
        if self.scores is None:
            self.pending.cancel()


class ScoreDesk:
    """Submits queries to a source and brings back one score for each, or raises.

    Args:
        source: What answers.
        config: Patience, deadline and limits.
        cameras: Number of cameras that a query holds.
        clock: Monotonic seconds; replaced by tests.
        sleep: Waits for seconds; replaced by tests.
    """

    def __init__(
        self,
        source: Source,
        *,
        config: RewardConfig,
        cameras: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.source = source
        self.config = config
        self.counts: Counter[str] = Counter()
        self._cameras = cameras
        self._clock = clock
        self._sleep = sleep
        self._info: ModelInfo | None = None
        self._number = 0
        self._missing: deque[str] = deque(maxlen=config.missing_window)
        self._missing_now = 0

    @property
    def last_number(self) -> int:
        """Number of the batch that was submitted last."""
        return self._number

    def info(self, *, task: Task | None = None) -> ModelInfo:
        """Return what the source says of its model, checked against what it will be asked.

        Args:
            task: What is going to be asked about.

        Raises:
            ConfigError: The model lacks a signal, or does not read what the task shows.
            PeerUnreachable: Nobody answered for as long as the patience.
        """
        if self._info is None:
            self._info = self._reach()
            self._check(self._info)
        if task is not None:
            _check_task(self._info, task)
        return self._info

    def abstains(self) -> bool:
        """Whether the source gives no score where its model is too uncertain.

        Raises:
            PeerUnreachable: Nobody answered for as long as the patience.
        """
        return (self._info or self._reach()).abstains

    def submit(self, queries: Sequence[Query | Mark]) -> Batch:
        """Ask, without waiting for answers."""
        self._number += 1
        self.counts["asked"] += len(queries)
        parts = [part for query in queries for part in self._split(query)]
        pending = self.source.submit(parts, deadline_s=self.config.deadline_s)
        return Batch(queries, number=self._number, pending=pending)

    def collect(self, batch: Batch) -> list[Score]:
        """Return one score per query of the batch, waiting as the config says.

        Raises:
            RewardLost: An outage outlasted the patience, or ``on_missing="raise"``.
            TransportError: The source answered another question than the one asked.
        """
        if batch.scores is None:
            batch.scores = self._collect(batch)
        return batch.scores

    def count(self, score: Score) -> None:
        """Take one final score into the share that may be missing.

        Raises:
            RewardLost: More than ``max_missing`` of the last ``missing_window`` were missing.
        """
        self.counts[score.status.value] += 1
        if len(self._missing) == self._missing.maxlen and self._missing[0]:
            self._missing_now -= 1
        self._missing.append("" if score.ok else f"{score.status.value}/{score.reason}")
        self._missing_now += not score.ok
        limit = self.config.max_missing * self.config.missing_window
        if self._missing_now > limit:
            why = Counter(reason for reason in self._missing if reason)
            raise RewardLost(
                f"{self._missing_now} of the last {len(self._missing)} scores are missing, at most "
                f"{limit:g} may be ({dict(why)}; last: {score.detail or score.reason}); look at "
                "the reward node's log, or raise max_missing"
            )

    def _reach(self) -> ModelInfo:
        end = self._clock() + self.config.patience_s
        while True:
            try:
                return self.source.info()
            except PeerUnreachable:
                if self.config.on_missing == "raise" or self._clock() >= end:
                    raise
                self._sleep(LONGEST_PAUSE_S / 4)

    def _check(self, info: ModelInfo) -> None:
        needed = set(self.config.shaping.needs)
        if self.config.done_owner == "model":
            needed.add("done")
        lacking = sorted(needed - set(info.signals))
        if lacking:
            raise ConfigError(
                f"model {info.model} does not give {', '.join(lacking)} (it gives "
                f"{', '.join(info.signals)}); choose another shaping form, done_owner or model"
            )

    def _split(self, query: Query | Mark) -> list[Query | Mark]:
        """Ask once per camera where the model cannot look at all of them together."""
        views = self.info().max_views
        if self._cameras <= max(views, 1):
            return [query]
        if isinstance(query, Mark):
            return [replace(query, cameras=(camera,)) for camera in query.cameras]
        return [_of_camera(query, place) for place in range(len(query.newest))]

    def _collect(self, batch: Batch) -> list[Score]:
        parts = [self._split(query) for query in batch.queries]
        flat = [part for group in parts for part in group]
        scores = iter(self._wait(flat, pending=batch.pending))
        return [merge_views([next(scores) for _ in group]) for group in parts]

    def _wait(self, parts: list[Query | Mark], *, pending: Pending) -> list[Score]:
        """Collect, asking again what an outage took, until all is there or patience ends."""
        end = self._clock() + self.config.patience_s
        scores: dict[int, Score] = {}
        todo = list(range(len(parts)))
        pause = FIRST_PAUSE_S
        while True:
            asked = [parts[index] for index in todo]
            budget = self._budget(asked, left_s=end - self._clock())
            got = match(asked, pending.result(timeout_s=budget))
            scores.update(zip(todo, got, strict=True))
            todo = [index for index in todo if self._ask_again(parts[index], scores[index])]
            if not todo:
                break
            if self._clock() >= end:
                self._lost(scores[todo[0]])
            self.counts["retried"] += len(todo)
            pending.cancel()
            self._sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
            again = [parts[index] for index in todo]
            pending = self.source.submit(again, deadline_s=self.config.deadline_s)
        if self.config.on_missing == "raise":
            for score in scores.values():
                if not score.ok:
                    self._lost(score)
        return [scores[index] for index in range(len(parts))]

    def _budget(self, asked: Sequence[Query | Mark], *, left_s: float) -> float:
        """Return how long to wait for one try, seconds.

        A source in this process may be slower than one try without being broken, so that patience
        is the limit where there is any; the source itself ends a try at its deadline.
        """
        one_try = self.config.deadline_s + DEADLINE_SLACK_S
        if any(self._patient(part) for part in asked):
            return max(one_try, left_s)
        return one_try

    def _patient(self, part: Query | Mark) -> bool:
        return self.config.on_missing == "wait" and isinstance(part, Query)

    def _ask_again(self, part: Query | Mark, score: Score) -> bool:
        return self._patient(part) and score.status in OUTAGE

    def _lost(self, score: Score) -> None:
        waited = self.config.patience_s if self.config.on_missing == "wait" else 0
        raise RewardLost(
            f"no score for env {score.identity.env} episode {score.identity.episode} step "
            f"{score.identity.step}: {score.status.value} ({score.reason}: {score.detail or '-'})"
            f"{f' after {waited:g} s of trying' if waited else ''}; start the reward node again, "
            "or raise patience_s"
        )


def match(queries: Sequence[Query | Mark], scores: Sequence[Score]) -> list[Score]:
    """Give each query the score that names it: identity counts, not order.

    Raises:
        TransportError: A score names none of the queries.
    """
    box: dict[tuple[int, int, int], list[Score]] = defaultdict(list)
    for score in scores:
        box[(score.identity.env, score.identity.episode, score.identity.step)].append(score)
    found = [_take(query, box[(query.env, query.episode, query.step)]) for query in queries]
    strangers = [score.identity for rest in box.values() for score in rest]
    if strangers:
        names = [(one.env, one.episode, one.step) for one in strangers[:3]]
        raise TransportError(
            f"{len(strangers)} scores name (env, episode, step) that were not asked for: {names}; "
            "the source mixes up its callers"
        )
    return found


def _take(query: Query | Mark, candidates: list[Score]) -> Score:
    """Take the score of this query out of those with its name: one per camera where it was split.

    A source that encodes frames again names them anew; then the order is all there is to go by.
    """
    if not candidates:
        identity = Identity(env=query.env, episode=query.episode, step=query.step)
        return Score.missing("PEER_LOST", identity=identity, detail="no answer came")
    if isinstance(query, Query) and len(candidates) > 1:
        frames = tuple(frame.id for frame in query.newest)
        for place, score in enumerate(candidates):
            if score.identity.frames == frames:
                return candidates.pop(place)
    return candidates.pop(0)


def _check_task(info: ModelInfo, task: Task) -> None:
    if task.goal is not None and not info.goal_image:
        raise ConfigError(f"model {info.model} reads no goal image; leave goal out")
    if task.demo and not info.demo:
        raise ConfigError(f"model {info.model} reads no demonstration; leave demo out")


def _of_camera(query: Query, place: int) -> Query:
    return replace(
        query,
        newest=(query.newest[place],),
        reference=query.reference[place : place + 1],
        history=tuple((views[place],) for views in query.history),
    )


def merge_views(scores: Sequence[Score]) -> Score:
    """Make one score of one per camera: least done, most uncertainty, mean of the rest.

    A camera without a score leaves the whole without one: nobody knows what it would have said.
    """
    if len(scores) == 1:
        return scores[0]
    identity = replace(
        scores[0].identity,
        frames=tuple(frame for score in scores for frame in score.identity.frames),
        reference=tuple(frame for score in scores for frame in score.identity.reference),
        history=tuple(frame for score in scores for frame in score.identity.history),
    )
    for score in scores:
        if score.status is not Status.OK:
            return replace(score, identity=identity)
    signals = [score.signals for score in scores]

    def mean(name: str) -> float:
        return sum(float(getattr(one, name)) for one in signals) / len(signals)

    return Score(
        signals=Signals(
            progress=mean("progress"),
            progress_delta=mean("progress_delta"),
            done=min(one.done for one in signals),
            contrastive=mean("contrastive"),
            uncertainty=max(one.uncertainty for one in signals),
        ),
        identity=identity,
    )
