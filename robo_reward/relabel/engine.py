"""Labels a dataset: decode, encode and score overlap, and a kill at any moment loses nothing.

    reading threads ──batches──▶ model ──rows──▶ journal ──when all is done──▶ labels.parquet

The journal is the state: what stands in it is not scored again, and the table is made from it in
the order of the dataset, so that its bytes are those of a run that nobody interrupted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from robo_reward.datasets.labels import FILE, LabelHead, LabelRow, write_labels
from robo_reward.datasets.recorded import Dataset, Instant, Recorded, Segment
from robo_reward.errors import DatasetError, InstructionError, ModelError
from robo_reward.history import History
from robo_reward.query import Query
from robo_reward.signals import SIGNALS, Score
from robo_reward.task import Task

from .instructions import check_all, sentence_at, unknown_episodes
from .journal import Batch, End, Journal, Progress, read_journals
from .judging import Judge
from .options import RelabelOptions
from .reading import Ahead, EpisodeStream, Wanted

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Tally:
    """How far a run is; what ``on_progress`` is called with.

    Attributes:
        episodes: Episodes that are finished, those of an earlier run among them.
        total: Episodes there are.
        frames: Frames scored by this run.
        kept: Frames that an earlier run had scored.
        skipped: Episode → why it could not be read.
        missing: Status other than ``ok`` → number of frames, of this run.
        started_s: Monotonic time.
    """

    total: int
    episodes: int = 0
    frames: int = 0
    kept: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)


OnProgress = Callable[[Tally], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which episodes a worker labels: those whose number leaves ``worker`` when divided."""

    worker: int = 0
    workers: int = 1

    def mine(self, episode: int) -> bool:
        """Whether this worker labels it."""
        return episode % self.workers == self.worker


def plan_episodes(dataset: Dataset, options: RelabelOptions) -> list[str]:
    """Return the ids of the episodes, after a look at every instruction.

    Raises:
        InstructionError: Sentences are missing or generic.
        DatasetError: Two episodes have the same id, or there are none.
    """
    ids: list[str] = []
    refused: list[tuple[str, str]] = []
    for episode in chosen(dataset, options):
        ids.append(episode.id)
        try:
            options.instructions.of(episode)
        except InstructionError as error:
            refused.append((episode.id, str(error)))
        except DatasetError:
            continue  # is skipped, named and counted when its turn comes
    if not ids:
        raise DatasetError(f"{dataset.path} holds no episodes")
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DatasetError(f"{dataset.path} has two episodes called {twice!r}")
    check_all(options.instructions, refused, len(ids))
    if options.limit is None and (problem := unknown_episodes(options.instructions, ids)):
        raise InstructionError(problem)
    return ids


def chosen(dataset: Dataset, options: RelabelOptions) -> Iterator[Recorded]:
    """Yield the episodes that are to be labelled."""
    for number, episode in enumerate(dataset):
        if options.limit is not None and number >= options.limit:
            return
        yield episode


def label_episodes(
    dataset: Dataset,
    judge: Judge,
    options: RelabelOptions,
    folder: Path,
    *,
    total: int,
    share: Share | None = None,
    readers: int = 2,
    on_progress: OnProgress | None = None,
) -> Tally:
    """Score everything that the journals of a folder do not hold yet.

    Args:
        dataset: What to label.
        judge: What answers.
        options: How.
        folder: Holds the journals.
        total: Number of episodes, for the tally.
        share: Which episodes this process labels; all when not given.
        readers: Threads that decode.
        on_progress: Called after each batch.

    Raises:
        OSError: The disk is full; everything before that is kept.
        RewardLost: A node stayed away; everything before that is kept.
    """
    share = share or Share()
    before = read_journals(folder)
    info = judge.info()
    tally = Tally(total=total, kept=before.rows, episodes=len(before.ends))
    tell = on_progress or (lambda _: None)

    def wanted() -> Iterator[Wanted]:
        for episode in chosen(dataset, options):
            if episode.index in before.ends or not share.mine(episode.index):
                continue
            yield Wanted(
                episode=episode,
                cameras=options.cameras,
                max_views=info.max_views,
                every=options.every,
                first=0 if info.history else before.next_batch(episode.index),
                batch=options.batch,
                last_too=options.goal == "last",
            )

    with (
        Journal(folder / f"journal-{share.worker}.bin") as journal,
        Ahead(wanted(), threads=readers) as ahead,
    ):
        for stream in ahead:
            episode = stream.wanted.episode
            worker = _Episode(stream, judge, options, known=before.next_batch(episode.index))
            try:
                for batch in worker.label(ahead):
                    journal.add(batch)
                    tally.frames += len(batch.rows)
                    _count(tally, batch)
                    tell(tally)
                journal.add(End(episode=episode.index, batches=worker.batches))
            except DatasetError as error:
                journal.add(End(episode=episode.index, batches=0, skipped=str(error)))
                tally.skipped[episode.id] = str(error)
                _log.warning("skipped episode %s: %s", episode.id, error)
            tally.episodes += 1
            tell(tally)
    return tally


