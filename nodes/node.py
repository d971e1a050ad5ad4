"""The base of every node: name, topics, life cycle, diagnostics, a clean stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from robo_reward.errors import RoboRewardError
from robo_reward.transport.keys import as_keys

from .console import StatusLine, set_up_logging
from .diagnostics import Diagnostic, Level, worst
from .lifecycle import Lifecycle, State
from .measurements import Histogram, Measurement
from .metrics import MetricsServer
from .names import address_of, parse_remap, resolve
from .parameters import NodeParameters, from_mapping, read_yaml

STOP_WITHIN_S = 5.0
STALLED_EXIT_CODE = 70
STATUS_EVERY_S = 0.5
DIAGNOSTICS_EVERY_S = 1.0
PARENT_VARIABLE = "ROBO_REWARD_PARENT"
"""Set by ``up``: a node whose parent is gone stops by itself."""


class Node:
    """One process of the system. A subclass fills in the ``on_…`` hooks.

    ``run`` leads it through its life: ``on_configure`` (open devices, load weights),
    ``on_activate``, then ``on_step`` again and again until somebody asks it to stop,
    ``on_drain`` (finish what was begun) and ``on_cleanup``, which is called whatever happened.

    Args:
        parameters: Frozen settings.
        status: Where the status line goes; standard error when not given.

    Example:
        >>> class Counter(Node):
        ...     kind = "counter"
        ...     turns = 0
        ...     def on_step(self):
        ...         self.turns += 1
        ...         if self.turns == 3:
        ...             self.stop()
        >>> node = Counter(NodeParameters(namespace="lab"))
        >>> node.run(), node.state.value, node.topic("~/status")
        (0, 'finalized', '/lab/counter/status')
    """

    kind = "node"

    def __init__(self, parameters: NodeParameters, *, status: StatusLine | None = None) -> None:
        self.name = parameters.name or self.kind
        self.namespace = parameters.namespace
        self.log = logging.getLogger(f"robo_reward.nodes.{self.name}")
        self.stopping = threading.Event()
        self.keys = as_keys(parameters.keys)
        self._insecure_no_auth = parameters.insecure_no_auth
        self._metrics_at = parameters.metrics
        self.metrics: MetricsServer | None = None
        self._remap = parse_remap(parameters.remap)
        self._life = Lifecycle(on_change=self._announce)
        self._status = status or StatusLine(logger=self.log)
        self._status_s = self._diagnostics_s = 0.0
        self._level = Level.OK
        self._parent = int(os.environ.get(PARENT_VARIABLE, "0") or "0")

    @property
    def state(self) -> State:
        """Where the node stands in its life."""
        return self._life.state

    def topic(self, topic: str) -> str:
        """Return the full name of a topic after namespace and remapping."""
        return resolve(topic, namespace=self.namespace, node=self.name, remap=self._remap)

    def address(self, topic: str) -> str:
        """Return where a topic is found: an address as it is, a name as a local socket."""
        return address_of(topic if "://" in topic else self.topic(topic))

    def stop(self) -> None:
        """Ask the node to stop; returns at once. Safe in signal handlers and other threads."""
        self.stopping.set()

    def on_configure(self) -> None:
        """Open what the node needs; raise a ``RoboRewardError`` where that cannot be."""

    def on_activate(self) -> None:
        """Begin the work."""

    def on_step(self) -> None:
        """Do one turn of the work and return within about 0.2 s; ``stop`` ends the turns."""
        self.stopping.wait(0.1)

    def on_drain(self) -> None:
        """Finish what was begun, within 3 s."""

    def on_cleanup(self) -> None:
        """Free everything; called whatever happened before."""

    def status_line(self) -> str:
        """Return the line for the terminal."""
        return f"{self.name}  {self.state.value}"

    def diagnostics(self) -> list[Diagnostic]:
        """Return what the node finds of itself now."""
        return []

    def measurements(self) -> Sequence[Measurement | Histogram]:
        """Return the numbers that others may watch; called in any thread."""
        return []

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the node is active and finds nothing wrong, and what it says of itself."""
        finding = worst(self.diagnostics(), name=self.name)
        well = self.state is State.ACTIVE and finding.level < Level.ERROR
        return well, {
            "name": self.name,
            "kind": self.kind,
            "state": self.state.value,
            "level": finding.level.name,
            "message": finding.message,
        }

    def configure(self) -> None:
        """Lead the node to ``inactive``."""
        self._life.to(State.CONFIGURING)
        try:
            self.on_configure()
        except BaseException:
            self._life.to(State.UNCONFIGURED)
            raise
        self._life.to(State.INACTIVE)

    def activate(self) -> None:
        """Lead the node to ``active``."""
        self.on_activate()
        self._life.to(State.ACTIVE)

    def run(self) -> int:
        """Live: configure, work until asked to stop, drain, clean up.

        Returns:
            0 after a clean stop.

        Raises:
            RoboRewardError: What a hook raised; the node is finalized all the same.
        """
        self._install_signals()
        try:
            self._open_metrics()
            if not self.stopping.is_set():
                self.configure()
            if not self.stopping.is_set():
                self.activate()
            while not self.stopping.is_set():
                self.on_step()
                self._housekeeping()
        finally:
            self._finish()
        return 0

    def _open_metrics(self) -> None:
        if not self._metrics_at:
            return
        self.metrics = MetricsServer(
            self._metrics_at,
            measure=self.measurements,
            health=self.health,
            insecure_no_auth=self._insecure_no_auth,
        )
        self.log.info("metrics at http://%s/metrics", self.metrics.address)

    def _finish(self) -> None:
        guard = threading.Timer(STOP_WITHIN_S, self._give_up)
        guard.daemon = True
        guard.start()
        try:
            if self.state not in (State.UNCONFIGURED, State.FINALIZED):
                self._life.to(State.DRAINING)
                self.on_drain()
        finally:
            try:
                self.on_cleanup()
            finally:
                if self.metrics is not None:
                    self.metrics.close()
                guard.cancel()
                self._status.clear()
                self._life.to(State.FINALIZED)

    def _give_up(self) -> None:
        self.log.critical("did not stop within %g s; leaving", STOP_WITHIN_S)
        if threading.current_thread() is not threading.main_thread():
            os._exit(STALLED_EXIT_CODE)

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now - self._diagnostics_s >= DIAGNOSTICS_EVERY_S:
            self._diagnostics_s = now
            self._report(worst(self.diagnostics(), name=self.name))
            if self._parent and os.getppid() != self._parent:
                self.log.warning("the process that started this node is gone; stopping")
                self.stop()
        if now - self._status_s >= STATUS_EVERY_S:
            self._status_s = now
            self._status.show(self.status_line())

    def _report(self, finding: Diagnostic) -> None:
        if finding.level is self._level:
            return
        self._level = finding.level
        level = {Level.OK: logging.INFO, Level.ERROR: logging.ERROR}.get(
            finding.level, logging.WARNING
        )
        self.log.log(level, "%s: %s: %s", finding.level.name, finding.name, finding.message)

    def _announce(self, before: State, after: State) -> None:
        self.log.info("%s -> %s", before.value, after.value)

    def _install_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()


