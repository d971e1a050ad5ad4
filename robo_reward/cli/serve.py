"""``robo-reward serve``: the reward node."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import ClassVar

from robo_reward.nodes.serve import ServeNode, ServeParameters

from .common import Common, Result


@dataclass(frozen=True, kw_only=True)
class Serve(Common, ServeParameters):
    """Serve a reward model to environments, robots and relabelling jobs, until told to stop."""

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward serve --model compact",
        "robo-reward serve --model compact --bind tcp://127.0.0.1:5601 --json",
        "robo-reward serve --camera front=tcp://127.0.0.1:5611",
        "robo-reward serve --model compact --robovalue-bind 127.0.0.1:8765",
    )

    def run(self) -> Result:
        """Serve; return what was answered."""
        names = [field.name for field in dataclasses.fields(ServeParameters)]
        node = ServeNode(ServeParameters(**{name: getattr(self, name) for name in names}))
        start = time.monotonic()
        node.run()
        stats = node.server.stats()
        served = {"robovalue": node.robovalue.url} if node.robovalue is not None else {}
        return {
            "address": node.server.address,
            **served,
            "model": self.model,
            "uptime_s": round(time.monotonic() - start, 3),
            "scores": int(stats.get("out_OK", 0)),
            "batches": int(stats.get("batches", 0)),
            "encoded_frames": int(stats.get("encoded_frames", 0)),
        }
