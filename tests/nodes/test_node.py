"""Life cycle, names, parameters, diagnostics, signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from robo_reward.errors import ConfigError, DeviceError
from robo_reward.nodes.console import StatusLine
from robo_reward.nodes.diagnostics import FrequencyCheck, Level, StampCheck, worst
from robo_reward.nodes.lifecycle import TRANSITIONS, IllegalTransition, Lifecycle, State
from robo_reward.nodes.names import address_of, resolve, runtime_folder
from robo_reward.nodes.node import Node
from robo_reward.nodes.parameters import NodeParameters, from_mapping, part_of, read_yaml


@dataclass(frozen=True, kw_only=True)
class Settings(NodeParameters):
    rate_hz: float = 10.0
    names: tuple[str, ...] = ()
    out: Path = Path("here")


class Diary(Node):
    """Writes down what was called."""

    kind = "diary"

    def __init__(self, *, fail_in: str = "") -> None:
        super().__init__(NodeParameters())
        self.calls: list[tuple[str, str]] = []
        self._fail_in = fail_in

    def _note(self, name: str) -> None:
        self.calls.append((name, self.state.value))
        if name == self._fail_in:
            raise DeviceError("no such thing")

    def on_configure(self) -> None:
        self._note("configure")

    def on_activate(self) -> None:
        self._note("activate")

    def on_step(self) -> None:
        self._note("step")
        self.stop()

    def on_drain(self) -> None:
        self._note("drain")

    def on_cleanup(self) -> None:
        self._note("cleanup")


def test_a_life_goes_through_its_states() -> None:
    node = Diary()
    assert node.run() == 0
    assert node.calls == [
        ("configure", "configuring"),
        ("activate", "inactive"),
        ("step", "active"),
        ("drain", "draining"),
        ("cleanup", "draining"),
    ]
    assert node.state is State.FINALIZED


@pytest.mark.parametrize("hook", ["configure", "activate", "step", "drain"])
def test_whatever_fails_is_cleaned_up(hook: str) -> None:
    node = Diary(fail_in=hook)
    with pytest.raises(DeviceError):
        node.run()
    assert node.calls[-1][0] == "cleanup"
    assert node.state is State.FINALIZED


def test_a_node_that_was_stopped_before_it_began_does_not_begin() -> None:
    node = Diary()
    node.stop()
    assert node.run() == 0
    assert [name for name, _ in node.calls] == ["cleanup"]


def test_only_legal_transitions() -> None:
    for before, after in [(a, b) for a in State for b in State]:
        life = Lifecycle()
        life._state = before
        if after in TRANSITIONS[before]:
            life.to(after)
            assert life.state is after
        else:
            with pytest.raises(IllegalTransition, match=before.value):
                life.to(after)
            assert life.state is before
    assert TRANSITIONS[State.FINALIZED] == frozenset()


def test_names_are_those_of_ros() -> None:
    remap = {"camera/front/frame": "/left/frame", "/lab/scores": "tcp://10.0.0.1:5601"}
    assert resolve("camera/front/frame", namespace="lab") == "/lab/camera/front/frame"
    assert resolve("/camera/front/frame", namespace="lab") == "/camera/front/frame"
    assert resolve("~/status", namespace="/lab/", node="eye") == "/lab/eye/status"
    assert resolve("camera/front/frame", namespace="lab", remap=remap) == "/left/frame"
    assert resolve("scores", namespace="lab", remap=remap) == "tcp://10.0.0.1:5601"
    for wrong in ("", "a b", "1x", "a//b", "../x"):
        with pytest.raises(ConfigError):
            resolve(wrong)


def test_a_topic_has_a_local_socket_that_only_this_user_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert address_of("/lab/x") == f"ipc://{tmp_path}/robo-reward/lab.x"
    assert address_of("tcp://127.0.0.1:1") == "tcp://127.0.0.1:1"
    assert runtime_folder().stat().st_mode & 0o777 == 0o700
    runtime_folder().chmod(0o755)
    with pytest.raises(ConfigError, match="700"):
        runtime_folder()
    with pytest.raises(ConfigError, match="too long"):
        runtime_folder_of_a_long_name(tmp_path)


def runtime_folder_of_a_long_name(tmp_path: Path) -> str:
    (tmp_path / "robo-reward").chmod(0o700)
    return address_of("/" + "x" * 120)


def test_all_wrong_parameters_are_named_at_once() -> None:
    values = {"rate-hz": "fast", "colour": 1, "name": "9 lives", "remap": ["a"], "log_level": "x"}
    with pytest.raises(ConfigError) as caught:
        from_mapping(Settings, values, where="eye")
    for part in ("rate_hz", "colour", "9 lives", "FROM:=TO", "log_level"):
        assert part in str(caught.value)


def test_parameters_come_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "eye.yaml"
    path.write_text("rate-hz: 5\nnames: [a, b]\nout: /x\n", encoding="utf-8")
    made = from_mapping(Settings, read_yaml(path))
    assert (made.rate_hz, made.names, made.out) == (5.0, ("a", "b"), Path("/x"))
    assert part_of(NodeParameters, made) == NodeParameters()
    for text in ("- a\n", "a: [\n", "!!python/object:os.system {}\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError):
            read_yaml(path)


def test_a_rate_is_judged() -> None:
    check = FrequencyCheck("rate", min_hz=10, max_hz=20, window_s=1.0)
    start = check._started_s
    assert check.finding(now_s=start).level is Level.ERROR
    for at in range(300):
        check.tick(now_s=start + at / 15)
    assert check.finding(now_s=start + 20).level is Level.OK
    for at in range(100):
        check.tick(now_s=start + 20 + at / 50)
    assert check.finding(now_s=start + 22).level is Level.WARN
    for at in range(20):
        check.tick(now_s=start + 22 + at / 2)
    assert check.finding(now_s=start + 31.6).level is Level.WARN
    assert check.finding(now_s=start + 40).level is Level.STALE


def test_stamps_are_judged() -> None:
    check = StampCheck("stamps", max_age_s=1.0, stale_after_s=3.0)
    found = [check.finding(now_s=0.0)]
    for age in (0.1, 2.0, -1.0):
        check.tick(age, now_s=10.0)
        found.append(check.finding(now_s=10.0))
    found.append(check.finding(now_s=20.0))
    levels = [Level.STALE, Level.OK, Level.WARN, Level.ERROR, Level.STALE]
    assert [each.level for each in found] == levels
    assert worst(found[1:3], name="all").level is Level.WARN
    assert worst([], name="all").level is Level.OK


def test_the_status_line_is_rewritten_on_a_terminal_only() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        line = StatusLine(stream=stream)
        line.show("30 Hz")
        line.show("29 Hz")
        line.clear()
    assert terminal.getvalue() == "\r\x1b[2K30 Hz\r\x1b[2K29 Hz\r\x1b[2K"
    assert file.getvalue() == ""


NODE = """
import sys
from robo_reward.nodes.node import Node, run_node
from robo_reward.nodes.parameters import NodeParameters
class Waiting(Node):
    def on_activate(self):
        print("up", flush=True)
    def on_step(self):
        self.stopping.wait(0.05)
    def on_drain(self):
        while "{stuck}":
            self.stopping.clear(); self.stopping.wait(0.05)
sys.exit(run_node(Waiting(NodeParameters())))
"""


def start(*, stuck: str = "", env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [sys.executable, "-c", NODE.format(stuck=stuck)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "up\n"
    return made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_clean_stop(number: signal.Signals) -> None:
    with start() as process:
        process.send_signal(number)
        assert process.wait(timeout=10) == 0


def test_a_node_that_does_not_stop_is_ended_for_its_supervisor() -> None:
    with start(stuck="yes") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 70


def test_a_node_whose_parent_is_gone_stops() -> None:
    with start(env={"ROBO_REWARD_PARENT": "1"}) as process:
        assert process.wait(timeout=10) == 0


def test_nothing_is_left_running_here() -> None:
    assert not [each for each in threading.enumerate() if each.name.startswith("outlet")]
