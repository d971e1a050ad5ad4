"""The rules of the node: what each message does, and that every question ends in one answer."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Protocol

import msgspec

from robo_reward.client.source import ModelInfo
from robo_reward.errors import InstructionError
from robo_reward.frames import Frame
from robo_reward.protocol.envelope import Buffer, Header, Refusal
from robo_reward.protocol.handshake import Cancel, Hello, Refused, Welcome, agree, mismatch
from robo_reward.protocol.payload import FrameRef, oldest_age_s
from robo_reward.protocol.score import (
    FramePut,
    MarkRequest,
    Measured,
    ScoreReply,
    ScoreRequest,
    TaskPut,
    answer,
)
from robo_reward.query import Query
from robo_reward.signals import OUTAGE, REASONS
from robo_reward.task import Task

from ..lifecycle import Lifecycle, State
from .batcher import Batcher
from .cost import CostModel
from .gather import gather
from .meter import Meter
from .refusals import changed, unscored
from .sessions import Fingerprint, Job, Limits, Question, Session, Sessions, fingerprint
from .store import FrameStore
from .worker import Outcome

logger = logging.getLogger(__name__)

Reply = Callable[[bytes, Header], None]
"""Sends a header to a routing id."""


class MarkRoom(Protocol):
    """Where questions by time wait for their frames; see ``marks.Marks``."""

    def check(self, ask: MarkRequest) -> None:
        """Refuse a mark that no camera of this node can answer."""
        ...

    def add(self, job: Job, task: Future[Task]) -> None:
        """Take a mark in."""
        ...


class Desk:
    """Takes messages in and gives answers out; only the I/O thread calls it.

    Args:
        boot: Names this run of the node.
        life: Life cycle; questions are taken while it is active.
        batcher: Where questions wait for the model.
        cost: Says how long a refused client should wait.
        pool: Where frames are checked and decoded.
        limits: Bounds.
        reply: Sends an answer.
        hand_back: Passes outcomes from other threads to the I/O thread.
    """

    def __init__(
        self,
        *,
        boot: str,
        life: Lifecycle,
        batcher: Batcher,
        cost: CostModel,
        pool: Executor,
        limits: Limits,
        reply: Reply,
        hand_back: Callable[[Sequence[Outcome | Failure]], None],
    ) -> None:
        self.boot = boot
        self.counts: Counter[str] = Counter()
        self.sessions = Sessions(limits)
        self.store = FrameStore(pool, capacity_bytes=limits.store_bytes)
        self.info: ModelInfo | None = None
        self.control_port = 0
        self.marks: MarkRoom | None = None
        self.stalled = False
        self.open_jobs = 0
        self.open_bytes = 0
        self._life = life
        self._batcher = batcher
        self._cost = cost
        self._limits = limits
        self._meter = Meter(messages_s=limits.peer_messages_s, bytes_s=limits.peer_bytes_s)
        self._reply = reply
        self._hand_back = hand_back

    def on_message(
        self,
        routing: bytes,
        header: Header,
        parts: Sequence[Buffer],
        *,
        peer: str = "",
        size: int = 0,
    ) -> None:
        """Act on a message of the score socket.

        Args:
            routing: Of the connection.
            header: What it says.
            parts: Its bytes.
            peer: The sender's key; empty where nobody has one.
            size: Bytes of the message.

        Raises:
            Refusal: It cannot be acted on, and is no question that an answer could name.
        """
        self.counts[f"in_{type(header).__name__}"] += 1
        wait_s = self._meter.wait_s(peer or routing, size)
        if wait_s:
            self._slow_down(routing, header, wait_s)
            return
        if isinstance(header, Hello):
            self._greet(routing, header, peer)
            return
        session = self._session(routing, header)
        if isinstance(header, ScoreRequest | MarkRequest):
            self._ask(routing, session, header, parts)
        elif session is None:
            raise Refusal("NOT_READY", "unknown session, say hello first")
        elif isinstance(header, FramePut):
            self._take(header.frames, parts)
        elif isinstance(header, TaskPut):
            self._put_task(session, header, parts)

    def _slow_down(self, routing: bytes, header: Header, wait_s: float) -> None:
        """Tell a client that sends more than its share when to go on."""
        self.counts["rate_limited"] += 1
        detail = "more messages or bytes per second than one client may send"
        made: Header = Refused(reason="BUSY", detail=detail, boot=self.boot)
        if isinstance(header, ScoreRequest | MarkRequest):
            self.counts["out_BUSY"] += 1
            made = unscored(header, self.boot, "BUSY", detail)
        self._reply(routing, msgspec.structs.replace(made, retry_after_s=wait_s))

    def heard(self, session_id: str, *, peer: str = "") -> None:
        """Note that a client is alive.

        Raises:
            Refusal: ``DENIED``: it has another key.
        """
        session = self.sessions.find(session_id)
        if session is not None:
            _check_owner(session, peer)
            session.heard_s = time.monotonic()

    def cancel(self, cancel: Cancel, *, peer: str = "") -> None:
        """Forget the questions that nobody waits for any more.

        Raises:
            Refusal: ``DENIED``: they are those of another key.
        """
        session = self.sessions.find(cancel.session)
        if session is None:
            return
        _check_owner(session, peer)
        for seq in cancel.seqs:
            job = session.jobs.get(seq)
            if job is not None:
                self.counts["cancelled"] += 1
                self._close(job)

    def outcome(self, outcome: Outcome) -> None:
        """Answer a question with its score."""
        job = outcome.job
        if job.dropped:
            self.counts["discarded"] += 1
            return
        waited = outcome.started_s - job.arrived_s
        measured = Measured(
            age_s=job.age_s + waited if outcome.batch else math.nan,
            queue_s=waited,
            inference_s=outcome.inference_s,
            decode_s=job.decode_s,
            batch=outcome.batch,
        )
        self._finish(job, answer(job.question, outcome.score, boot=self.boot, measured=measured))

    def failure(self, failure: Failure) -> None:
        """Answer a question whose frames or task turned out not to be what they claimed."""
        if failure.job.dropped:
            return
        error = failure.error
        if isinstance(error, Refusal) and error.reason == "BAD_PAYLOAD":
            self._reject(failure.job, error)
        elif isinstance(error, Refusal):
            self._refuse(failure.job, error.reason, error.detail)
        else:
            logger.error("preparing a request failed", exc_info=error)
            self._refuse(failure.job, "BAD_PAYLOAD", "the frames of the request cannot be used")

    def _reject(self, job: Job, error: Refusal) -> None:
        """Blame who sent the bytes of a bad frame; whoever only named it may send true ones."""
        ask = job.question
        ids = _frame_ids(ask) if isinstance(ask, ScoreRequest) else []
        lacking = tuple({one: None for one in ids if self.store.get(one) is None})
        if not lacking or job.supplied & set(lacking):
            self._refuse(job, error.reason, error.detail)
            return
        made = unscored(ask, self.boot, "NEED_FRAMES", "send these frames again")
        self._close(job)
        self._answer(job.session, changed(made, need=lacking))

    def refuse_all(self, reason: str, detail: str) -> None:
        """Answer every open question with a refusal."""
        for session in self.sessions.all():
            for job in list(session.jobs.values()):
                self._tell(job, reason, detail)

    def tick(self, now_s: float) -> None:
        """Forget clients that are gone, and answer what outlived its deadline unseen."""
        for session in self.sessions.silent(now_s):
            self.counts["sessions_lost"] += 1
            logger.info("client %s is gone", session.id)
            for job in list(session.jobs.values()):
                self._close(job)
        for session in self.sessions.all():
            for job in list(session.jobs.values()):
                if now_s > job.deadline_s:
                    self._tell(job, "DEADLINE", f"no answer in {now_s - job.arrived_s:.3f} s")

    # -- clients and tasks -----------------------------------------------------------------------

    def _greet(self, routing: bytes, hello: Hello, peer: str) -> None:
        minor = agree(hello)
        if minor is None:
            raise Refusal("VERSION", mismatch(hello))
        if self._life.state is not State.ACTIVE or self.info is None:
            raise self._not_active()
        session = self.sessions.greet(hello, routing, peer=peer)
        self._reply(
            routing,
            Welcome(
                session=session.id,
                boot=self.boot,
                minor=minor,
                window=session.window,
                control=self.control_port,
                model=self.info.model,
                prompt=self.info.prompt,
                calibration=self.info.calibration,
                signals=self.info.signals,
                max_views=self.info.max_views,
                goal_image=self.info.goal_image,
                demo=self.info.demo,
                history=self.info.history,
                gates=dict(self.info.gates),
            ),
        )

    def _not_active(self) -> Refusal:
        state = self._life.state
        if state in (State.DRAINING, State.FINALIZED):
            return Refusal("DRAINING", "the node is shutting down")
        return Refusal("NOT_READY", f"the node is {state.value}")

    def _session(self, routing: bytes, header: Header) -> Session | None:
        session = self.sessions.find(getattr(header, "session", ""))
        if session is None or session.routing != routing:
            return None  # another connection may not speak for a session before it says hello
        session.heard_s = time.monotonic()
        return session

    def _put_task(self, session: Session, put: TaskPut, parts: Sequence[Buffer]) -> None:
        goal = [put.goal] if put.goal is not None else []
        self._take(goal, parts)
        try:
            known = self._known([*[ref.id for ref in goal], *put.demo])
        except Missing as missing:
            # Told to whoever asks about this task: the question names what must come again.
            failed: Future[Task] = Future()
            failed.set_exception(missing)
            session.tasks[put.key] = failed
            return
        task: Future[Task] = Future()
        gather(known, functools.partial(_make_task, put, task))
        session.tasks[put.key] = task
        session.tasks.move_to_end(put.key)
        while len(session.tasks) > self._limits.tasks:
            session.tasks.popitem(last=False)

    # -- questions -------------------------------------------------------------------------------

    def _ask(
        self, routing: bytes, session: Session | None, ask: Question, parts: Sequence[Buffer]
    ) -> None:
        if session is None or ask.boot != self.boot:
            # Meant for an earlier run of the node, or for nobody: it is not executed here.
            self.counts["refused_NOT_READY"] += 1
            made = unscored(ask, self.boot, "NOT_READY", "unknown session, say hello first")
            self._reply(routing, made)
            return
        try:
            self._admit(session, ask, parts)
        except Missing as missing:
            made = unscored(ask, self.boot, "NEED_FRAMES", "send these frames again")
            self._answer(session, changed(made, need=missing.frames[:128]))
        except Refusal as refusal:
            made = unscored(ask, self.boot, refusal.reason, refusal.detail)
            self._answer(session, changed(made, retry_after_s=self._retry_after(refusal.reason)))

    def _admit(self, session: Session, ask: Question, parts: Sequence[Buffer]) -> None:
        mark = fingerprint(ask)
        known = session.replies.get(ask.seq)
        if known is not None:
            self._same(known[1], mark, ask)
            self.counts["duplicates"] += 1
            self._answer(session, changed(known[2], attempt=ask.attempt))
            return
        job = session.jobs.get(ask.seq)
        if job is not None:
            self._same(job.mark, mark, ask)
            self.counts["duplicates"] += 1
            job.question = ask
            job.told = False
            job.deadline_s = max(job.deadline_s, time.monotonic() + ask.budget_s)
            return
        self._check_open(session)
        if isinstance(ask, MarkRequest):
            self._admit_mark(session, ask, mark)
        else:
            self._admit_query(session, ask, mark, parts)

    def _same(self, first: Fingerprint, second: Fingerprint, ask: Question) -> None:
        if first != second:
            raise Refusal("BAD_HEADER", f"seq {ask.seq} was used for another question")

    def _check_open(self, session: Session) -> None:
        if self._life.state is not State.ACTIVE:
            raise self._not_active()
        if self.stalled:
            raise Refusal("STALLED", "the model does not answer")
        if len(session.jobs) >= session.window:
            raise Refusal("BUSY", f"{len(session.jobs)} requests of this client are open")
        if self.open_jobs >= self._limits.queue or self.open_bytes >= self._limits.queue_bytes:
            raise Refusal("BUSY", f"{self.open_jobs} requests are open")

    def _admit_query(
        self, session: Session, ask: ScoreRequest, mark: Fingerprint, parts: Sequence[Buffer]
    ) -> None:
        self._check_frames(ask)
        refs = [*ask.newest, *ask.reference]
        supplied = self._take(refs, parts)
        try:
            frames = self._known(_frame_ids(ask))
        except Missing as missing:
            if supplied & set(missing.frames):  # already found out by the pool
                raise Refusal("BAD_PAYLOAD", "a frame is not what its header says") from missing
            raise
        task = self._task(session, ask.task)
        now = time.monotonic()
        job = Job(
            question=ask,
            session=session,
            mark=mark,
            arrived_s=now,
            deadline_s=now + ask.budget_s,
            age_s=oldest_age_s(ask.newest),
            size=sum(ref.shape[0] * ref.shape[1] * 3 for ref in refs),
            supplied=supplied,
        )
        self._open(job)
        counts = (len(ask.newest), len(ask.reference))
        gather([task, *frames], functools.partial(self.prepared, job, counts))

    def _check_frames(self, ask: ScoreRequest) -> None:
        views, past = (self.info.max_views, self.info.history) if self.info is not None else (1, 0)
        cameras = len(ask.newest)
        if cameras > views or len(ask.reference) not in (0, cameras):
            raise Refusal(
                "BAD_HEADER",
                f"{cameras} newest and {len(ask.reference)} reference frames; the model takes at "
                f"most {views}, and as many reference frames or none",
            )
        if len(ask.history) % cameras or len(ask.history) > past * cameras:
            raise Refusal(
                "BAD_HEADER",
                f"{len(ask.history)} earlier frames of {cameras} cameras; the model looks back at "
                f"{past} instants at most",
            )

    def _admit_mark(self, session: Session, ask: MarkRequest, mark: Fingerprint) -> None:
        if self.marks is None:
            raise Refusal("NO_FRAME", "this node reads no cameras; send the frames in a query")
        views = self.info.max_views if self.info is not None else 1
        if len(ask.cameras) > views:
            text = f"{len(ask.cameras)} cameras; the model takes at most {views}"
            raise Refusal("BAD_HEADER", text)
        self.marks.check(ask)
        task = self._task(session, ask.task)
        now = time.monotonic()
        job = Job(
            question=ask,
            session=session,
            mark=mark,
            arrived_s=now,
            deadline_s=now + ask.budget_s,
            age_s=math.nan,
            size=0,
        )
        self._open(job)
        self.marks.add(job, task)

    def _task(self, session: Session, key: str) -> Future[Task]:
        task = session.tasks.get(key)
        if task is None:
            raise Refusal("TASK_UNKNOWN", "the task of this request was not put, or forgotten")
        if task.done() and (error := task.exception()) is not None:
            del session.tasks[key]
            raise error
        session.tasks.move_to_end(key)
        return task

    def prepared(
        self,
        job: Job,
        counts: tuple[int, int],
        values: list[object],
        error: BaseException | None,
    ) -> None:
        """Pass a job on once its frames are decoded; runs in whichever thread was last.

        Args:
            job: Gets its query.
            counts: Number of newest and of reference frames; the others are earlier ones.
            values: Task, newest, reference, and history instant by instant.
            error: Why there are none.
        """
        if error is not None:
            self._hand_back([Failure(job, error)])
            return
        task, *frames = values
        ask = job.question
        if not isinstance(task, Task):
            return
        images = [frame for frame in frames if isinstance(frame, Frame)]
        cameras, first = counts[0], sum(counts)
        job.query = Query(
            task=task,
            newest=tuple(images[:cameras]),
            reference=tuple(images[cameras:first]),
            history=tuple(
                tuple(images[at : at + cameras]) for at in range(first, len(images), cameras)
            ),
            env=ask.env,
            episode=ask.episode,
            step=ask.step,
        )
        job.decode_s = time.monotonic() - job.arrived_s
        self._batcher.put(job)

    def _take(self, refs: Sequence[FrameRef], parts: Sequence[Buffer]) -> frozenset[str]:
        """Put the frames that came along into the store; returns those that were new there."""
        sent = [ref for ref in refs if ref.part >= 0]
        return frozenset(ref.id for ref in sent if self.store.put(ref, _part(ref, parts)))

    def _known(self, ids: Sequence[str]) -> list[Frame | Future[Frame]]:
        found = {frame_id: self.store.get(frame_id) for frame_id in ids}
        lacking = tuple(frame_id for frame_id, frame in found.items() if frame is None)
        if lacking:
            raise Missing(lacking)
        return [frame for frame_id in ids if (frame := found[frame_id]) is not None]

    # -- the end of a question -------------------------------------------------------------------

    def _open(self, job: Job) -> None:
        job.session.jobs[job.question.seq] = job
        self.open_jobs += 1
        self.open_bytes += job.size

    def _close(self, job: Job) -> None:
        if job.dropped:
            return
        job.dropped = True
        job.session.jobs.pop(job.question.seq, None)
        self.open_jobs -= 1
        self.open_bytes -= job.size

    def _tell(self, job: Job, reason: str, detail: str) -> None:
        """Refuse a job, but keep one that the model has: its answer may still serve a retry."""
        if not job.running:
            self._refuse(job, reason, detail)
        elif not job.told:
            job.told = True
            self._answer(job.session, unscored(job.question, self.boot, reason, detail))

    def _refuse(self, job: Job, reason: str, detail: str) -> None:
        made = unscored(job.question, self.boot, reason, detail)
        self._finish(job, changed(made, retry_after_s=self._retry_after(reason)))

    def _finish(self, job: Job, made: ScoreReply) -> None:
        self._close(job)
        if REASONS[made.reason] not in OUTAGE:  # what passes by itself may end otherwise next time
            job.session.remember(made, job.mark, limits=self._limits)
        if not job.told:
            self._answer(job.session, made)

    def _answer(self, session: Session, made: ScoreReply) -> None:
        self.counts[f"out_{made.reason}"] += 1
        self._reply(session.routing, made)

    def _retry_after(self, reason: str) -> float:
        if reason != "BUSY":
            return 0.0
        return self._cost.predict(max(1, len(self._batcher)))


def _frame_ids(ask: ScoreRequest) -> list[str]:
    """Ids of newest, reference and history, in the order in which ``prepared`` wants them."""
    return [*(ref.id for ref in (*ask.newest, *ask.reference)), *ask.history]


class Missing(Exception):
    """Frames that the node does not have."""

    def __init__(self, frames: tuple[str, ...]) -> None:
        super().__init__(f"{len(frames)} frames are not here")
        self.frames = frames


class Failure:
    """A job whose frames or task could not be made."""

    def __init__(self, job: Job, error: BaseException) -> None:
        self.job = job
        self.error = error


def _make_task(
    put: TaskPut, task: Future[Task], values: list[object], error: BaseException | None
) -> None:
    if error is not None:
        task.set_exception(error)
        return
    frames = [frame for frame in values if isinstance(frame, Frame)]
    goal = frames.pop(0) if put.goal is not None else None
    try:
        made = Task(instruction=put.instruction, goal=goal, demo=tuple(frames), stage=put.stage)
    except InstructionError as wrong:
        task.set_exception(Refusal("BAD_HEADER", str(wrong)[:200]))
        return
    if made.key == put.key:
        task.set_result(made)
    else:
        task.set_exception(Refusal("BAD_HEADER", "the key of the task is not that of its parts"))


def _part(ref: FrameRef, parts: Sequence[Buffer]) -> Buffer:
    if not 0 <= ref.part < len(parts):
        raise Refusal("BAD_PAYLOAD", f"part {ref.part} of {len(parts)}")
    return parts[ref.part]


def _check_owner(session: Session, peer: str) -> None:
    if session.peer != peer:
        raise Refusal("DENIED", "this session is that of another key")
