"""``robo-reward camera``: the camera node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robo_reward.nodes.camera import CameraNode, CameraParameters
from robo_reward.nodes.parameters import part_of

from .common import Common, Result


@dataclass(frozen=True, kw_only=True)
class Camera(Common, CameraParameters):
    """Stream a camera, a video or a simulated scene to whoever connects, until told to stop."""

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward camera --camera front --source 0 --bind tcp://127.0.0.1:5611",
        "robo-reward camera --source rtsp://10.0.0.7/stream1 --rate-hz 15 --width 320 --height 240",
        "robo-reward camera --scene robo_reward/PickPlace-v0 --follow scene",
    )

    def run(self) -> Result:
        """Stream; return what was sent."""
        node = CameraNode(part_of(CameraParameters, self))
        node.run()
        return {
            "camera": self.camera,
            "address": node.publisher.address if node.publisher is not None else "",
            "frames": node.frames,
        }
