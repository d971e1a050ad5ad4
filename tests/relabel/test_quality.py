"""Ranking, failures, duplicates and the page over a labelled dataset."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from robo_reward.datasets.episode import Episode
from robo_reward.datasets.log_episode import log_episode
from robo_reward.models.oracle_pixels import paint

from .recordings import PUSH

Command = Callable[..., Any]

UP = [t / 19 for t in range(20)]
CURVES = {
    "straight": UP,
    "detour": [*UP[:10], *UP[9::-1][:10], *UP],
    "falls": [*UP[:15], *[0.2] * 10],
    "stays": [0.1] * 20,
    "copy-of-straight": UP,
}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for name, curve in CURVES.items():
        salt = 0 if "straight" in name else 1000 * len(name)
        images = np.stack(
            [paint(p, float(p >= 0.9), size=32, salt=salt + t) for t, p in enumerate(curve)]
        )
        log_episode(
            tmp_path / "logs",
            Episode(id=name, instruction=PUSH, images={"front": images}, success=name == "stays"),
        )
    return tmp_path / "logs"


def relabel(command: Command, *args: object) -> dict[str, Any]:
    ran = command("relabel", *map(str, args), "--model", "oracle-pixels", "--json")
    assert ran.code == 0, ran.err
    result: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return result


def test_ranking(recordings: Path, tmp_path: Path, command: Command) -> None:
    relabel(command, recordings, "--out", tmp_path / "out", "--write", "ranking")
    with (tmp_path / "out" / "episodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_name = {row["episode"]: row for row in rows}
    # The order of the files: the copy comes first, so it is the straight one that repeats it.
    assert by_name["straight"]["duplicate_of"] == "copy-of-straight"
    assert [row["episode"] for row in rows[:3]] == ["copy-of-straight", "straight", "detour"]
    assert float(by_name["straight"]["quality"]) == pytest.approx(1.0)
    assert float(by_name["detour"]["quality"]) == pytest.approx(1 / 1.95, abs=0.02)
    # States of a recording are a tenth of a second apart.
    assert by_name["falls"]["failed_at"] == "15"
    assert float(by_name["falls"]["failed_at_s"]) == pytest.approx(1.5)
    assert by_name["straight"]["failed_at"] == "-1"
    assert by_name["stays"]["suspicious"] == "never rises"
    assert by_name["straight"]["suspicious"] == ""


def test_page(recordings: Path, tmp_path: Path, command: Command) -> None:
    (recordings / "zz.mcap").write_bytes(b"nothing")
    ran = command(
        "relabel", str(recordings), "--model", "oracle-pixels", "--out", str(tmp_path / "out"),
        "--write", "report", "--json",
    )  # fmt: skip
    assert ran.code == 1, ran.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in (
        "Best episodes", "Worst episodes", "Episodes that look wrong", "never rises",
        "fails at frame 15 (1.5 s)", "same pictures as copy-of-straight",
        "not done, recorded as success", "Not read", "zz",
    ):  # fmt: skip
        assert words in page, words
    assert page.count('class="strip"') >= 5
    assert 'src="http' not in page
