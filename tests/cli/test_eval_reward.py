"""``robo-reward eval-reward`` on a painted suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robo_reward.evaluate import METRICS, suites
from robo_reward.models import registry

PAINTED = suites.Suite(
    recorder="tests.evaluate.episodes:record",
    splits=("unseen", "train"),
    families="tests.evaluate.episodes:FAMILIES",
)


@pytest.fixture
def run(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    monkeypatch.setitem(suites.SUITES, "painted", PAINTED)
    monkeypatch.chdir(tmp_path)

    def start(*flags: str) -> Any:
        base = ("--model", "oracle-pixels", "--suite", "painted", "--episodes", "6")
        return command("eval-reward", *base, "--resamples", "20", *flags)

    return start


def test_last_line_is_one_object_with_the_headline_keys(run: Callable[..., Any]) -> None:
    ran = run("--json", "--out", "out")
    assert ran.code == 0, ran.err
    assert ran.out.count("\n") == 1
    result = json.loads(ran.out)
    assert {metric.name for metric in METRICS} <= set(result)
    assert result["voc"] == pytest.approx(1.0)
    assert result["mismatch_drop"] == 0.0
    assert result["intervals"]["voc"] == pytest.approx([1.0, 1.0])
    assert result["counts"]["episodes"] == 6
    assert (result["suite"], result["split"], result["seed"]) == ("painted", "unseen", 0)


def test_folder_holds_what_is_needed_to_look_and_to_repeat(run: Callable[..., Any]) -> None:
    assert run("--out", "out", "--quiet").code == 0
    names = {path.name for path in Path("out").iterdir()}
    assert {"metrics.json", "report.html", "config.yaml", "env.json", "log.txt"} <= names
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert set(metrics["families"]) == {"push", "lift"}
    report = Path("out/report.html").read_text()
    assert "--model oracle-pixels --suite painted --split unseen --episodes 6" in report


def test_without_json_a_table_and_the_path_last(run: Callable[..., Any]) -> None:
    ran = run()
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[1].split() == ["voc", "1"]
    assert lines[-1].endswith("report.html")
    assert Path(lines[-1]).is_file()


def test_several_models_stand_side_by_side(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "listener", "tests.evaluate.episodes:Listener")
    ran = run("--model", "listener", "oracle-pixels", "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    drops = {name: figures["mismatch_drop"] for name, figures in result["models"].items()}
    assert drops == pytest.approx({"listener": 0.9, "oracle-pixels": 0.0})
    assert result["mismatch_drop"] == pytest.approx(0.9)
    head = run("--model", "listener", "oracle-pixels").out.splitlines()[0]
    assert head.split() == ["metric", "listener", "oracle-pixels"]


def test_baselines_stand_beside_a_model_and_are_named_for_what_they_do(
    run: Callable[..., Any],
) -> None:
    names = ("oracle-pixels", "time-counter", "constant", "goal-distance", "random-features")
    ran = run("--model", *names, "--json", "--out", "out")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    verdicts = {name: set(figures["verdicts"]) for name, figures in result["models"].items()}
    assert {"scores time", "blind"} <= verdicts["time-counter"]
    assert "constant" in verdicts["constant"]
    assert "ignores language" in verdicts["goal-distance"] & verdicts["random-features"]
    assert result["models"]["time-counter"]["sanity"]["reversed"]["holds"] is False
    report = Path("out/report.html").read_text()
    for words in ("time-counter scores time", "Which task is it?", "Trajectory audit", "Sanity"):
        assert words in report


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--split", "unsen"), "did you mean unseen"),
        (("--suite", "pianted"), "did you mean painted"),
        (("--episodes", "0"), "episodes must be >= 1"),
        (("--batch-size", "0"), "batch_size must be >= 1"),
        (("--timeout", "0"), "--timeout must be > 0"),
        (("--model", "oracle"), "did you mean oracle-pixels"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_two(
    run: Callable[..., Any], flags: tuple[str, ...], words: str
) -> None:
    ran = run(*flags)
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_recorded_episodes_are_scored_like_those_of_the_suite(
    run: Callable[..., Any], command: Callable[..., Any]
) -> None:
    pytest.importorskip("mcap")
    fresh = json.loads(run("--json", "--out", "fresh").out)
    suite = ("--suite", "painted", "--episodes", "6")
    ran = command("record", *suite, "--out", "recorded", "--json", "--quiet")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["episodes"] == 6
    ran = run("--dataset", "recorded", "--json", "--out", "read")
    assert ran.code == 0, ran.err
    read = json.loads(ran.out)
    for metric in METRICS:
        assert read[metric.name] == pytest.approx(fresh[metric.name], nan_ok=True), metric.name
    assert (read["dataset"], read["suite"], read["counts"]["episodes"]) == ("recorded", None, 6)
    assert "--dataset recorded" in Path("read/report.html").read_text()
    some = run("--dataset", "recorded", "--families", "lift", "--json", "--out", "some")
    assert json.loads(some.out)["counts"]["episodes"] == 3
    assert json.loads(command("record", *suite, "--out", "recorded", "--json").out)["episodes"] == 0


def test_an_empty_folder_is_said_to_be_empty(run: Callable[..., Any]) -> None:
    Path("nothing").mkdir()
    ran = run("--dataset", "nothing")
    assert ran.code == 6
    assert "no recordings" in ran.err
