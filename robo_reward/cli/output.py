"""The folder of one run: ``outputs/<verb>/<time>_<name>/`` with everything needed to repeat it."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from robo_reward.errors import ConfigError

from .plain import plain

NOT_SAVED = frozenset({"json", "quiet", "verbose", "progress", "config", "out", "yes"})
PACKAGES = ("numpy", "gymnasium", "mujoco", "torch", "transformers", "stable-baselines3", "pyzmq")


class Output:
    """A folder being written; a context manager, which keeps the log open.

    Args:
        path: The folder; it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handler = logging.FileHandler(path / "log.txt")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def __enter__(self) -> Output:
        """Start copying the log to log.txt."""
        logging.getLogger("robo_reward").addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close log.txt, with the reason if the run failed."""
        if error is not None:
            logging.getLogger("robo_reward").debug("stopped by %r", error)
        logging.getLogger("robo_reward").removeHandler(self._handler)
        self._handler.close()

    def write_json(self, name: str, value: object) -> Path:
        """Write a JSON file (NaN as null), whole or not at all; return its path."""
        return self.write_text(name, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file, whole or not at all; return its path."""
        return write_atomically(self.path / name, text)


def open_output(command: Any, *, name: str, folder: Path | None, overwrite: bool) -> Output:
    """Make the folder of a run and note what was asked, where and with which versions.

    Args:
        command: The dataclass of the verb.
        name: What the run is about; ends the folder's name.
        folder: Where to write instead of ``outputs/<verb>/<time>_<name>``.
        overwrite: Accept a folder that holds files.

    Raises:
        ConfigError: The folder holds files and ``overwrite`` is off.
    """
    path = folder or _fresh_folder(_verb_of(command), name)
    if path.is_file():
        raise ConfigError(f"--out {path} is a file; a folder is needed")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise ConfigError(f"--out {path} holds files already; choose another or add --yes")
    path.mkdir(parents=True, exist_ok=True)
    output = Output(path)
    output.write_text("config.yaml", dump_config(command))
    output.write_json("env.json", environment())
    return output


def write_atomically(path: Path, text: str) -> Path:
    """Write a text file whole or not at all, whatever happens in between; return its path."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8", newline="")
    draft.replace(path)
    return path


def dump_config(command: Any) -> str:
    """Return the flags of a command as YAML, one a line, for ``--config``."""
    lines = [f"# robo-reward {_verb_of(command)} --config this-file"]
    for field in fields(command):
        if field.name not in NOT_SAVED:
            # JSON is YAML: each value in its one-line JSON form needs no YAML writer.
            value = json.dumps(plain(getattr(command, field.name)), ensure_ascii=False)
            lines.append(f"{field.name}: {value}")
    return "\n".join(lines) + "\n"


def environment() -> Mapping[str, object]:
    """Return where this runs: command line, machine, versions."""
    return {
        "command": ["robo-reward", *sys.argv[1:]],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: version_of(name) for name in ("robo-reward", *PACKAGES)},
    }


def version_of(package: str) -> str | None:
    """Return the installed version of a distribution, or ``None``."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _verb_of(command: Any) -> str:
    return str(type(command).__module__.rpartition(".")[2]).replace("_", "-")


def _fresh_folder(verb: str, name: str) -> Path:
    words = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:60]
    stem = Path(
        "outputs", verb, "_".join(filter(None, [time.strftime("%Y-%m-%d_%H-%M-%S"), words]))
    )
    # Two runs of one second must not share a folder.
    path, count = stem, 1
    while path.exists():
        count += 1
        path = stem.with_name(f"{stem.name}_{count}")
    return path
