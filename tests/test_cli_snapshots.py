"""Help and errors of every verb, frozen; ``--update-snapshots`` rewrites them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from robo_reward.cli.app import help_text, load_verb
from robo_reward.cli.common import Common
from robo_reward.cli.verbs import VERBS

SNAPSHOTS = Path(__file__).parent / "snapshots"

ERRORS = {
    "unknown-verb": ("relabl",),
    "unknown-flag": ("score", "x.mp4", "--instructon", "push"),
    "missing-argument": ("score",),
    "bad-value": ("score", "x.mp4", "--instruction", "push", "--every", "two"),
    "no-video": ("score", "no/such.mp4", "--instruction", "push"),
    "not-a-video": ("score", "text.mp4", "--instruction", "push"),
    "empty-folder": ("score", "empty", "--instruction", "push"),
    "empty-instruction": ("score", "x.mp4", "--instruction", " "),
    "long-instruction": ("score", "x.mp4", "--instruction", "p" * 10_000),
    "unknown-model": ("score", "images", "--instruction", "push", "--model", "oracle-pixel"),
    "unknown-model-listed": ("models", "oracle-pixel"),
    "bad-every": ("score", "images", "--instruction", "push", "--every", "0"),
    "bad-timeout": ("score", "images", "--instruction", "push", "--timeout", "0"),
    "no-folder-for-csv": ("score", "images", "--instruction", "push", "--csv", "no/such/x.csv"),
    "no-config": ("models", "--config", "no-such.yaml"),
    "config-of-another-verb": ("models", "--config", "other.yaml"),
}


class Snapshot:
    """Compares text with a file, or writes it."""

    def __init__(self, *, update: bool) -> None:
        self.update = update

    def __call__(self, name: str, text: str) -> None:
        path = SNAPSHOTS / f"{name}.txt"
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no snapshot {name}; run with --update-snapshots"
        assert text == path.read_text(encoding="utf-8"), "run with --update-snapshots if meant so"


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Snapshot:
    return Snapshot(update=request.config.getoption("--update-snapshots"))


@pytest.fixture(autouse=True)
def _same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with broken inputs, and a terminal of 80 columns."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("empty").mkdir()
    Path("images").mkdir()
    Image.new("RGB", (8, 8)).save("images/0.png")
    Path("text.mp4").write_text("not a video\n")
    Path("other.yaml").write_text("instruction: push\nmesure: true\n")


def test_help(snapshot: Snapshot, command: Callable[..., object]) -> None:
    snapshot("help", help_text())


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_verb(verb: str, snapshot: Snapshot, command: Callable[..., object]) -> None:
    ran = command(verb, "--help")
    assert ran.code == 0  # type: ignore[attr-defined]
    snapshot(f"help-{verb}", ran.out)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str, snapshot: Snapshot, command: Callable[..., object]) -> None:
    ran = command(*ERRORS[name])
    assert ran.out == ""  # type: ignore[attr-defined]
    text = re.sub(r"0x[0-9a-f]+", "0x…", ran.err)  # type: ignore[attr-defined]
    assert "Traceback" not in text
    snapshot(f"error-{name}", f"exit code {ran.code}\n{text}")  # type: ignore[attr-defined]


def test_no_snapshot_is_left_over() -> None:
    wanted = {"help", *(f"help-{verb}" for verb in VERBS), *(f"error-{name}" for name in ERRORS)}
    assert {path.stem for path in SNAPSHOTS.glob("*.txt")} - wanted == set()


@pytest.mark.parametrize("verb", VERBS)
def test_verb_keeps_the_rules(verb: str) -> None:
    module, name, text = VERBS[verb]
    made = load_verb(verb)
    assert issubclass(made, Common)
    assert module == f"robo_reward.cli.{verb.replace('-', '_')}"
    assert name == "".join(part.capitalize() for part in verb.split("-"))
    assert text
    assert text[0].islower()
    assert not text.endswith(".")
    assert made.__doc__
    assert made.examples, f"{verb} shows no example"
    assert made.examples[0].startswith(f"robo-reward {verb}")
    verbs = {example.split()[1] for example in made.examples if example.startswith("robo-reward ")}
    assert verbs <= set(VERBS)


def test_snapshot_update_is_off_in_ci(request: pytest.FixtureRequest) -> None:
    assert not (os.environ.get("CI") and request.config.getoption("--update-snapshots"))
