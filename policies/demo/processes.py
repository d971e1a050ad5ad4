"""The other processes of the demo: a camera node and a reward node, watched and restarted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robo_reward.client import RemoteSource
from robo_reward.client.scene import ScenePublisher
from robo_reward.closing import Closing
from robo_reward.nodes.supervised import SupervisedNodes
from robo_reward.nodes.up import NodeSpec

if TYPE_CHECKING:
    from typing_extensions import Self

CAMERA = "front"
READY_WITHIN_S = 180.0
DEADLINE_S = 8.0
"""Budget of one question: a camera node that is started again shows the last state within it."""
PATIENCE_S = 60.0
"""How long a question is asked again while the reward node is away."""
RESTARTS = 5


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
    all three over ZeroMQ, through sockets in a folder that only this user may enter.

    Args:
        config: Model and scene.
        log: File that gets every line of both nodes.

    Attributes:
        publisher: Where the learner's environment publishes its states.
        source: What answers questions by time.
    """

    def __init__(self, config: NodesConfig, *, log: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rr-")
        base = f"ipc://{self._folder.name}"
        self.publisher = ScenePublisher(f"{base}/scene", scene=config.scene)
        self.source = RemoteSource(
            f"{base}/reward", deadline_s=DEADLINE_S, patience_s=PATIENCE_S, connect_timeout_s=0.5
        )
        self._nodes = SupervisedNodes(_plan(config, base), log=log)

    def start(self) -> None:
        """Start both and wait until they are ready.

        Raises:
            RoboRewardError: One of them gave up, or is not ready in time.
        """
        self._nodes.start(self._ready, within_s=READY_WITHIN_S)

    def check(self) -> None:
        """Raise where a node has given up; see ``SupervisedNodes.check``."""
        self._nodes.check()

    @property
    def restarts(self) -> int:
        """How often a node had to be started again."""
        return self._nodes.restarts

    def close(self) -> None:
        """End both nodes and free the sockets. May be called twice."""
        self.source.close()
        self.publisher.close()
        try:
            self._nodes.close()
        finally:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        """Start the nodes."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def _ready(self) -> bool:
        self.source.info()
        return self.publisher.wait_for_renderer(timeout_s=0.5)


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
