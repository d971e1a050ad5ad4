"""Runs the README: every block below ``<!-- run: NAME ... -->`` works as it stands.

``run: NAME, background`` starts a command and leaves it running for the later blocks of that NAME.
``models: A; files: B; imports: C`` say what must be there; ports are replaced by free ones.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from robo_reward.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- run: (?P<head>.*?) -->\n```(?P<kind>\w+)\n(?P<code>.*?)```", re.DOTALL)
MAX_LINES = 220
NODE_READY_S = 60
STAND_IN = "oracle-pixels"


@dataclass
class Walk:
    """The blocks of one name, in order, and what they need."""

    needs: dict[str, list[str]] = field(default_factory=dict)
    blocks: list[tuple[str, str, bool]] = field(default_factory=list)


def walks() -> dict[str, Walk]:
    found: dict[str, Walk] = {}
    for match in BLOCK.finditer(README.read_text(encoding="utf-8")):
        first, *rest = match["head"].split(";")
        name, *flags = [word.strip() for word in first.split(",")]
        walk = found.setdefault(name, Walk())
        for need in rest:
            key, _, values = need.partition(":")
            walk.needs.setdefault(key.strip(), []).extend(values.split())
        walk.blocks.append((match["kind"], match["code"], "background" in flags))
    return found


def check_needs(needs: dict[str, list[str]]) -> None:
    for module in needs.get("imports", []):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def with_models_that_load(code: str, needs: dict[str, list[str]]) -> str:
    """Put the pixel oracle in place of a model whose weights are not in this tree."""
    from robo_reward.errors import MissingDependency, ModelNotFound
    from robo_reward.models import load_model

    for model in needs.get("models", []):
        try:
            load_model(model).close()
        except (ModelNotFound, MissingDependency):
            code = re.sub(rf"(?<=--model ){model}\b", STAND_IN, code)
            code = code.replace(f'load_model("{model}")', f'load_model("{STAND_IN}")')
            code = re.sub(r"(robo-reward score \S+) ", rf"\1 --model {STAND_IN} ", code)
    return code


def make_file(path: Path) -> None:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 96))
    for level in range(12):
        writer.write(np.full((96, 96, 3), level * 20, np.uint8))
    writer.release()


def free_pair() -> int:
    """A free port whose successor is free too: a node's control socket takes the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


class Terminal:
    """Runs blocks in one folder, with free ports in place of the documented ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        self.ports: dict[str, str] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}

    def run(self, kind: str, code: str, *, background: bool) -> None:
        code = re.sub(r"(?<=:)5[67]\d\d\b", self._free, code)
        if kind == "python":
            self._finish([sys.executable, "-W", "error", "-c", code])
            return
        for line in code.splitlines():
            if not line.startswith("$ "):
                continue
            command = ["bash", "-c", f"exec {self._addressed(line[2:])}"]
            if background:
                self._start(command)
            else:
                self._finish(command)

    def stop(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _addressed(self, line: str) -> str:
        # The documented command takes its default port; here another test may hold that one.
        if re.match(r"robo-reward serve\b", line) and "--bind" not in line:
            return f"{line} --bind tcp://127.0.0.1:{self._free_port('5601')}"
        return line

    def _free(self, match: re.Match[str]) -> str:
        return self._free_port(match.group())

    def _free_port(self, documented: str) -> str:
        if documented not in self.ports:
            self.ports[documented] = str(free_pair())
        return self.ports[documented]

    def _start(self, command: list[str]) -> None:
        self.running.append(
            subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )

    def _finish(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=NODE_READY_S + 40,
            check=False,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), "a block of the README shows something"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(made.stop)
        yield made


@pytest.mark.parametrize("name", walks())
def test_walkthrough(name: str, terminal: Terminal) -> None:
    walk = walks()[name]
    check_needs(walk.needs)
    for file in walk.needs.get("files", []):
        make_file(terminal.folder / file)
    for kind, code, background in walk.blocks:
        terminal.run(kind, with_models_that_load(code, walk.needs), background=background)


def test_every_python_block_is_run() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count("```python") == sum(
        kind == "python" for walk in walks().values() for kind, _, _ in walk.blocks
    )


def test_readme_is_short_and_starts_with_a_command() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    assert next(i for i, line in enumerate(lines) if line.startswith("```")) < 30


def test_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text)
    local = {a or b for a, b in targets if "://" not in (a or b)}
    assert [target for target in sorted(local) if not (ROOT / target).exists()] == []


def test_verbs_exist() -> None:
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|\$ )robo-reward ([a-z][a-z-]*)", text))
    assert named
    assert named - set(VERBS) == set()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make (\w+)", README.read_text(encoding="utf-8")))
    assert named <= targets
