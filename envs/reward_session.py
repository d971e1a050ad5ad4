"""Bookkeeping behind all reward wrappers: which score belongs to which transition.

Every environment has a queue of transitions in the order in which they happened. A transition
leaves the queue when its own score is there, and only after those before it, because Φ, the gate
and the end of the episode depend on them. What leaves is a ``RewardRecord``, named by (env,
episode, step), and it is final: nothing that comes later changes it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from robo_reward.client.source import Source
from robo_reward.history import History
from robo_reward.query import Mark, Query
from robo_reward.shaping import DoneGate, RewardTerms, Shaper
from robo_reward.signals import Score, Status
from robo_reward.task import Task

from .reward_config import RewardConfig
from .reward_episode import Entry, Episode, EpisodeSummary, Moment, RewardRecord, StepFacts
from .score_desk import ScoreDesk

Listener = Callable[[Query | Mark, Score, Any], None]
"""Called with every question, its final score and the action; the action of a reset is None."""

Wait = Literal["all", "previous", "ready"]
WAITS: dict[str, Wait] = {"sync": "all", "pipelined": "previous", "deferred": "ready"}
"""What each mode waits for: everything, what was asked before this step, or nothing."""


class RewardSession:
    """Asks about transitions and returns their rewards, for one or several environments.

    Args:
        source: What answers.
        config: Options of the wrapper.
        cameras: Names of the cameras, in order.
        num_envs: Number of environments.
        first_env: Index of the first one, as the source sees it.
        stream: Whether camera nodes push the frames and questions are marks in time.
        listeners: Called with every question, score and action.
    """

    def __init__(
        self,
        source: Source,
        *,
        config: RewardConfig,
        cameras: Sequence[str],
        num_envs: int = 1,
        first_env: int = 0,
        stream: bool = False,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.config = config
        self.cameras = tuple(cameras)
        self.first_env = first_env
        self.desk = ScoreDesk(source, config=config, cameras=len(self.cameras))
        self.shaper = Shaper(config.shaping)
        self.counts: Counter[str] = Counter()
        self._stream = stream
        self._listeners = tuple(listeners)
        self._episodes: list[Episode | None] = [None] * num_envs
        self._numbers = [-1] * num_envs
        self._queues: list[deque[Entry]] = [deque() for _ in range(num_envs)]
        self._unsent: list[Entry] = []
        self._before = 0
        self._final: list[RewardRecord] = []
        self._summaries: list[EpisodeSummary] = []

    def begin(self, env: int, moment: Moment, *, task: Task) -> int:
        """Start an episode at the state after a reset; returns its number."""
        info = self.desk.info(task=task)
        old = self._episodes[env]
        if old is not None and not old.end:
            self._queues[env].append(Entry(episode=old, kind="stop", step=old.step))
        self._numbers[env] += 1
        episode = Episode(
            env=env,
            number=self._numbers[env],
            task=task,
            shaping=self.shaper.begin(task=task.instruction),
            gate=DoneGate(self.config.gate or info.gate(task.instruction)),
        )
        self._episodes[env] = episode
        self._remember(episode, moment)
        self._base(episode)
        return episode.number

    def change_task(self, env: int, task: Task) -> None:
        """From the state that was asked about last, go on under another task."""
        episode = self._current(env)
        if task.key == episode.task.key:
            return
        self.desk.info(task=task)
        episode.task = task
        self._base(episode)

    def next_name(self, env: int, *, reset: bool) -> tuple[int, int]:
        """Return (episode, step) of the state that comes now, after a reset or a step."""
        if reset:
            return (self._numbers[env] + 1, 0)
        episode = self._current(env)
        return (episode.number, episode.step + 1)

    def due(self, env: int) -> bool:
        """Whether the step that comes now is one to ask about."""
        return self._current(env).since + 1 >= self.config.stride

    def step(self, env: int, moment: Moment, *, facts: StepFacts) -> tuple[int, int, int]:
        """Take one transition in; returns its name (env, episode, step)."""
        episode = self._current(env)
        episode.step += 1
        episode.since += 1
        entry = Entry(
            episode=episode,
            kind="step",
            step=episode.step,
            vetoed=moment.vetoed,
            facts=facts,
            last=facts.terminated or facts.truncated or facts.declared,
        )
        if moment.asked:
            entry.query = self._query(episode, moment)
            entry.span = episode.since
            episode.since = 0
            self._remember(episode, moment)
            episode.history.add(moment.frames)
            self._unsent.append(entry)
        if entry.last and not episode.end:
            episode.end = self._reason(facts)
        self._queues[env].append(entry)
        return (env, episode.number, episode.step)

    def flush(self) -> None:
        """Submit all questions that were not asked yet, of all environments, in one batch."""
        self._before = self.desk.last_number
        now: dict[tuple[int, int, int], Entry] = {}
        later: list[Entry] = []
        for entry in self._unsent:
            if entry.episode.over:
                continue
            key = (entry.episode.env, entry.episode.number, entry.step)
            # The same state under two tasks has one name: such questions go in two batches.
            if key in now:
                later.append(entry)
            else:
                now[key] = entry
        self._unsent = later
        queries = [entry.query for entry in now.values() if entry.query is not None]
        if queries:
            batch = self.desk.submit(queries)
            for place, entry in enumerate(now.values()):
                entry.batch, entry.place = batch, place

    def drain(
        self, *, wait: Wait | None = None, envs: Sequence[int] | None = None
    ) -> list[RewardRecord]:
        """Return the rewards that are final now, each transition once, in order per environment.

        Args:
            wait: ``all``: for everything that was submitted; ``previous``: for what was submitted
                before the last ``flush``; ``ready``: for nothing. That of the mode when ``None``.
            envs: Which environments; all when ``None``.

        Raises:
            RewardLost: Scores stayed away for too long, or too many of them.
        """
        policy = wait or WAITS[self.config.mode]
        for env in range(len(self._queues)) if envs is None else envs:
            queue = self._queues[env]
            while queue and self._may_settle(queue, policy):
                batch = queue[0].batch
                if batch is not None and not queue[0].episode.over:
                    # Before it leaves the queue: an interrupt while waiting must lose nothing.
                    self.desk.collect(batch)
                self._final += self._settle(queue.popleft())
        records, self._final = self._final, []
        return records

    def is_over(self, env: int) -> bool:
        """Whether the model's done has ended the episode that this environment is still in."""
        return self._current(env).over

    def end_of(self, env: int) -> str:
        """Return why the episode ended, empty while it goes on."""
        return self._current(env).end

    def task_of(self, env: int) -> Task:
        """Return the task of the episode that this environment is in."""
        return self._current(env).task

    @property
    def waiting(self) -> int:
        """Transitions whose reward is not final yet."""
        return sum(entry.kind == "step" for queue in self._queues for entry in queue) + sum(
            len(episode.open) for episode in self._episodes if episode is not None
        )

    def take_summaries(self) -> list[EpisodeSummary]:
        """Return the episodes that were completed since the last call."""
        done, self._summaries = self._summaries, []
        return done

    def stats(self) -> dict[str, int]:
        """Return counts: asked, retried, one per status, done, dropped, env_terminated."""
        return {**self.desk.counts, **self.counts, "waiting": self.waiting}

    def close(self) -> None:
        """Give up all questions that are open; their transitions are counted as dropped."""
        self.counts["dropped"] += self.waiting
        for queue in self._queues:
            for entry in queue:
                if entry.batch is not None:
                    entry.batch.cancel()
            queue.clear()
        self._unsent = []

    def _current(self, env: int) -> Episode:
        episode = self._episodes[env]
        if episode is None:
            raise RuntimeError("call reset before step")
        return episode

    def _reason(self, facts: StepFacts) -> str:
        owner = self.config.done_owner
        if facts.declared:
            return "done:human"
        if facts.terminated:
            if owner != "env":
                self.counts["env_terminated"] += 1
            return "done:env" if owner == "env" else "env_terminated"
        return "truncated"

    def _remember(self, episode: Episode, moment: Moment) -> None:
        episode.reference = moment.frames
        episode.reference_ns = moment.wall_ns
        episode.reference_step = episode.step

    def _base(self, episode: Episode) -> None:
        """Ask for the potential of the state that the next transitions are measured from.

        A model that looks back sees nothing from before it: what was done for another task is no
        progress of this one.
        """
        episode.history = History(self.desk.info().history)
        newest = Moment(frames=episode.reference, wall_ns=episode.reference_ns)
        query = replace(self._query(episode, newest), step=episode.reference_step)
        if isinstance(query, Mark):
            query = replace(query, t_from_ns=0)
        else:
            query = replace(query, reference=())
            episode.history.add(episode.reference)
        entry = Entry(episode=episode, kind="base", step=episode.reference_step, query=query)
        self._unsent.append(entry)
        self._queues[episode.env].append(entry)

    def _query(self, episode: Episode, moment: Moment) -> Query | Mark:
        env = self.first_env + episode.env
        if self._stream:
            return Mark(
                task=episode.task,
                cameras=self.cameras,
                t_from_ns=episode.reference_ns,
                t_to_ns=moment.wall_ns,
                max_age_s=self.config.max_age_s,
                env=env,
                episode=episode.number,
                step=episode.step,
            )
        return Query(
            task=episode.task,
            newest=moment.frames,
            reference=episode.reference,
            history=episode.history.instants,
            env=env,
            episode=episode.number,
            step=episode.step,
        )

    def _may_settle(self, queue: deque[Entry], policy: Wait) -> bool:
        entry = queue[0]
        if entry.query is None or entry.episode.over:
            return True
        if entry.batch is None:
            return False
        if policy == "all" or entry.batch.ready():
            return True
        if policy == "previous":
            return entry.batch.number <= self._before
        return len(queue) > self.config.max_in_flight

    def _settle(self, entry: Entry) -> list[RewardRecord]:
        episode = entry.episode
        if episode.over:
            return self._drop([entry]) if entry.kind == "step" else []
        if entry.kind == "stop":
            episode.end = "abandoned"
            records = self._drop(episode.open)
            self._finish(episode)
            return records
        if entry.query is None:
            return self._between(entry)
        score = self._score(entry)
        if not score.ok:
            # Also the reason of the next transition, where it is Φ of the start that is missing.
            episode.lost = score.status.value
        if entry.kind == "base":
            episode.shaping.rebase(score, task=entry.query.task.instruction)
            episode.gate.reset()
            return []
        return self._judge(entry, score)

    def _score(self, entry: Entry) -> Score:
        assert entry.batch is not None  # _may_settle saw it
        assert entry.query is not None
        score = self.desk.collect(entry.batch)[entry.place]
        for listener in self._listeners:
            listener(entry.query, score, entry.facts.action)
        self.desk.count(score)
        return score

    def _between(self, entry: Entry) -> list[RewardRecord]:
        episode = entry.episode
        if self.config.shaping.spread:
            episode.open.append(entry)
            return []
        terms = episode.shaping.between(entry.facts.reward)
        return [self._record(entry, terms=terms)]

    def _judge(self, entry: Entry, score: Score) -> list[RewardRecord]:
        """Make the records that this score decides, and end the episode where it says so."""
        episode = entry.episode
        done = self._done(entry, score)
        entries = [*episode.open, entry]
        episode.open = []
        rewards = [one.facts.reward for one in entries]
        rows = episode.shaping.settle(rewards, score, done=done, span=entry.span)
        records = [self._record(one, terms=terms) for one, terms in zip(entries, rows, strict=True)]
        records[-1] = replace(records[-1], score=score, terminated=bool(done))
        if done:
            episode.end = f"done:{self.config.done_owner}"
            episode.over = True
            self.counts["done"] += 1
        if done or entry.last:
            self._finish(episode)
        return records

    def _done(self, entry: Entry, score: Score) -> bool | None:
        owner = self.config.done_owner
        if owner == "env":
            return entry.facts.terminated
        if owner == "human":
            return entry.facts.declared
        if not score.ok:
            return None
        return entry.episode.gate.update(score.signals.done, vetoed=entry.vetoed)

    def _record(self, entry: Entry, *, terms: RewardTerms) -> RewardRecord:
        episode = entry.episode
        episode.length += 1
        status = "ok"
        if math.isnan(terms.total):
            status = episode.lost
            episode.missing += 1
            self.counts["dropped"] += 1
        else:
            episode.total += terms.total
        return RewardRecord(
            env=episode.env,
            episode=episode.number,
            step=entry.step,
            reward=terms.total,
            status=status,
            terms=terms,
        )

    def _drop(self, entries: Sequence[Entry]) -> list[RewardRecord]:
        self.counts["dropped"] += len(entries)
        records = [
            RewardRecord(
                env=entry.episode.env,
                episode=entry.episode.number,
                step=entry.step,
                status=Status.CANCELLED.value,
            )
            for entry in entries
        ]
        for entry in entries:
            entry.episode.open = []
        return records

    def _finish(self, episode: Episode) -> None:
        self._summaries.append(episode.summary())
