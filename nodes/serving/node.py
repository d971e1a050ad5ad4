"""The reward node as an object: sockets, rules, decoding and one model, started and stopped."""

from __future__ import annotations

import functools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from robo_reward.closing import Closing
from robo_reward.errors import ConfigError, ModelError, RoboRewardError
from robo_reward.models.base import RewardModel
from robo_reward.protocol.handshake import Beat, BeatReply
from robo_reward.transport.keys import Keys

from ..lifecycle import Lifecycle, State
from ..measurements import Histogram, Measurement
from .batcher import Batcher
from .cost import CostModel
from .desk import Desk
from .door import Door, beat_reply
from .gauges import Gauges
from .marks import Marks
from .sessions import Limits
from .worker import Outcome, Worker

logger = logging.getLogger(__name__)

DEFAULT_ADDRESS = "tcp://127.0.0.1:5601"
DECODERS = 2
LOOK_S = 0.1


class RewardNode(Closing):
    """Serves one model at one address.

    Args:
        model: A model, or what makes one (called in the worker's thread, so that the node answers
            ``NOT_READY`` meanwhile). The node owns and closes it.
        address: ``tcp://host:port`` (port 0 takes a free one) or ``ipc://path``.
        cameras: Name and bound address of each camera that answers marks (stream mode).
        max_batch: Most rows of a batch; the warm-up may find that fewer are better.
        warm_up: Whether to run batches of growing size before the first request.
        keys: Secure the sockets: clients need a key on the list, cameras too.
        insecure_no_auth: Allow an address that other machines can reach, without keys. Nobody is
            asked who they are then: only on a network that you trust.
        limits: Bounds on clients, queues and frames.
        stall_s: A batch that takes longer than this, and than ten times the slowest usual one, is
            stalled: its questions and new ones get ``STALLED``.
        stall_exit_s: After so long in a stall ``on_stall`` is called.
        on_stall: By default nothing; the process of ``serve.py`` exits with code 70, for a
            supervisor to restart it.

    Example:
        >>> from robo_reward.client import connect
        >>> from robo_reward.models.oracle_pixels import OraclePixels
        >>> with RewardNode(OraclePixels(), address="tcp://127.0.0.1:0") as node:
        ...     with connect(node.address) as source:
        ...         source.info().model
        'oracle-pixels@1'
    """

    def __init__(
        self,
        model: RewardModel | Callable[[], RewardModel],
        *,
        address: str = DEFAULT_ADDRESS,
        cameras: Mapping[str, str] | None = None,
        max_batch: int = 32,
        warm_up: bool = True,
        keys: Keys | None = None,
        insecure_no_auth: bool = False,
        limits: Limits | None = None,
        stall_s: float = 5.0,
        stall_exit_s: float = 30.0,
        on_stall: Callable[[], None] | None = None,
    ) -> None:
        if max_batch < 1:
            raise ConfigError(f"max_batch must be >= 1, got {max_batch}")
        self.boot = secrets.token_hex(16)
        self.life = Lifecycle()
        self._limits = limits or Limits()
        self._keys = keys
        self._insecure_no_auth = insecure_no_auth
        self._wanted = address
        self.cameras = dict(cameras or {})
        self._marks: Marks | None = None
        self._stall_s = stall_s
        self._stall_exit_s = stall_exit_s
        self._on_stall = on_stall
        self._stalled_since_s = 0.0
        self._ready = threading.Event()
        self._cost = CostModel()
        self._gauges = Gauges()
        self._batcher = Batcher(self._cost)
        self._door: Door | None = None
        self._desk: Desk | None = None
        self._pool: ThreadPoolExecutor | None = None
        load: Callable[[], RewardModel] = (
            functools.partial(_itself, model) if isinstance(model, RewardModel) else model
        )
        self._worker = Worker(
            load,
            batcher=self._batcher,
            cost=self._cost,
            deliver=self._deliver,
            on_loaded=self._loaded,
            max_batch=max_batch,
            warm_up=warm_up,
        )

    @property
    def address(self) -> str:
        """Where clients connect; known once the node was started."""
        return self._wanted if self._door is None else str(self._door.address)

    @property
    def state(self) -> State:
        """Where the node stands in its life."""
        return self.life.state

    def start(self) -> RewardNode:
        """Bind and begin to load the model; ``wait_ready`` says when questions are taken.

        Raises:
            ConfigError: The address is malformed or open to the network without permission.
            DeviceError: The port is busy.
        """
        door = Door(self._wanted, keys=self._keys, insecure_no_auth=self._insecure_no_auth)
        self._door = door
        self._pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="robo-reward-decode")
        self._desk = Desk(
            boot=self.boot,
            life=self.life,
            batcher=self._batcher,
            cost=self._cost,
            pool=self._pool,
            limits=self._limits,
            reply=door.reply,
            hand_back=door.hand_back,
        )
        if self.cameras:
            self._marks = Marks(
                self.cameras,
                pool=self._pool,
                prepared=self._desk.prepared,
                failed=self._desk.failure,
                wake=door.call,
                history=self._history,
                keys=self._keys,
            )
            self._desk.marks = self._marks
        door.on_tick = self._watch
        door.on_beat = self._beat
        self.life.to(State.CONFIGURING)
        door.start(self._desk)
        self._worker.start()
        return self

    @property
    def stalled(self) -> bool:
        """Whether the model has not come back from a batch for too long."""
        return self._desk is not None and self._desk.stalled

    def wait_ready(self, *, timeout_s: float = 600.0, stop: threading.Event | None = None) -> None:
        """Wait until the model is loaded and warm, or until ``stop`` is set.

        Raises:
            RoboRewardError: The model could not be loaded, or not in time.
        """
        end = time.monotonic() + timeout_s
        while not self._ready.wait(min(LOOK_S, max(0.0, end - time.monotonic()))):
            if stop is not None and stop.is_set():
                return
            if time.monotonic() >= end:
                raise ModelError(f"the model was not loaded and warm within {timeout_s:g} s")
        error = self._worker.error
        if isinstance(error, RoboRewardError):
            raise error
        if error is not None:
            raise ModelError(f"the model could not be loaded: {error!r}") from error

    def stats(self) -> dict[str, float]:
        """Return counters of the door, the rules and the worker."""
        found: dict[str, float] = {}
        if self._door is not None and self._desk is not None:
            found.update(self._door.counts)
            found.update(self._desk.counts)
            found.update(self._door.guarded())
            found["sessions"] = len(self._desk.sessions)
            found["open_jobs"] = self._desk.open_jobs
            found["frames_decoded"] = self._desk.store.decoded
            found["store_bytes"] = self._desk.store.size_bytes
        if self._marks is not None:
            found["misalignment_s"] = self._marks.misalignment_s
        found.update(self._worker.counts)
        found["encoded_frames"] = self._worker.encoded_frames
        found["max_batch"] = self._worker.max_batch
        found["fixed_s"] = self._cost.fixed_s
        found["each_s"] = self._cost.each_s
        return found

    def measurements(self) -> list[Measurement | Histogram]:
        """Return the statistics under public names, with distributions of times and batches."""
        return self._gauges.measurements(self.stats(), stalled=self.stalled)

    def drain(self, *, timeout_s: float = 5.0) -> None:
        """Take no more questions, answer those that are open, then close."""
        if self.state in (State.ACTIVE, State.INACTIVE, State.CONFIGURING):
            self.life.to(State.DRAINING)
            end = time.monotonic() + timeout_s
            while self._desk is not None and self._desk.open_jobs and time.monotonic() < end:
                time.sleep(0.01)
        self.close()

    def close(self) -> None:
        """Stop at once; open questions are answered with ``DRAINING``. May be called twice."""
        if self.state is State.FINALIZED:
            return
        if self.state is not State.UNCONFIGURED and self.state is not State.DRAINING:
            self.life.to(State.DRAINING)
        if self._door is not None:
            self._door.call(self._refuse_rest)
            self._worker.stop(timeout_s=2.0)
            self._door.stop()
        if self._marks is not None:
            self._marks.close()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self.life.to(State.FINALIZED)

    def __enter__(self) -> RewardNode:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def _deliver(self, outcomes: Sequence[Outcome]) -> None:
        self._gauges.observe(outcomes)
        if self._door is not None:
            self._door.hand_back(outcomes)

    def _loaded(self) -> None:
        if self._door is not None:
            self._door.call(self._activate)

    def _activate(self) -> None:
        """Begin to take questions, or step back where the model could not be loaded."""
        if self._desk is not None and self.state is State.CONFIGURING:
            if self._worker.error is None:
                self._desk.info = self._worker.info
                self.life.to(State.INACTIVE)
                self.life.to(State.ACTIVE)
            else:
                logger.error("the model could not be loaded", exc_info=self._worker.error)
                self.life.to(State.UNCONFIGURED)
        self._ready.set()

    def _history(self) -> int:
        info = None if self._desk is None else self._desk.info
        return 0 if info is None else info.history

    def _beat(self, beat: Beat) -> BeatReply:
        assert self._desk is not None
        return beat_reply(
            beat,
            self._desk,
            state=self.state.value,
            last_batch_s=self._worker.last_batch_s,
            busy_since_s=self._worker.busy_since_s,
            queued=len(self._batcher),
        )

    def _refuse_rest(self) -> None:
        if self._desk is not None:
            self._desk.refuse_all("DRAINING", "the node is shutting down")

    def _watch(self, now_s: float) -> None:
        """Notice a model that does not come back; called by the door's thread."""
        assert self._desk is not None
        if self._marks is not None:
            self._marks.sweep()
        since = self._worker.busy_since_s
        busy_s = now_s - since if since else 0.0
        limit_s = max(self._stall_s, 10 * self._cost.p99_s()) if busy_s > self._stall_s else 0.0
        if limit_s and busy_s > limit_s:
            if not self._desk.stalled:
                logger.error("the model has not come back for %.1f s", busy_s)
                self._desk.stalled = True
                self._stalled_since_s = now_s
                self._desk.refuse_all("STALLED", "the model does not answer")
            elif now_s - self._stalled_since_s > self._stall_exit_s and self._on_stall is not None:
                on_stall, self._on_stall = self._on_stall, None
                on_stall()
        elif self._desk.stalled:
            logger.warning("the model answers again")
            self._desk.stalled = False


def _itself(model: RewardModel) -> RewardModel:
    return model
