"""The rules of a reward node without sockets or threads: messages in, answers out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from robo_reward.client.local import describe
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.nodes.lifecycle import Lifecycle, State
from robo_reward.nodes.serving.batcher import Batcher
from robo_reward.nodes.serving.cost import CostModel
from robo_reward.nodes.serving.desk import Desk, Failure
from robo_reward.nodes.serving.sessions import Limits
from robo_reward.nodes.serving.worker import Outcome, Worker
from robo_reward.protocol.envelope import Buffer, Header, Refusal
from robo_reward.protocol.handshake import Beat, Cancel
from robo_reward.protocol.score import CONTROL_TO_NODE, TO_NODE

BOOT = "b0" * 16


class Inline(Executor):
    """Runs what it is given at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class DeskBench:
    """A desk with a model behind it that runs when it is told to.

    Args:
        limits: Bounds of the desk.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.sent: list[tuple[bytes, Header]] = []
        self.refused: list[Refusal] = []
        self.model = OraclePixels()
        self._done: list[Outcome | Failure] = []
        cost = CostModel()
        self.batcher = Batcher(cost)
        life = Lifecycle()
        self.desk = Desk(
            boot=BOOT,
            life=life,
            batcher=self.batcher,
            cost=cost,
            pool=Inline(),
            limits=limits or Limits(),
            reply=lambda routing, header: self.sent.append((routing, header)),
            hand_back=self._done.extend,
        )
        self.desk.info = describe(self.model)
        for state in (State.CONFIGURING, State.INACTIVE, State.ACTIVE):
            life.to(state)
        self._worker = Worker(
            lambda: self.model,
            batcher=self.batcher,
            cost=cost,
            deliver=self._done.extend,
            on_loaded=lambda: None,
            max_batch=32,
            warm_up=False,
        )

    def take(self, routing: bytes, message: Sequence[Buffer], *, peer: str = "") -> Header | None:
        """Do with a message of the score socket what the door does; return what was decoded."""
        try:
            header, parts = TO_NODE.unpack(message)
        except Refusal as refusal:
            self.refused.append(refusal)
            return None
        try:
            size = sum(memoryview(part).nbytes for part in message)
            self.desk.on_message(routing, header, parts, peer=peer, size=size)
        except Refusal as refusal:
            self.refused.append(refusal)
        return header

    def control(self, message: Sequence[Buffer], *, peer: str = "") -> Header | None:
        """Do with a message of the control socket what the door does."""
        try:
            header, _ = CONTROL_TO_NODE.unpack(message)
            if isinstance(header, Cancel):
                self.desk.cancel(header, peer=peer)
            elif isinstance(header, Beat):
                self.desk.heard(header.session, peer=peer)
        except Refusal as refusal:
            self.refused.append(refusal)
            return None
        return header

    def pump(self, *, rows: int = 32) -> None:
        """Let the model answer what waits."""
        self._deliver()
        batch, late = self.batcher.take(rows, timeout_s=0.0)
        self._done.extend(self._worker._late(job) for job in late)
        if batch:
            self._worker._answer(self.model, batch)
        self._deliver()

    def settle(self) -> None:
        """Let the model answer everything, and time run out for the rest."""
        while len(self.batcher):
            self.pump()
        self._deliver()
        end = time.monotonic() + 10_000.0
        for session in self.desk.sessions.all():
            session.heard_s = end
        self.desk.tick(end)

    def _deliver(self) -> None:
        while self._done:
            one = self._done.pop(0)
            if isinstance(one, Outcome):
                self.desk.outcome(one)
            else:
                self.desk.failure(one)
