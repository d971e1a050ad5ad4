"""Nodes in processes of their own, started by a program that cannot do without them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from robo_reward.closing import Closing
from robo_reward.errors import (
    ConfigError,
    DeviceError,
    MissingDependency,
    PeerUnreachable,
    RoboRewardError,
)

from .up import NodeSpec, Supervisor

STOP_WITHIN_S = 20.0
KINDS: dict[int, type[RoboRewardError]] = {
    kind.exit_code: kind for kind in (ConfigError, MissingDependency, DeviceError)
}
"""What a node's exit code says of its last error."""


class SupervisedNodes(Closing):
    """Runs nodes and starts them again when they die; one that keeps dying makes ``check`` raise.

    They end with this process, however it ends.

    Args:
        plan: The nodes; they start in this order and end in the reverse one.
        log: File that gets every line of theirs.
    """

    def __init__(self, plan: Sequence[NodeSpec], *, log: Path) -> None:
        self.log = log
        self._stream: TextIO = log.open("w", encoding="utf-8")
        self._supervisor = Supervisor(list(plan), stream=self._stream)
        self._thread = threading.Thread(target=self._supervisor.run, name="supervised-nodes")

    def start(self, ready: Callable[[], bool], *, within_s: float) -> None:
        """Start all of them and wait until they are ready.

        Args:
            ready: Says so; returns or raises ``PeerUnreachable`` within a second.
            within_s: How long that may take, seconds.

        Raises:
            RoboRewardError: One of them gave up, or they are not ready in time.
        """
        self._thread.start()
        end = time.monotonic() + within_s
        while True:
            self.check()
            try:
                if ready():
                    return
            except PeerUnreachable:
                pass
            if time.monotonic() > end:
                raise PeerUnreachable(
                    f"the nodes are not ready within {within_s:g} s; {self.log} says why"
                )

    def check(self) -> None:
        """Raise where a node has given up.

        Raises:
            RoboRewardError: What the node said last, of the kind that its exit code stands for.
        """
        for child in self._supervisor.children:
            if child.given_up:
                kind = KINDS.get(child.exit_code or 1, PeerUnreachable)
                said = self._last_error(child.spec.name)
                raise kind(f"the {child.spec.name} node gave up: {said} (its log: {self.log})")

    @property
    def restarts(self) -> int:
        """How often a node had to be started again."""
        return sum(child.restarts for child in self._supervisor.children)

    def close(self) -> None:
        """End all nodes. May be called twice."""
        self._supervisor.stop()
        try:
            if self._thread.ident is not None:
                self._thread.join(STOP_WITHIN_S)
        finally:
            # A second Ctrl-C ends the waiting; then they are killed.
            self._supervisor.stop()
            self._stream.close()

    def _last_error(self, name: str) -> str:
        self._stream.flush()
        lines = [
            line.partition("|")[2].strip()
            for line in self.log.read_text(encoding="utf-8").splitlines()
            if line.startswith(name)
        ]
        errors = [line for line in lines if line.startswith("error:")]
        said = (errors or lines or ["it said nothing"])[-1]
        return said.removeprefix("error:").strip()[:500]