def finish(
    dataset: Dataset, judge: Judge, options: RelabelOptions, folder: Path, *, fingerprint: str
) -> LabelHead:
    """Make the table from the journals of a folder, and remove them.

    Raises:
        ModelError: An episode is missing: a worker has not done its share.
        OSError: The disk is full; the journals stay.
    """
    done = read_journals(folder)
    info = judge.info()
    skipped = {}
    for episode in chosen(dataset, options):
        end = done.ends.get(episode.index)
        if end is None:
            raise ModelError(f"episode {episode.id} was not labelled; run the same command again")
        if end.skipped:
            skipped[episode.id] = end.skipped
    head = LabelHead(
        dataset=fingerprint,
        kind=dataset.kind,
        model=info.model,
        prompt=info.prompt,
        calibration=info.calibration,
        signals=info.signals,
        every=options.every,
        gates=dict(info.gates),
        skipped=skipped,
    )
    write_labels(folder / FILE, head, _in_order(done))
    for path in {path for places in done.batches.values() for path, _ in places.values()}:
        path.unlink(missing_ok=True)
    for path in folder.glob("journal-*.bin"):
        path.unlink(missing_ok=True)
    return head


def _in_order(done: Progress) -> Iterator[Sequence[LabelRow]]:
    for episode in sorted(done.ends):
        yield done.read(episode)


def _count(tally: Tally, batch: Batch) -> None:
    for row in batch.rows:
        if row.status != "ok":
            tally.missing[row.status] = tally.missing.get(row.status, 0) + 1


class _Episode:
    """Labels one episode, batch by batch.

    Args:
        stream: Its decoded batches.
        judge: What answers.
        options: How.
        known: Number of the first batch that no journal holds.
    """

    def __init__(
        self, stream: EpisodeStream, judge: Judge, options: RelabelOptions, *, known: int
    ) -> None:
        self.batches = 0
        self._stream = stream
        self._judge = judge
        self._options = options
        self._known = known
        self._parts: tuple[Segment, ...] = ()
        self._tasks: dict[str, Task] = {}
        self._before: Instant | None = None
        self._past = History(judge.info().history)

    def label(self, ahead: Ahead) -> Iterator[Batch]:
        """Yield the batches that were scored now.

        Raises:
            DatasetError: The recording is broken, or has no sentence.
        """
        wanted = self._stream.wanted
        try:
            self._parts = self._options.instructions.of(wanted.episode)
        except InstructionError as error:
            raise DatasetError(str(error)) from error
        number = max(0, wanted.first - 1)
        for instants in self._stream.batches(ahead.stopped):
            if self._before is None:
                self._judge.begin(self._task(instants[0]))
            self._judge.show([i.frames for i in instants], self._task(instants[0]))
            # The batch before the first wanted one only makes the reference known.
            if number >= wanted.first:
                rows = self._rows(instants, number)
                if number >= self._known:
                    yield Batch(episode=wanted.episode.index, number=number, rows=rows)
            self._before = instants[-1]
            number += 1
        self.batches = number

    def _rows(self, instants: Sequence[Instant], number: int) -> list[LabelRow]:
        options, episode = self._options, self._stream.wanted.episode
        before = [self._before, *instants[:-1]]
        queries = []
        for place, (instant, old) in enumerate(zip(instants, before, strict=True)):
            query = Query(
                task=self._task(instant),
                newest=instant.frames,
                reference=old.frames if old is not None else (),
                history=self._past.instants,
                episode=episode.index,
                step=number * options.batch + place,
            )
            queries.append(query)
            self._past.add(instant.frames)
        scores = self._judge.score(queries)
        return [
            self._row(instant, query, score)
            for instant, query, score in zip(instants, queries, scores, strict=True)
        ]

    def _row(self, instant: Instant, query: Query, score: Score) -> LabelRow:
        episode = self._stream.wanted.episode
        return LabelRow(
            episode=episode.id,
            episode_index=episode.index,
            frame=instant.index,
            stamp_ns=instant.stamp_ns,
            cameras=self._stream.cameras,
            frames=score.identity.frames,
            reference=score.identity.reference,
            history=score.identity.history,
            instruction=query.task.text,
            signals=tuple(getattr(score.signals, name) for name in SIGNALS),
            status=score.status.value,
            reason=score.reason,
            saw_future=self._options.goal == "last",
        )

    def _task(self, instant: Instant) -> Task:
        text = sentence_at(self._parts, instant.index)
        task = self._tasks.get(text)
        if task is None:
            last = self._stream.last
            goal = last.frames[0] if last is not None else None
            task = self._tasks[text] = replace(Task(instruction=text), goal=goal)
        return task
