"""``robo-reward keys``: files are made once, lists follow, and no secret is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def keys(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = command("keys", "make", "gpu:reward@10.0.0.6", "robot:camera", "arm:learner", "--json")
    assert made.code == 0, made.err
    assert [row["name"] for row in json.loads(made.out)] == ["arm", "gpu", "robot"]
    return tmp_path / "keys"


def secrets(keys: Path) -> list[str]:
    return [path.read_text().split()[-1] for path in keys.glob("*/secret.key")]


def test_no_output_holds_a_secret(command: Run, keys: Path) -> None:
    said = [
        command("keys", *words, "-v")
        for words in (
            ("make", "anna:operator"),
            ("make", "anna:operator", "--yes"),
            ("list",),
            ("list", "--keys", "keys/gpu"),
            ("allow", "keys/anna/secret.key", "--keys", "keys/gpu"),
            ("revoke", "robot"),
        )
    ]
    text = "".join(ran.out + ran.err for ran in said)
    assert "operator" in text
    assert len(secrets(keys)) == 4
    assert [secret for secret in secrets(keys) if secret in text] == []


def test_pairs_are_never_written_over_without_the_word(command: Run, keys: Path) -> None:
    before = secrets(keys)
    refused = command("keys", "make", "gpu:reward")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert secrets(keys) == before
    assert command("keys", "make", "gpu:reward", "--yes").code == 0
    assert secrets(keys) != before


def test_the_public_half_of_another_host_is_allowed_and_revoked(command: Run, keys: Path) -> None:
    assert command("keys", "make", "far:learner", "--keys", "elsewhere").code == 0
    ran = command("keys", "allow", "elsewhere/far/public.key", "--keys", "keys/gpu", "--json")
    rows = {row["name"]: row for row in json.loads(ran.out)}
    assert rows["gpu"]["where"] == "own"
    assert rows["far"]["where"] == "allowed"
    theirs = json.loads(command("keys", "--keys", "elsewhere", "--json").out)
    assert rows["far"]["fingerprint"] == theirs[0]["fingerprint"]
    ran = command("keys", "revoke", "far", "--keys", "keys/gpu", "--json")
    assert "far" not in {row["name"] for row in json.loads(ran.out)}
    assert command("keys", "revoke", "far", "--keys", "keys/gpu").code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("make",),
        ("make", "gpu"),
        ("make", "gpu:king"),
        ("make", "../gpu:reward"),
        ("make", "a:viewer", "a:viewer"),
        ("list", "gpu"),
        ("allow", "no/such.key"),
        ("revoke", "nobody"),
        ("make", "x:viewer", "--keys", "keys/gpu"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_code_2(
    command: Run, keys: Path, words: tuple[str, ...]
) -> None:
    ran = command("keys", *words)
    assert (ran.code, ran.err.count("\n"), ran.err[:7]) == (2, 1, "error: ")
    assert len(list(keys.parent.glob("**/secret.key"))) == 3
