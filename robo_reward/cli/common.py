"""What every verb has: the common flags, and how its result is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from .console import Console, table
from .output import Output, open_output

Result = dict[str, Any] | list[dict[str, Any]]
"""What ``run`` gives back: one JSON object, or a list of them for a verb that lists things."""


@dataclass(frozen=True, kw_only=True)
class Common(ABC):
    """Base of every verb; ``cli/__init__.py`` says how to write one."""

    examples: ClassVar[tuple[str, ...]] = ()
    always_json: ClassVar[bool] = False

    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Say nothing on stderr but errors."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Say more on stderr, with traces of errors."""
    progress: bool = True
    """Show progress bars and status lines."""
    config: Path | None = None
    """Take the defaults from this file: the config.yaml of an earlier run, or your own."""

    @abstractmethod
    def run(self) -> Result:
        """Do the work and return the result."""

    def show(self, result: Result) -> str:
        """Return what stdout gets without ``--json``: the path written, or a table."""
        if isinstance(result, list):
            return table(result)
        for key in ("report", "path"):
            if result.get(key):
                return str(result[key])
        return table({"": key, "value": value} for key, value in result.items())

    def exit_code(self, result: Result) -> int:
        """Return 1 where the result says that some items failed, else 0."""
        return int(isinstance(result, dict) and bool(result.get("failed")))

    def console(self) -> Console:
        """Return what to talk through while running."""
        return Console(quiet=self.quiet, progress=self.progress)


@dataclass(frozen=True, kw_only=True)
class Saving(Common):
    """Base of a verb that writes a folder of results."""

    out: Path | None = None
    """Folder to write; outputs/VERB/TIME_NAME when not given."""
    yes: bool = False
    """Write into a folder that already holds files."""

    def open_output(self, name: str = "") -> Output:
        """Make the folder of this run; holds config.yaml, env.json and log.txt from the start."""
        return open_output(self, name=name, folder=self.out, overwrite=self.yes)
