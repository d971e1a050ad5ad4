"""``robo-reward up``: several nodes in one terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from .common import Common, Result


@dataclass(frozen=True, kw_only=True)
class Up(Common):
    """Start the nodes of a YAML file in one terminal; one Ctrl-C stops them all, in order."""

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward up robot.yaml",
        "robo-reward up robot.yaml --check",
    )

    file: tyro.conf.Positional[Path]
    """YAML file; nodes/README.md shows one."""
    check: bool = False
    """Only say whether the file is right."""

    def run(self) -> Result:
        """Run the nodes; return their number and the exit code."""
        from robo_reward.nodes.up import Supervisor, load_plan

        plan = load_plan(self.file)
        code = 0 if self.check else Supervisor(plan).run()
        return {"nodes": [spec.name for spec in plan], "exit_code": code}

    def show(self, result: Result) -> str:
        """Return one line."""
        if not isinstance(result, dict):
            return ""
        return f"{len(result['nodes'])} nodes: {', '.join(result['nodes'])}"

    def exit_code(self, result: Result) -> int:
        """Return the code of the node that gave up, else 0."""
        return int(result["exit_code"]) if isinstance(result, dict) else 1
