"""``score``, ``models`` and ``doctor`` on real files."""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.cli import checks
from robo_reward.models.oracle_pixels import paint

Command = Callable[..., Any]
FRAMES = 21


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose pixels say their score; names that sort wrongly as text."""
    from PIL import Image

    made = tmp_path / "images"
    made.mkdir()
    for index in range(FRAMES):
        value = index / (FRAMES - 1)
        Image.fromarray(paint(value, value / 2)).save(made / f"frame{index}.png")
    return made


def score(command: Command, *args: object) -> dict[str, Any]:
    base = ("--instruction", "push the cube", "--model", "oracle-pixels", "--json")
    ran = command("score", *map(str, args), *base)
    assert ran.code == 0, ran.err
    result: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return result


def test_signals_of_a_folder(folder: Path, command: Command) -> None:
    result = score(command, folder)
    rows = result["frames"]
    wanted = np.arange(FRAMES) / (FRAMES - 1)
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    np.testing.assert_allclose([row["progress"] for row in rows], wanted, atol=2 / 255)
    np.testing.assert_allclose([row["done"] for row in rows], wanted / 2, atol=2 / 255)
    assert rows[0]["progress_delta"] == 0
    assert sum(row["progress_delta"] for row in rows) == pytest.approx(rows[-1]["progress"])
    assert rows[0]["time_s"] is None
    assert result["model"] == "oracle-pixels@1"
    assert result["failed"] == 0


def test_every_nth_frame_refers_to_the_one_scored_before(folder: Path, command: Command) -> None:
    rows = score(command, folder, "--every", 10)["frames"]
    assert [row["frame"] for row in rows] == [0, 10, 20]
    assert rows[1]["progress_delta"] == pytest.approx(0.5, abs=0.01)


def test_video_file(tmp_path: Path, command: Command) -> None:
    import cv2

    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 32))
    assert writer.isOpened()
    for value in (0, 100, 200):
        writer.write(np.full((32, 32, 3), (0, 0, value), np.uint8))
    writer.release()
    rows = score(command, path)["frames"]
    assert [row["time_s"] for row in rows] == [0.0, 0.1, 0.2]
    # Red last in OpenCV's order: a swap of the channels would give 0.
    np.testing.assert_allclose([row["progress"] for row in rows], [0, 0.39, 0.78], atol=0.05)


def test_csv_and_table(folder: Path, tmp_path: Path, command: Command) -> None:
    target = tmp_path / "signals.csv"
    args = ("score", str(folder), "--instruction", "x", "--model", "oracle-pixels")
    ran = command(*args, "--csv", str(target))
    assert ran.code == 0
    assert ran.out.splitlines()[0].split()[:3] == ["frame", "time_s", "progress"]
    assert len(ran.out.splitlines()) == FRAMES + 1
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FRAMES
    assert float(rows[-1]["progress"]) == pytest.approx(1.0)
    assert command(*args, "--csv", str(target)).code == 2
    assert command(*args, "--csv", str(target), "--yes").code == 0


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_overlay(suffix: str, folder: Path, tmp_path: Path, command: Command) -> None:
    target = tmp_path / f"film{suffix}"
    result = score(command, folder, "--every", 10, "--overlay", target)
    assert result["overlay"] == str(target)
    assert target.stat().st_size > 1000


def test_film_of_a_long_video_stays_bounded() -> None:
    from robo_reward.cli.score import Film
    from robo_reward.datasets.video import VideoFrame
    from robo_reward.report import FILM_FRAMES

    film = Film()
    image = np.zeros((4, 4, 3), np.uint8)
    for index in range(5 * FILM_FRAMES):
        film.add(VideoFrame(index=index, time_s=index / 10, image=image), {"frame": index})
    kept = [row["frame"] for row in film._rows]
    assert len(kept) <= FILM_FRAMES
    assert set(np.diff(kept)) == {film.every}


def test_broken_image_names_the_file(folder: Path, command: Command) -> None:
    (folder / "frame7.png").write_bytes(b"no image")
    ran = command("score", str(folder), "--instruction", "x", "--model", "oracle-pixels")
    assert ran.code == 6
    assert "frame7.png" in ran.err


def test_truncated_video(tmp_path: Path, command: Command) -> None:
    import cv2

    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 64))
    for _ in range(10):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[:400])
    ran = command("score", str(path), "--instruction", "x", "--model", "oracle-pixels")
    assert ran.code == 6
    assert ran.err.count("\n") == 1


def test_nobody_answers(folder: Path, free_port: int, command: Command) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    args = ("score", str(folder), "--instruction", "x", "--timeout", "0.3")
    ran = command(*args, "--node", address)
    assert ran.code == 5
    assert address in ran.err
    assert ran.err.count("error:") == 1


def test_missing_extra(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    ran = command("score", str(folder), "--instruction", "x", "--model", "oracle-pixels")
    assert ran.code == 3
    assert 'pip install "robo-reward[camera]"' in ran.err


def test_models(command: Command) -> None:
    ran = command("models", "--json")
    assert ran.code == 0
    rows = json.loads(ran.out.splitlines()[-1])
    assert "oracle-pixels" in {row["name"] for row in rows}
    one = json.loads(command("models", "oracle-pixels", "--measure", "--json").out)
    assert one["ms_per_frame"] > 0
    assert one["signals"][0] == "progress"


def test_doctor(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch takes long to start in a process of its own; what it answers is not what is tested.
    monkeypatch.setattr(checks, "TORCH", 'print(\'ANSWER[["cuda:0", "A GPU", 80.0]]\')')
    ran = command("doctor", "--json")
    assert ran.code == 0
    found = json.loads(ran.out.splitlines()[-1])
    assert {row["backend"] for row in found["graphics"]} == {"egl", "osmesa"}
    assert any(row["extra"] == "(base)" and row["complete"] for row in found["extras"])
    assert found["gpu"] == [{"device": "cuda:0", "name": "A GPU", "memory_gb": 80.0}]
    assert {row["port"] for row in found["ports"]} == set(checks.DEFAULT_PORTS)
    text = command("doctor", "--no-probe").out
    assert text.startswith("### machine\n\n| what")


def test_busy_port_is_seen(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DEFAULT_PORTS", (free_port,))
    assert checks.ports()[0]["free"]
    with socket.create_server(("127.0.0.1", free_port)):
        assert not checks.ports()[0]["free"]


def test_a_trial_that_dies_is_an_answer() -> None:
    try_apart = checks.try_apart
    assert try_apart("import os; os.abort()", timeout_s=20)[0] is None
    assert try_apart("import time; time.sleep(60)", timeout_s=0.5)[1] == "no answer in 0.5 s"
    assert try_apart("print('ANSWER[1]')", timeout_s=20) == ([1], "")
