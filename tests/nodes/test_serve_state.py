"""The life of a question, whatever the order of things: one outcome, and always the same one."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from robo_reward.nodes.serving.sessions import Limits
from robo_reward.protocol.envelope import Buffer
from robo_reward.protocol.handshake import Cancel, Hello, Welcome
from robo_reward.protocol.payload import refer
from robo_reward.protocol.score import (
    CONTROL_TO_NODE,
    TO_NODE,
    FramePut,
    ScoreReply,
    ScoreRequest,
    TaskPut,
)

from .desk_bench import BOOT, DeskBench
from .serving_tools import TASK, expected, frame

CLIENTS = ("a" * 32, "b" * 32)
PASSING = {"BUSY", "NOT_READY", "DRAINING", "DEADLINE", "STALLED", "NEED_FRAMES", "TASK_UNKNOWN"}
"""Answers after which the same question may be asked again and end otherwise."""
LIMITS = Limits(window=6, queue=8, replies=256, store_bytes=1500, tasks=2)

clients = st.sampled_from(CLIENTS)
steps = st.integers(0, 12)
Key = tuple[str, int]


class Questions(RuleBasedStateMachine):
    """Clients greet, ask, retry, give up and reuse numbers; the model runs when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = DeskBench(LIMITS)
        self.greeted: set[str] = set()
        self.asked: dict[Key, int] = {}
        """What each number was first taken for: the step."""
        self.waiting: dict[Key, int] = {}
        """Open questions and how often they were sent."""
        self.final: dict[Key, ScoreReply] = {}
        self.answers: defaultdict[Key, int] = defaultdict(int)
        self.numbers = dict.fromkeys(CLIENTS, 0)

    # -- what clients do -------------------------------------------------------------------------

    @initialize()
    def both_greet(self) -> None:
        for client in CLIENTS:
            self.greet(client)

    @rule(client=clients)
    def greet(self, client: str) -> None:
        self._say(client, TO_NODE.pack(Hello(session=client, window=64)))
        put = TaskPut(session=client, key=TASK.key, instruction=TASK.instruction)
        self._say(client, TO_NODE.pack(put))
        self.greeted.add(client)

    @rule(client=clients, step=steps)
    def ask(self, client: str, step: int) -> None:
        self.numbers[client] += 1
        self._ask(client, self.numbers[client], step, inline=True)

    @rule(client=clients, step=steps, late=st.booleans())
    def ask_without_frames_or_time(self, client: str, step: int, late: bool) -> None:
        self.numbers[client] += 1
        self._ask(client, self.numbers[client], step, inline=late, late=late)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), inline=st.booleans())
    def retry(self, data: st.DataObject, inline: bool) -> None:
        client, seq = data.draw(st.sampled_from(sorted(self.asked)))
        self._ask(client, seq, self.asked[client, seq], inline=inline, attempt=1)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), shift=st.integers(1, 5))
    def reuse_the_number_for_another_question(self, data: st.DataObject, shift: int) -> None:
        client, seq = data.draw(st.sampled_from(sorted(self.asked)))
        key = (client, seq)
        taken = key in self.waiting or key in self.final
        if not taken or client not in self.greeted:
            return
        heard = self._ask(client, seq, self.asked[key] + shift, inline=True, keep=False)
        assert [one.reason for one in heard] == ["BAD_HEADER"], heard
        assert heard[0].progress is None

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        client, seq = data.draw(st.sampled_from(sorted(self.waiting)))
        self.bench.control(CONTROL_TO_NODE.pack(Cancel(session=client, seqs=(seq,))))
        del self.waiting[client, seq]
        del self.asked[client, seq]  # the number is free: nobody waits for it

    @precondition(lambda self: self.greeted)
    @rule(client=clients, step=steps)
    def send_frames_ahead(self, client: str, step: int) -> None:
        if client not in self.greeted:
            return
        one = frame(0, step)
        header = FramePut(session=client, frames=(refer(one, part=0),))
        self._say(client, TO_NODE.pack(header, [one.data]))

    # -- what the node does ----------------------------------------------------------------------

    @rule(rows=st.integers(1, 4))
    def run_the_model(self, rows: int) -> None:
        self.bench.pump(rows=rows)
        self._hear()

    @rule()
    def let_time_pass(self) -> None:
        for client in self.greeted:
            self.bench.desk.heard(client)
        self.bench.desk.tick(time.monotonic())
        self._hear()

    @rule(client=clients, luck=st.integers(0, 5))
    def forget_a_silent_client(self, client: str, luck: int) -> None:
        session = self.bench.desk.sessions.find(client)
        if session is None or luck:
            return
        session.heard_s = -1e9
        self.bench.desk.tick(time.monotonic())
        self._hear()
        self.greeted.discard(client)
        for key in [key for key in self.asked if key[0] == client]:
            self.asked.pop(key)
            self.waiting.pop(key, None)
            self.final.pop(key, None)

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def what_is_open_is_what_somebody_waits_for(self) -> None:
        open_now = {
            (session.id, seq) for session in self.bench.desk.sessions.all() for seq in session.jobs
        }
        assert open_now == set(self.waiting)
        assert self.bench.desk.open_jobs == len(open_now) <= LIMITS.queue

    def teardown(self) -> None:
        self.bench.settle()
        self._hear()
        assert not self.waiting, "questions without an outcome"
        assert self.bench.desk.open_jobs == self.bench.desk.open_bytes == 0

    # --------------------------------------------------------------------------------------------

    def _say(self, client: str, message: Sequence[Buffer]) -> None:
        self.bench.take(client.encode(), message)
        for _, header in self.bench.sent:
            assert isinstance(header, Welcome), header
        self.bench.sent.clear()

    def _ask(
        self,
        client: str,
        seq: int,
        step: int,
        *,
        inline: bool,
        late: bool = False,
        attempt: int = 0,
        keep: bool = True,
    ) -> list[ScoreReply]:
        one = frame(0, step)
        request = ScoreRequest(
            session=client, boot=BOOT, seq=seq, attempt=attempt, env=0, episode=0, step=step,
            task=TASK.key, budget_s=0.0 if late else 1000.0,
            newest=(refer(one, part=0 if inline else -1),),
        )  # fmt: skip
        key = (client, seq)
        if not keep:
            self.bench.take(client.encode(), TO_NODE.pack(request, [one.data] if inline else []))
            heard = [header for _, header in self.bench.sent if isinstance(header, ScoreReply)]
            self.bench.sent.clear()
            return heard
        was_open = key in self.waiting
        self.asked[key] = step
        self.waiting[key] = self.waiting.get(key, 0) + 1
        before = self.answers[key]
        self.bench.take(client.encode(), TO_NODE.pack(request, [one.data] if inline else []))
        self._hear()
        if was_open:
            assert self.answers[key] == before, "one that is open is not answered twice"
        return []

    def _hear(self) -> None:
        assert not self.bench.refused, self.bench.refused
        for _, header in self.bench.sent:
            assert isinstance(header, ScoreReply), header
            self._check((header.session, header.seq), header)
        self.bench.sent.clear()

    def _check(self, key: Key, reply: ScoreReply) -> None:
        assert key in self.waiting, f"an answer that nobody waits for: {reply}"
        assert reply.step == self.asked[key]
        self.waiting.pop(key)
        self.answers[key] += 1
        if reply.reason == "OK":
            want = expected(0, reply.step)
            assert abs((reply.progress or 0.0) - want[0]) < 1e-6
            assert abs((reply.done or 0.0) - want[1]) < 1e-6
        else:
            assert reply.progress is None
            assert reply.done is None
        if reply.reason in PASSING:
            assert key not in self.final, "a question that had its outcome has another one"
            return
        first = self.final.setdefault(key, reply)
        same = ("reason", "progress", "done", "frames", "queue_s", "inference_s", "batch")
        assert all(getattr(first, name) == getattr(reply, name) for name in same), (first, reply)


TestQuestions = Questions.TestCase
TestQuestions.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
