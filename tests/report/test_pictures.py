"""Overlays, plots, strips and charts: right sizes, right gaps, readable files."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from robo_reward.errors import ConfigError
from robo_reward.report import (
    Figure,
    OverlayScores,
    Report,
    Section,
    TrainingRow,
    overlay,
    plot_training,
    write_report,
)
from robo_reward.report.charts import Curves, confusion, episode_curves, legend, roc_chart
from robo_reward.report.filmstrip import film_strip, strip_html
from robo_reward.report.html_page import cards, interval, number, picture, table
from robo_reward.report.movie import write_gif
from robo_reward.report.svg import Chart
from robo_reward.signals import Identity, Score, Signals

T = 8


def _frames(count: int = T) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 24, 24, 3), np.uint8)


def _scores(count: int = T, *, fired: int | None = 5) -> OverlayScores:
    ramp = np.linspace(0, 1, count, dtype=np.float32)
    return OverlayScores(
        progress=np.where(np.arange(count) == 3, np.nan, ramp).astype(np.float32),
        progress_delta=np.full(count, 0.1, np.float32),
        done=ramp**4,
        contrastive=ramp * 2 - 1,
        uncertainty=np.full(count, np.nan, np.float32),
        is_done=None if fired is None else np.arange(count) >= fired,
    )


def test_gif_has_a_picture_per_frame_and_stays_below_the_limit(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = overlay(_frames(), _scores(), tmp_path / "a.gif", instruction="push the cube " * 9)
    with image.open(path) as gif:
        # The gate opens at frame 5 of 8: its flash ends and one clean picture stands.
        assert gif.n_frames == T + 2
        assert gif.size == (880, 440)
        assert gif.info["loop"] == 0
    assert path.stat().st_size < 5e6


def test_gif_gets_coarser_until_it_fits(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    noise = [image.fromarray(frame) for frame in _frames().repeat(2, axis=1).repeat(2, axis=2)]
    sizes = []
    for limit in (1.0, 0.008, 0.0):
        path = write_gif(tmp_path / "a.gif", noise, rate_hz=10, hold_s=1, max_mb=limit)
        with image.open(path) as gif:
            sizes.append((gif.n_frames, path.stat().st_size))
    assert sizes[0][0] == T
    assert sizes[1][1] <= 8000
    assert sizes[2][0] == T // 4
    assert sizes[0][1] > sizes[1][1] > sizes[2][1]


def test_the_gate_flashes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = overlay(np.zeros((T, 24, 24, 3), np.uint8), _scores(), tmp_path / "a.gif")
    with image.open(path) as gif:
        greens = []
        for step in range(T):
            gif.seek(step)
            red, green, _ = gif.convert("RGB").getpixel((220, 200))
            greens.append(green - red > 20)
    assert greens[:5] == [False] * 5
    assert greens[5]


def test_mp4_is_readable(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("PIL")
    path = overlay(_frames(), _scores(fired=None), tmp_path / "a.mp4", hold_s=0.2, rate_hz=10)
    film = cv2.VideoCapture(str(path))
    try:
        assert film.get(cv2.CAP_PROP_FRAME_COUNT) == T + 2
    finally:
        film.release()


def test_overlay_takes_scores_and_leaves_gaps_where_one_is_missing() -> None:
    lost = Score.missing("BUSY", identity=Identity())
    seen = Score(signals=Signals(progress=0.5, done=0.9))
    made = OverlayScores.of([seen, lost], is_done=[False, True])
    np.testing.assert_array_equal(made.progress, np.array([0.5, np.nan], np.float32))
    assert made.is_done is not None
    assert made.is_done.tolist() == [False, True]
    assert OverlayScores.of([seen]).is_done is None


def test_overlay_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="8 frames and 9 scores"):
        overlay(_frames(), _scores(9), tmp_path / "a.gif")
    with pytest.raises(ConfigError, match=r"\.gif or \.mp4"):
        overlay(_frames(), _scores(), tmp_path / "a.avi")


@pytest.mark.parametrize("seeds", [1, 3])
def test_training_plot(tmp_path: Path, seeds: int) -> None:
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    rows = [
        TrainingRow(iteration=i, seed=s, true_success=i / 10, model_return=i - 5.0, model_success=s)
        for s in range(seeds)
        for i in range(6 - s)
    ]
    path = plot_training(tmp_path / "training.png", rows, title="push")
    with image.open(path) as png:
        assert png.size == (1080, 780)
    with pytest.raises(ValueError, match="at least one row"):
        plot_training(path, [])


def test_film_strip_puts_pictures_side_by_side() -> None:
    frames = _frames(3)
    strip = film_strip(frames, height=48)
    assert strip.shape == (48, 3 * 48 + 2 * 3, 3)
    assert (strip[::2, 51:99:2] == frames[1]).all()
    assert film_strip(_frames(2), height=12).shape == (12, 27, 3)


def test_strip_html_is_a_jpeg_inside() -> None:
    html = strip_html(_frames(4), frames=[0, 3, 6, 9], height=24)
    data = re.search(r"base64,([^\"]+)", html)
    assert data is not None
    assert simplejpeg.decode_jpeg(base64.b64decode(data[1])).shape == (24, 105, 3)
    assert "frames 0, 3, 6, 9" in html


def test_lines_break_where_there_is_no_score() -> None:
    chart = Chart("x", x=(0, 4), y=(0, 1))
    chart.line([0, 1, 2, 3, 4], [0, 1, math.nan, 1, 0], kind="progress")
    assert chart.svg().count("<polyline") == 2


def test_frames_stand_below_the_middle_of_their_pictures() -> None:
    chart = Chart("x", x=(0, 70), y=(0, 1))
    middles = [(index + 0.5) / 8 * 480 for index in range(8)]
    assert [chart.at(10 * index, 0)[0] for index in range(8)] == pytest.approx(middles)


def test_curves_of_a_single_frame_and_without_truth() -> None:
    assert "<svg" in episode_curves(Curves(progress=[0.5], done=[0.1], fired=3))


def test_charts_escape_what_they_are_told() -> None:
    assert "<i>" not in legend({"progress": "<i>"})
    assert "<i>" not in confusion([[1, 0], [0, 2]], rows=["<i>", "b"], columns=["c", "d"])
    assert "<i>" not in table(["<i>"], [["<i>", 1]])
    assert roc_chart({"m": (np.empty(0), np.empty(0))}).startswith("<svg")


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0.98765, 12.345, 1234.5, math.nan)] == [
        "0.988",
        "12.35" if number(12.345) == "12.35" else "12.34",
        "1,234" if number(1234.5) == "1,234" else "1,235",
        "–",
    ]
    assert interval(Figure(value=0.5)) == ""
    assert interval(Figure(value=0.5, low=0.4, high=0.6)) == "[0.400, 0.600]"
    assert table(["a"], [["x", 1200, True, None]]).count("1,200") == 1


def test_page_with_pictures(tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"png")
    body = cards([("Success", Figure(value=0.9), "after")]) + picture(
        tmp_path / "plot.png", alt="a plot"
    )
    report = Report(
        title="demo",
        subtitle="3 seeds",
        sections=(Section(title="Result", body=body, note="<raw>"),),
        command="make demo",
        config={"lr": 1e-3},
        environment={"python": "3.11"},
    )
    text = write_report(tmp_path / "report.html", report).read_text()
    assert "data:image/png;base64,cG5n" in text
    assert "&lt;raw&gt;" in text
    assert "make demo" in text
    with pytest.raises(ConfigError, match="no picture"):
        picture(tmp_path / "film.avi", alt="")
