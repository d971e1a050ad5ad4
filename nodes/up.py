"""Starts several nodes from one YAML file, in one terminal, and keeps them running.

    namespace: lab
    nodes:
      front:    {run: camera, camera: front, source: "0"}
      reward:   {run: serve, model: compact}
      recorder: {run: record, cameras: [camera/front/frame]}
      learner:  {run: command, command: [python, train.py], restart: never}

Nodes start in this order and stop in the reverse one. A node that fails is started again after a
pause that doubles; one that keeps failing ends everything, with its exit code.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TextIO, get_args

from robo_reward.errors import ConfigError, did_you_mean, require

from .console import StatusLine, colours_wanted
from .names import check_name
from .node import PARENT_VARIABLE, STOP_WITHIN_S
from .parameters import from_mapping, read_yaml

KINDS: dict[str, tuple[str, str]] = {
    "camera": ("robo_reward.nodes.camera", "CameraParameters"),
    "serve": ("robo_reward.nodes.serve", "ServeParameters"),
    "record": ("robo_reward.nodes.record", "RecordParameters"),
}
"""What ``run:`` may say, beside ``command``: the module to run and its parameters."""

Restart = Literal["on-failure", "always", "never"]

SHARED = ("namespace", "remap", "keys")
"""What may stand at the top of the file, for every node in it."""
TOP_KEYS = (*SHARED, "nodes")
OWN_KEYS = ("run", "command", "restart", "max_restarts", "folder")
POINTLESS = frozenset({2, 3})
"""Exit codes that another try cannot change: wrong settings, something not installed."""
FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 10.0
WINDOW_S = 60.0
COLOURS = (36, 33, 32, 35, 34, 31)
TURN_S = 0.05
KILL_AFTER_S = STOP_WITHIN_S + 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One node of the file.

    Attributes:
        name: Its name; also the prefix of its lines.
        kind: ``camera``, ``serve``, ``record`` or ``command``.
        parameters: As in the file, with the file's namespace and remapping.
        command: For ``command``: program and arguments.
        restart: When it is started again.
        max_restarts: Within a minute; more than that ends everything.
        folder: Folder to run in; this one when empty.
    """

    name: str
    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    restart: Restart = "on-failure"
    max_restarts: int = 5
    folder: str = ""


def load_plan(path: Path) -> list[NodeSpec]:
    """Read a file and check everything in it.

    Raises:
        ConfigError: All that is wrong, in one message.
    """
    values = read_yaml(path)
    problems = [
        f"unknown {key!r}; {did_you_mean(str(key), TOP_KEYS)}"
        for key in values
        if key not in TOP_KEYS
    ]
    nodes = values.get("nodes")
    if not isinstance(nodes, dict) or not nodes:
        raise ConfigError("; ".join([*problems, f"{path}: nodes must be `name: {{run: …}}` lines"]))
    shared: dict[str, Any] = {key: values[key] for key in SHARED if key in values}
    specs = []
    for name, settings in nodes.items():
        try:
            specs.append(_spec(str(name), settings, shared))
        except ConfigError as error:
            problems.append(str(error))
    problems += _clashes(specs)
    if problems:
        raise ConfigError("; ".join(problems))
    return specs


def _spec(name: str, settings: Any, shared: Mapping[str, Any]) -> NodeSpec:
    check_name(name, what="node name")
    if not isinstance(settings, dict):
        raise ConfigError(f"{name}: must be a mapping with `run: …`, got {settings!r}")
    problems = []
    kind = str(settings.get("run", ""))
    restart = settings.get("restart", "on-failure")
    if restart not in get_args(Restart):
        problems.append(f"{name}: restart must be one of {get_args(Restart)}, got {restart!r}")
    limit = settings.get("max_restarts", 5)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        problems.append(f"{name}: max_restarts must be a whole number >= 0, got {limit!r}")
    command = settings.get("command", [])
    rest = {key: value for key, value in settings.items() if key not in OWN_KEYS}
    parameters: dict[str, Any] = {}
    if kind == "command":
        if not isinstance(command, list) or not command:
            problems.append(f"{name}: command must be a list such as [python, train.py]")
        problems += [f"{name}: unknown {key!r} beside command" for key in rest]
    elif kind not in KINDS:
        known = (*KINDS, "command")
        problems.append(f"{name}: no node of kind {kind!r}; {did_you_mean(kind, known)}")
    else:
        parameters = {"name": name, **shared, **rest}
        try:
            module, attribute = KINDS[kind]
            cls = getattr(importlib.import_module(module), attribute)
            from_mapping(cls, parameters, where=name)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    return NodeSpec(
        name=name,
        kind=kind,
        parameters=parameters,
        command=tuple(str(word) for word in command),
        restart=restart,
        max_restarts=limit,
        folder=str(settings.get("folder", "")),
    )


def _clashes(specs: Sequence[NodeSpec]) -> list[str]:
    """Find nodes that would bind the same address."""
    found = []
    taken: dict[str, str] = {}
    for spec in specs:
        if spec.kind == "command":
            continue
        camera = f"camera {spec.parameters.get('camera', 'front')!r}"
        default = camera if spec.kind == "camera" else f"the default address of {spec.kind}"
        place = str(spec.parameters.get("bind", "") or default)
        if spec.kind == "record" or place.endswith((":*", ":0")):
            continue
        if place in taken:
            found.append(f"{spec.name} and {taken[place]} both bind {place}")
        taken[place] = spec.name
    return found


