"""The report of an evaluation: one file that says what was measured and warns of shortcuts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from robo_reward.evaluate import METRICS, EvalOptions, evaluate
from robo_reward.evaluate.page import shortcuts, write_eval_report
from robo_reward.models.oracle_pixels import OraclePixels

from .episodes import Clock, Listener, painted, ramp, record

VOID = {"meta", "img"}


class Balanced(HTMLParser):
    """Raises where a tag is closed that was not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _report(folder: Path, *names: str) -> str:
    models = {"good": Listener(), "clock": Clock(), "deaf": OraclePixels()}
    result = evaluate(
        {name: models[name] for name in names},
        record("unseen", episodes=9),
        options=EvalOptions(resamples=20),
    )
    path = write_eval_report(
        folder / "report.html", result, title="a <b> title", command="robo-reward eval-reward"
    )
    return path.read_text(encoding="utf-8")


def test_report_is_one_balanced_file_that_loads_nothing(tmp_path: Path) -> None:
    text = _report(tmp_path, "good")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]+)', text))
    assert "a &lt;b&gt; title" in text
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_report_holds_every_metric_family_and_episode(tmp_path: Path) -> None:
    text = _report(tmp_path, "good")
    for metric in METRICS:
        assert metric.title in text
    for words in ("By task family", "half-way", "episode-0", "reliability diagram", "eval-reward"):
        assert words in text
    assert "nan" not in re.sub(r"base64,[^\"]+", "", text).lower().split()


def test_report_names_shortcuts(tmp_path: Path) -> None:
    text = _report(tmp_path, "clock", "deaf")
    assert "clock scores time" in text
    assert "deaf ignores language" in text


def test_an_honest_model_has_no_warning_and_a_flat_one_does() -> None:
    options = EvalOptions(resamples=0)
    good = evaluate({"m": Listener()}, record("unseen", episodes=6), options=options).models[0]
    assert shortcuts(good) == []
    flat = painted([0.5] * 8, success=True, truth=ramp(8))
    model = evaluate({"m": OraclePixels()}, [flat], options=options).models[0]
    assert any("one value throughout in 1 successes" in line for line in shortcuts(model))
