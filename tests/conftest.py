"""What every test gets: a fixed graphics back end, one thread, no left-over sockets."""

from __future__ import annotations

import os

# Before anything imports mujoco, numpy or torch: they read these once.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["NO_COLOR"] = "1"

import gc
import logging
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
import zmq

GRACE_S = 3.0

# The same examples in every run, however slow the machine: a red run can be repeated.
hypothesis.settings.register_profile("robo-reward", deadline=None, derandomize=True)
hypothesis.settings.load_profile("robo-reward")

_opened: weakref.WeakSet[Any] = weakref.WeakSet()
_make_socket = zmq.Context.socket


def _remembered(self: Any, *args: Any, **kwargs: Any) -> Any:
    made = _make_socket(self, *args, **kwargs)
    _opened.add(made)
    return made


zmq.Context.socket = _remembered  # type: ignore[method-assign]


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="rewrite tests/snapshots")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    # Two workers with two threads each are ten times slower on small operations.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_leaked_sockets() -> Iterator[None]:
    """Fail a test that leaves a ZeroMQ socket open; threads get a moment to close theirs."""
    before = set(_opened)
    yield
    end = time.monotonic() + GRACE_S
    while left := [s for s in list(_opened) if s not in before and not s.closed]:
        if time.monotonic() > end:
            names = ", ".join(f"{s!r} {s.get(zmq.LAST_ENDPOINT)!r}" for s in left)
            for leaked in left:
                leaked.close(linger=0)
            pytest.fail(f"{len(left)} ZeroMQ sockets left open: {names}")
        gc.collect()
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _log_as_found() -> Iterator[None]:
    """Give back the handlers and levels that a command sets for its process."""
    root, ours = logging.getLogger(), logging.getLogger("robo_reward")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``robo-reward`` in this process: ``command("models", "--json").code``."""
    from robo_reward.cli import main

    def run(*args: str) -> Ran:
        capfd.readouterr()
        code = main(args)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run