class Child:
    """One node's process, started again as its spec allows.

    Args:
        spec: What to run.
        folder: Where its parameters are written.
        write: Takes each line of its output.
    """

    def __init__(self, spec: NodeSpec, *, folder: Path, write: Any) -> None:
        self.spec = spec
        self.exit_code: int | None = None
        self.given_up = False
        self.restarts = 0
        self._write = write
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._failures: deque[float] = deque()
        self._pause_s = FIRST_PAUSE_S
        self._start_s = 0.0

    @property
    def state(self) -> str:
        """``running``, ``waiting``, ``done`` or ``failed``."""
        if self._process is not None:
            return "running"
        if self.given_up:
            return "failed"
        return "done" if self.exit_code is not None else "waiting"

    def turn(self) -> None:
        """Start the process when its time has come; note when it ended."""
        if self._process is None:
            if self.state == "waiting" and time.monotonic() >= self._start_s:
                self._start()
            return
        code = self._process.poll()
        if code is not None:
            self._process = None
            self._ended(code if code >= 0 else 128 - code)

    def signal(self, number: int) -> None:
        """Send a signal to the process; to all that it started, where it is to be killed."""
        if self._process is None:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
        except ProcessLookupError:
            return

    def wait(self, *, timeout_s: float) -> bool:
        """Wait for the process to end; ``False`` at the time-out."""
        if self._process is None:
            return True
        try:
            self.exit_code = self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._process = None
        if self._reader is not None:
            self._reader.join(timeout=1.0)
        return True

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self.spec.folder or None,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C reaches `up` alone, which stops them in order
            )
        except OSError as error:
            self._write(self.spec.name, f"does not start: {error}")
            self._ended(2)
            return
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), daemon=True, name=self.spec.name
        )
        self._reader.start()

    def _argv(self) -> list[str]:
        if self.spec.kind == "command":
            return list(self.spec.command)
        yaml = require("yaml", extra="camera")
        path = self._folder / f"{self.spec.name}.yaml"
        path.write_text(yaml.safe_dump(dict(self.spec.parameters)), encoding="utf-8")
        return [sys.executable, "-m", KINDS[self.spec.kind][0], "--config", str(path)]

    def _read(self, lines: TextIO) -> None:
        for line in lines:
            self._write(self.spec.name, line.rstrip("\n"))
        lines.close()

    def _ended(self, code: int) -> None:
        spec, now = self.spec, time.monotonic()
        if spec.restart == "never" or (spec.restart == "on-failure" and code == 0):
            self.exit_code = code
            self.given_up = code != 0
            return
        self._failures.append(now)
        while now - self._failures[0] > WINDOW_S:
            self._failures.popleft()
        if code in POINTLESS or len(self._failures) > spec.max_restarts:
            self._write(spec.name, f"exit code {code}; not started again")
            self.exit_code, self.given_up = code, True
            return
        if len(self._failures) == 1:
            self._pause_s = FIRST_PAUSE_S
        self._write(spec.name, f"exit code {code}; starting again in {self._pause_s:g} s")
        self._start_s = now + self._pause_s
        self._pause_s = min(LAST_PAUSE_S, 2 * self._pause_s)
        self.restarts += 1


class Supervisor:
    """Runs the nodes of a plan until they are done, one gives up, or somebody says stop.

    Args:
        plan: From ``load_plan``.
        stream: Where their lines go; standard error when not given.
    """

    def __init__(self, plan: Sequence[NodeSpec], *, stream: TextIO | None = None) -> None:
        self._status = StatusLine(stream=stream)
        self._stream = self._status.stream
        self._colours = colours_wanted(self._stream)
        self._plan = list(plan)
        self._width = max(len(spec.name) for spec in plan)
        self._lock = threading.Lock()
        self._stops = 0
        self.children: list[Child] = []

    def stop(self) -> None:
        """Stop all nodes in order; said twice, at once."""
        self._stops += 1

    def run(self) -> int:
        """Run; returns 0 after a stop or when all are done, else the code of who gave up."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._on_signal)
        with tempfile.TemporaryDirectory(prefix="robo-reward-up-") as folder:
            self.children = [
                Child(spec, folder=Path(folder), write=self._write) for spec in self._plan
            ]
            try:
                return self._watch()
            finally:
                self._stop_all()

    def _watch(self) -> int:
        while not self._stops:
            for child in self.children:
                child.turn()
                if child.given_up:
                    self._write(child.spec.name, "gave up; stopping the others")
                    return child.exit_code or 1
            if all(child.state == "done" for child in self.children):
                return 0
            with self._lock:
                self._status.show(self._line())
            time.sleep(TURN_S)
        return 0

    def _stop_all(self) -> None:
        for child in reversed(self.children):
            child.signal(signal.SIGTERM)
            deadline = time.monotonic() + KILL_AFTER_S
            while not child.wait(timeout_s=TURN_S):
                if self._stops > 1 or time.monotonic() > deadline:
                    self._write(child.spec.name, "does not stop; killed")
                    child.signal(signal.SIGKILL)
                    child.wait(timeout_s=KILL_AFTER_S)
                    break
        with self._lock:
            self._status.clear()

    def _line(self) -> str:
        parts = []
        for child in self.children:
            again = f" (started {child.restarts + 1} times)" if child.restarts else ""
            parts.append(f"{child.spec.name} {child.state}{again}")
        return "up  " + "  ".join(parts)

    def _write(self, name: str, line: str) -> None:
        prefix = f"{name:<{self._width}} | "
        if self._colours:
            index = next((i for i, spec in enumerate(self._plan) if spec.name == name), 0)
            prefix = f"\x1b[{COLOURS[index % len(COLOURS)]}m{prefix}\x1b[0m"
        with self._lock:
            self._status.clear()
            self._stream.write(f"{prefix}{line}\n")
            self._status.redraw()
            self._stream.flush()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()


def up(path: Path) -> int:
    """Run the nodes of a file; returns the exit code.

    Raises:
        ConfigError: The file is wrong.
    """
    return Supervisor(load_plan(path)).run()
