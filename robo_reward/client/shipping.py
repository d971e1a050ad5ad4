"""Turns questions into messages, and remembers what the node is believed to have already."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from robo_reward.frames import Frame
from robo_reward.protocol.envelope import MAX_PARTS, Buffer
from robo_reward.protocol.payload import FrameRef, check_frame, refer
from robo_reward.protocol.score import TO_NODE, FramePut, MarkRequest, ScoreRequest, TaskPut
from robo_reward.query import Mark, Query
from robo_reward.task import Task

from .asks import GRACE_S, Ask

# More than the frames of any window, fewer than the node keeps; a wrong guess costs one round trip.
REMEMBERED = 1024
INLINE_BYTES = 16 * 1024 * 1024

Message = list[Buffer]


class Shipping:
    """Makes the messages of a question: frames and task that the node lacks, then the question.

    Args:
        session: Names the client.
    """

    def __init__(self, session: str) -> None:
        self.session = session
        self.boot = ""
        self.frames_sent = 0
        self._frames: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[str] = set()

    def greeted(self, boot: str) -> None:
        """Start with a node; another boot id than before means that it knows nothing."""
        if boot != self.boot:
            self._frames.clear()
        self._tasks.clear()
        self.boot = boot

    def forget(self, query: Query | Mark, *, frames: Iterable[str], task: bool) -> None:
        """Note that the node lacks these frames, and with ``task`` the task of the question."""
        lacking = set(frames)
        for frame_id in lacking:
            self._frames.pop(frame_id, None)
        if task or lacking & {frame.id for frame in _task_frames(query.task)}:
            self._tasks.discard(query.task.key)

    def forget_all(self, query: Query | Mark) -> None:
        """Note that nothing of this question is known to have arrived."""
        frames = [*_task_frames(query.task)]
        if isinstance(query, Query):
            frames += query.frames
        self.forget(query, frames=[frame.id for frame in frames], task=True)

    def messages(self, ask: Ask, *, offset_ns: int) -> list[Message]:
        """Return what must be sent, in order, for the node to answer.

        Args:
            ask: The question.
            offset_ns: The node's wall clock minus ours.

        Raises:
            Refusal: A frame or the message is larger than the node would take.
        """
        made = self._task(ask.query.task)
        if isinstance(ask.query, Mark):
            return [*made, TO_NODE.pack(self._mark(ask, ask.query, offset_ns))]
        # Earlier instants are there already, unless the node was started anew: they are only named.
        made += self._put(self._fresh(ask.query.past))
        fresh = self._fresh([*ask.query.newest, *ask.query.reference])
        if sum(len(frame.data) for frame in fresh) > INLINE_BYTES:
            made += self._put(fresh)
            fresh = []
        parts = {frame.id: index for index, frame in enumerate(fresh)}
        self._remember(fresh)
        made.append(TO_NODE.pack(self._score(ask, ask.query, parts), [f.data for f in fresh]))
        return made

    def _task(self, task: Task) -> list[Message]:
        if task.key in self._tasks:
            return []
        made = self._put(self._fresh(_task_frames(task)))
        header = TaskPut(
            session=self.session,
            key=task.key,
            instruction=task.instruction,
            stage=task.stage,
            goal=None if task.goal is None else refer(task.goal),
            demo=tuple(frame.id for frame in task.demo),
        )
        made.append(TO_NODE.pack(header))
        self._tasks.add(task.key)
        return made

    def _put(self, frames: list[Frame]) -> list[Message]:
        made = []
        group: list[Frame] = []
        for frame in [*frames, None]:
            room = MAX_PARTS if frame is None else MAX_PARTS - 1
            size = sum(len(one.data) for one in group)
            if group and (frame is None or len(group) > room or size > INLINE_BYTES // 2):
                refs = tuple(refer(one, part=index) for index, one in enumerate(group))
                header = FramePut(session=self.session, frames=refs)
                made.append(TO_NODE.pack(header, [one.data for one in group]))
                self._remember(group)
                group = []
            if frame is not None:
                group.append(frame)
        return made

    def _fresh(self, frames: Iterable[Frame]) -> list[Frame]:
        found: dict[str, Frame] = {}
        for frame in frames:
            if frame.id in self._frames:
                self._frames.move_to_end(frame.id)
            elif frame.id not in found:
                check_frame(frame.header.shape, frame.header.encoding, frame.data)
                found[frame.id] = frame
        return list(found.values())

    def _remember(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.frames_sent += 1
            self._frames[frame.id] = None
        while len(self._frames) > REMEMBERED:
            self._frames.popitem(last=False)

    def _score(self, ask: Ask, query: Query, parts: dict[str, int]) -> ScoreRequest:
        def refs(frames: tuple[Frame, ...]) -> tuple[FrameRef, ...]:
            return tuple(refer(frame, part=parts.get(frame.id, -1)) for frame in frames)

        return ScoreRequest(
            newest=refs(query.newest),
            reference=refs(query.reference),
            history=tuple(frame.id for frame in query.past),
            **self._common(ask),
        )

    def _mark(self, ask: Ask, mark: Mark, offset_ns: int) -> MarkRequest:
        return MarkRequest(
            cameras=mark.cameras,
            t_from_ns=mark.t_from_ns + offset_ns if mark.t_from_ns else 0,
            t_to_ns=mark.t_to_ns + offset_ns,
            max_age_s=mark.max_age_s,
            **self._common(ask),
        )

    def _common(self, ask: Ask) -> dict[str, Any]:
        query = ask.query
        left = min(ask.budget_s, max(0.0, ask.give_up_s - GRACE_S - time.monotonic()))
        return {
            "session": self.session,
            "boot": self.boot,
            "seq": ask.seq,
            "attempt": ask.attempt,
            "env": query.env,
            "episode": query.episode,
            "step": query.step,
            "task": query.task.key,
            "budget_s": left,
        }


def _task_frames(task: Task) -> list[Frame]:
    return [*([task.goal] if task.goal is not None else []), *task.demo]
