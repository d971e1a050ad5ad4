"""The other processes of the demo: a camera node and a reward node, watched and restarted."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from robo_reward.client import RemoteSource
from robo_reward.client.scene import ScenePublisher
from robo_reward.closing import Closing
from robo_reward.errors import (
    ConfigError,
    DeviceError,
    MissingDependency,
    PeerUnreachable,
    RoboRewardError,
)
from robo_reward.nodes.up import NodeSpec, Supervisor

if TYPE_CHECKING:
    from typing_extensions import Self

CAMERA = "front"
READY_WITHIN_S = 180.0
STOP_WITHIN_S = 20.0
DEADLINE_S = 8.0
"""Budget of one question: a camera node that is started again shows the last state within it."""
PATIENCE_S = 60.0
"""How long a question is asked again while the reward node is away."""
RESTARTS = 5
KINDS: dict[int, type[RoboRewardError]] = {
    kind.exit_code: kind for kind in (ConfigError, MissingDependency, DeviceError)
}
"""What a node's exit code says of its last error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesConfig:
    """What the nodes are started with.

    Attributes:
        model: Name, folder or hub id of the reward model.
        scene: Gymnasium id that the camera node keeps a copy of.
        scene_options: Arguments of that environment.
    """

    model: str
    scene: str
    scene_options: Mapping[str, Any] = field(default_factory=dict)


class DemoNodes(Closing):
    """Camera node and reward node in processes of their own, and this process's ends of them.

    The states go to the camera node, its frames to the reward node, whose scores come back here:
    all three over ZeroMQ, through sockets in a folder that only this user may enter. A node that
    dies is started again; one that keeps dying makes ``check`` raise. They end with this process,
    however it ends.

    Args:
        config: Model and scene.
        log: File that gets every line of both nodes.

    Attributes:
        publisher: Where the learner's environment publishes its states.
        source: What answers questions by time.
    """

    def __init__(self, config: NodesConfig, *, log: Path) -> None:
        self.log = log
        self._folder = tempfile.TemporaryDirectory(prefix="rr-")
        self._stream: TextIO = log.open("w", encoding="utf-8")
        base = f"ipc://{self._folder.name}"
        self.publisher = ScenePublisher(f"{base}/scene", scene=config.scene)
        self.source = RemoteSource(
            f"{base}/reward", deadline_s=DEADLINE_S, patience_s=PATIENCE_S, connect_timeout_s=0.5
        )
        self._supervisor = Supervisor(_plan(config, base), stream=self._stream)
        self._thread = threading.Thread(target=self._supervisor.run, name="demo-nodes")

    def start(self) -> None:
        """Start both and wait until they are ready.

        Raises:
            RoboRewardError: One of them gave up, or is not ready in time.
        """
        self._thread.start()
        end = time.monotonic() + READY_WITHIN_S
        while True:
            self.check()
            try:
                self.source.info()
                if self.publisher.wait_for_renderer(timeout_s=0.5):
                    return
            except PeerUnreachable:
                pass
            if time.monotonic() > end:
                raise PeerUnreachable(
                    f"the nodes of the demo are not ready within {READY_WITHIN_S:g} s; {self.log} "
                    "says why"
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
        """End both nodes and free the sockets. May be called twice."""
        self.source.close()
        self.publisher.close()
        self._supervisor.stop()
        try:
            if self._thread.ident is not None:
                self._thread.join(STOP_WITHIN_S)
        finally:
            # A second Ctrl-C ends the waiting; then they are killed.
            self._supervisor.stop()
            self._stream.close()
            self._folder.cleanup()

    def __enter__(self) -> Self:
        """Start the nodes."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

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


def _plan(config: NodesConfig, base: str) -> list[NodeSpec]:
    return [
        # Ended in the reverse order: the camera has somebody to hand its last frames to.
        NodeSpec(
            name="reward",
            kind="serve",
            parameters={
                "model": config.model,
                "device": "cpu",
                "bind": f"{base}/reward",
                "camera": [f"{CAMERA}={base}/frames"],
            },
            max_restarts=RESTARTS,
        ),
        NodeSpec(
            name="camera",
            kind="camera",
            parameters={
                "camera": CAMERA,
                "scene": config.scene,
                "scene_options": json.dumps(dict(config.scene_options)),
                "follow": f"{base}/scene",
                "bind": f"{base}/frames",
                "jpeg_quality": 0,
            },
            max_restarts=RESTARTS,
        ),
    ]
