"""``robo-reward doctor``: what works on this machine, in a form to paste into an issue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from . import checks
from .common import Common, Result
from .console import table


@dataclass(frozen=True, kw_only=True)
class Doctor(Common):
    """Say what works on this machine: packages, GPU, OpenGL, cameras, ports, extras, caches.

    Nothing is changed, and nothing outside this machine is reached. The exit code is 0 whatever is
    missing: what is needed depends on what you want to run.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward doctor",
        "robo-reward doctor --json",
        "robo-reward doctor --no-probe",
    )

    probe: bool = True
    """Try OpenGL, torch and cameras for real, each in a process of its own; a few seconds."""
    timeout: float = 30.0
    """Seconds that one such trial may take."""

    def run(self) -> Result:
        """Run every check; one that fails is a row, never an error."""
        return {
            "machine": checks.machine(),
            "packages": checks.packages(),
            "extras": checks.extras(),
            "graphics": checks.graphics(timeout_s=self.timeout) if self.probe else [],
            "gpu": checks.gpu(timeout_s=self.timeout) if self.probe else [],
            "cameras": checks.cameras(timeout_s=self.timeout) if self.probe else [],
            "ports": checks.ports(),
            "caches": checks.caches(),
        }

    def show(self, result: Result) -> str:
        """Return one Markdown table per topic."""
        assert isinstance(result, dict)
        parts = []
        for title, found in result.items():
            rows = found if isinstance(found, list) else _as_rows(found)
            if rows:
                parts.append(f"### {title}\n\n{table(rows, markdown=True)}")
        return "\n\n".join(parts)


def _as_rows(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"what": key, "value": value} for key, value in values.items()]
