"""``robo-reward record``: the recorder node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robo_reward.nodes.parameters import part_of
from robo_reward.nodes.record import RecordNode, RecordParameters

from .common import Common, Result


@dataclass(frozen=True, kw_only=True)
class Record(Common, RecordParameters):
    """Record cameras, actions and scores, one MCAP file per episode, until told to stop."""

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward record --cameras camera/front/frame --out recordings",
        "robo-reward record --cameras tcp://10.0.0.5:5611 --events tcp://10.0.0.6:5621",
    )

    def run(self) -> Result:
        """Record; return what was written."""
        node = RecordNode(part_of(RecordParameters, self))
        node.run()
        return {
            "path": str(self.out),
            "episodes": node.episodes,
            "frames": node.frames,
            "error": node.failed,
            "failed": int(bool(node.failed)),
        }