def run_node(node: Node, *, log_level: str = "info") -> int:
    """Run a node as the main thing of this process.

    Returns:
        The exit code; an error is one line on standard error.
    """
    set_up_logging(node._status, level=log_level)
    try:
        return node.run()
    except RoboRewardError as error:
        node._status.clear()
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code


P = TypeVar("P", bound=NodeParameters)


def parse_flags(cls: type[P], argv: Sequence[str] | None = None) -> P:
    """Read parameters from ``--config FILE.yaml`` and flags; flags win.

    Raises:
        ConfigError: The file or a value is wrong.
    """
    import tyro

    args = list(sys.argv[1:] if argv is None else argv)
    default = cls()
    if "--config" in args[:-1]:
        at = args.index("--config")
        default = from_mapping(cls, read_yaml(Path(args[at + 1])), where=args[at + 1])
        del args[at : at + 2]
    return tyro.cli(cls, args=args, default=default)


def node_main(cls: type[P], make: Callable[[P], Node], argv: Sequence[str] | None = None) -> int:
    """Be ``python -m robo_reward.nodes.<kind>``: flags, log, life, exit code."""
    try:
        parameters = parse_flags(cls, argv)
        node = make(parameters)
    except RoboRewardError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code
    return run_node(node, log_level=parameters.log_level)
