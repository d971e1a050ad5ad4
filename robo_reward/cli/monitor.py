"""``robo-reward monitor``: a table of camera streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robo_reward.nodes.monitor import MonitorNode, MonitorParameters
from robo_reward.nodes.parameters import part_of

from .common import Common, Result


@dataclass(frozen=True, kw_only=True)
class Monitor(Common, MonitorParameters):
    """Show rate, age and drops of camera streams, until told to stop."""

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward monitor",
        "robo-reward monitor --cameras tcp://10.0.0.5:5611 tcp://10.0.0.5:5612",
        "robo-reward monitor --duration-s 5 --json",
    )

    def run(self) -> Result:
        """Watch; return the last table."""
        node = MonitorNode(part_of(MonitorParameters, self))
        node.run()
        return {"streams": node.rows()}

    def show(self, result: Result) -> str:
        """Return the last table."""
        from .console import table

        return table(result["streams"]) if isinstance(result, dict) else ""
