"""The frame of the command line: exit codes, streams, results, settings from files."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from robo_reward import errors
from robo_reward.cli import app, main
from robo_reward.cli.common import Common, Result, Saving
from robo_reward.cli.console import Bar, table
from robo_reward.cli.parsing import parse
from robo_reward.cli.plain import plain
from robo_reward.cli.verbs import VERBS

Command = Callable[..., Any]


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Fake(Saving):
    """A verb of the tests."""

    failure: ClassVar[BaseException | None] = None
    result: ClassVar[Result] = {}

    instruction: str
    """What to do."""
    model: tuple[str, ...] = ("compact",)
    """Names."""
    rate: float = 1.5
    """A number."""
    where: Path | None = None
    """A path."""

    def run(self) -> Result:
        if Fake.failure is not None:
            raise Fake.failure
        return Fake.result


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setitem(VERBS, "fake", (__name__, "Fake", "a verb of the tests"))
    monkeypatch.setattr(app, "load_verb", lambda name: Fake)
    monkeypatch.setattr(Fake, "failure", None)
    monkeypatch.setattr(Fake, "result", {})
    return Fake


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RoboRewardError("x"), 1),
        (errors.ConfigError("x"), 2),
        (errors.ModelNotFound("x"), 2),
        (errors.InstructionError("x"), 2),
        (errors.MissingDependency("x"), 3),
        (errors.DeviceError("x"), 4),
        (errors.PeerUnreachable("x"), 5),
        (errors.RewardLost("x"), 5),
        (errors.ProtocolMismatch("x"), 6),
        (errors.DatasetError("x"), 6),
        (KeyboardInterrupt(), 130),
        (FileNotFoundError(2, "No such file", "a.txt"), 1),
        (ZeroDivisionError("a bug"), 1),
        (SystemExit(70), 70),
    ],
)
def test_exit_code(
    error: BaseException, code: int, fake: type[Fake], command: Command, monkeypatch: Any
) -> None:
    monkeypatch.setattr(fake, "failure", error)
    ran = command("fake", "--instruction", "x")
    assert ran.code == code
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) <= 1


def test_trace_only_when_asked(fake: type[Fake], command: Command, monkeypatch: Any) -> None:
    monkeypatch.setattr(fake, "failure", errors.DatasetError("two\nlines"))
    assert command("fake", "--instruction", "x").err == "error: two lines\n"
    ran = command("fake", "--instruction", "x", "-v")
    assert "Traceback" in ran.err
    assert ran.err.endswith("error: two lines\n")


def test_usage(command: Command) -> None:
    assert command().code == 2
    assert command("--help").code == 0
    assert command("--version").out.startswith("robo-reward 0.")
    assert command("nothing").code == 2
    assert command("models", "--nothing").code == 2
    assert command("models", "--help").code == 0


def test_json_is_the_last_line(fake: type[Fake], command: Command, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        fake,
        "result",
        {"loss": math.nan, "path": Path("a/b"), "n": np.float32(2), "c": Colour.RED, "d": [np.inf]},
    )
    ran = command("fake", "--instruction", "x", "--json")
    assert ran.code == 0
    assert json.loads(ran.out.splitlines()[-1]) == {
        "loss": None,
        "path": "a/b",
        "n": 2.0,
        "c": "red",
        "d": [None],
    }
    assert command("fake", "--instruction", "x").out == "a/b\n"


def test_always_json(fake: type[Fake], command: Command, monkeypatch: Any) -> None:
    monkeypatch.setattr(fake, "result", {"path": "a"})
    monkeypatch.setattr(fake, "always_json", True)
    assert json.loads(command("fake", "--instruction", "x").out) == {"path": "a"}


def test_failed_items_make_exit_code_1(
    fake: type[Fake], command: Command, monkeypatch: Any
) -> None:
    monkeypatch.setattr(fake, "result", {"failed": 2, "done": 3})
    ran = command("fake", "--instruction", "x")
    assert ran.code == 1
    assert "done    3" in ran.out


def test_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("instruction: push\nmodel: [a, b]\nrate: 2\nwhere: x/y\n")
    got = parse("fake", Fake, ["--config", str(path), "--rate", "3"])
    assert isinstance(got, Fake)
    assert (got.instruction, got.model, got.rate, got.where) == (
        "push",
        ("a", "b"),
        3.0,
        Path("x/y"),
    )


def test_settings_file_may_leave_out_what_flags_give(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("rate: 2\n")
    got = parse("fake", Fake, [f"--config={path}", "--instruction", "pull"])
    assert isinstance(got, Fake)
    assert (got.instruction, got.rate) == ("pull", 2.0)


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("instruction: push\nmodl: a\nrate: fast\n")
    with pytest.raises(errors.ConfigError, match=r"modl: .*did you mean model.*rate: "):
        parse("fake", Fake, ["--config", str(path)])


def test_output_folder_repeats_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = Fake(instruction='say "so": yes', model=("a", "b"), where=Path("é"))
    with first.open_output("a model/of mine") as out:
        out.write_json("metrics.json", {"auc": math.nan})
    assert out.path.parent == Path("outputs/test-cli")
    assert out.path.name.endswith("_a-model-of-mine")
    assert json.loads((out.path / "metrics.json").read_text()) == {"auc": None}
    assert json.loads((out.path / "env.json").read_text())["packages"]["numpy"] == np.__version__
    again = parse("fake", Fake, ["--config", str(out.path / "config.yaml")])
    assert isinstance(again, Fake)
    assert (again.instruction, again.model, again.where) == (
        first.instruction,
        first.model,
        first.where,
    )
    with first.open_output("a model/of mine") as other:
        assert other.path != out.path


def test_output_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(errors.ConfigError, match="--yes"):
        Fake(instruction="x", out=tmp_path).open_output()
    with Fake(instruction="x", out=tmp_path, yes=True).open_output():
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter(range(0, 1000, 10))
    with Bar("relabel", total=4, unit="ep", clock=lambda: float(next(now))) as bar:
        for _ in range(4):
            bar.update(note="dropped 0")
    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) < 6
    assert lines[-1].startswith("relabel  4/4 ep")
    assert lines[-1].endswith("dropped 0")
    assert "\x1b" not in "".join(lines)


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = Fake(instruction="x", quiet=True)
    command.console().say("hello")
    with command.console().bar("x", total=2) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""


def test_table() -> None:
    rows = [{"name": "a", "value": math.nan}, {"name": "long", "value": 0.123456}]
    assert table(rows) == "name  value\na     -\nlong  0.123"
    assert table(rows, markdown=True).splitlines()[1] == "| ---- | ----- |"
    assert table([]) == ""


def test_plain_keeps_order_and_types() -> None:
    value = {"b": (1, True), "a": {"x": None}, "array": np.arange(2)}
    assert list(plain(value)) == ["b", "a", "array"]  # type: ignore[call-overload]
    assert plain(value) == {"b": [1, True], "a": {"x": None}, "array": [0, 1]}


def test_ctrl_c_ends_with_130() -> None:
    code = (
        "import sys, time\n"
        "from robo_reward.cli import app\n"
        "from robo_reward.cli.models import Models\n"
        "class Slow(Models):\n"
        "    '''Waits.'''\n"
        "    def run(self):\n"
        "        print('ready', flush=True); time.sleep(60)\n"
        "app.load_verb = lambda name: Slow\n"
        "sys.exit(app.main(['models']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs with SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "error: interrupted\n"


def test_closed_pipe_is_quiet() -> None:
    done = subprocess.run(
        f"{sys.executable} -m robo_reward doctor --no-probe | head -c 1 >/dev/null",
        shell=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_common_is_abstract() -> None:
    with pytest.raises(TypeError):
        Common()  # type: ignore[abstract]
    assert main(["--version"]) == 0
