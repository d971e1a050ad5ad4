"""LeRobot datasets in both layouts: read, labelled, and their columns written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("av")

from robo_reward.datasets.formats import open_dataset  # noqa: E402
from robo_reward.datasets.labels import LabelTable  # noqa: E402

from .lerobot_folders import CAMERAS, write  # noqa: E402
from .recordings import PUSH, ramp  # noqa: E402

Command = Callable[..., Any]
LENGTHS = [7, 40, 5]


def relabel(command: Command, *args: object, code: int = 0) -> dict[str, Any]:
    ran = command("relabel", *map(str, args), "--model", "oracle-pixels", "--json")
    assert ran.code == code, ran.err
    result: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return result


def hashes(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_reads_and_labels(version: str, tmp_path: Path, command: Command) -> None:
    data = write(tmp_path / "data", LENGTHS, version=version)
    before = hashes(data)
    args = ("--cameras", CAMERAS[0], "--out", tmp_path / "out", "--write", "progress")
    assert relabel(command, data, *args)["frames"] == sum(LENGTHS)
    assert hashes(data) == before
    first, second, third = LabelTable(tmp_path / "out")
    for number, labels in enumerate((first, second, third)):
        want = ramp(LENGTHS[number], salt=number)
        np.testing.assert_allclose(labels.signals["progress"], want, atol=2 / 255)
        assert set(labels.instructions) == {PUSH}
    assert second.stamps_ns[10] == 10**9
    rows = parquet.read_table(tmp_path / "out" / "progress.parquet")
    assert rows.schema.metadata[b"reward_model_path"] == b"oracle-pixels@1"
    assert rows.column("index").to_pylist() == list(range(sum(LENGTHS)))
    numbers = [k for k, n in enumerate(LENGTHS) for _ in range(n)]
    assert rows.column("episode_index").to_pylist() == numbers
    assert rows.column("frame_index").to_pylist() == [t for n in LENGTHS for t in range(n)]
    told = np.array(rows.column("progress_sparse").to_pylist())
    np.testing.assert_allclose(told[:7], first.signals["progress"])


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("reward", [False, True])
def test_a_copy_with_columns(version: str, reward: bool, tmp_path: Path, command: Command) -> None:
    data = write(tmp_path / "data", LENGTHS, version=version, reward=reward)
    before = hashes(data)
    args = ("--cameras", CAMERAS[0], "--reward", "dense", "--write", "copy")
    relabel(command, data, "--out", tmp_path / "out", *args)
    assert hashes(data) == before
    copy = tmp_path / "out" / "copy"
    after = hashes(copy)
    changed = {name for name in before if before[name] != after[name]}
    tables = {name for name in before if name.startswith("data/")}
    assert changed == tables | {"meta/info.json", "meta/stats.json"}
    for name in tables:
        old, new = (parquet.read_table(root / name) for root in (data, copy))
        assert new.select(old.column_names).equals(old)
        column = "label.reward" if reward else "next.reward"
        added = {f"label.{signal}" for signal in ("progress", "done", "contrastive")} | {column}
        assert added <= set(new.column_names) - set(old.column_names)
    known = json.loads((copy / "meta" / "info.json").read_text())["features"]
    assert known["label.progress"] == {"dtype": "float32", "shape": [1], "names": None}
    (first, *_) = open_dataset(copy)
    rewards = first.truth().rewards
    assert rewards is not None
    want = np.arange(7) if reward else [*np.diff(ramp(7)), 0.0]
    np.testing.assert_allclose(rewards, want, atol=2 / 255)


def test_two_cameras_stride_and_a_start_in_the_middle(tmp_path: Path) -> None:
    data = write(tmp_path / "data", LENGTHS, version="v3.0")
    (_, second, _) = open_dataset(data)
    assert second.cameras == CAMERAS
    instants = list(second.instants(CAMERAS, every=3, start=8))
    assert [instant.index for instant in instants] == list(range(9, 40, 3))
    red = [instant.frames[0].image[0, 0, 0] / 255 for instant in instants]
    np.testing.assert_allclose(red, ramp(40, salt=1)[9::3], atol=2 / 255)
    back = [instant.frames[1].image[0, 0, 0] / 255 for instant in instants]
    np.testing.assert_allclose(back, ramp(40, salt=1)[::-1][9::3], atol=2 / 255)


def test_a_missing_video_is_one_episode_less(tmp_path: Path, command: Command) -> None:
    data = write(tmp_path / "data", LENGTHS, version="v2.1")
    (data / f"videos/chunk-000/{CAMERAS[0]}/episode_000001.mp4").write_bytes(b"nothing")
    result = relabel(command, data, "--cameras", CAMERAS[0], "--out", tmp_path / "out", code=1)
    assert list(result["skipped"]) == ["episode_000001"]
    ran = command(
        "relabel", str(data), "--cameras", CAMERAS[0], "--out", str(tmp_path / "out"),
        "--model", "oracle-pixels", "--write", "copy",
    )  # fmt: skip
    assert ran.code == 6
    assert "no gaps" in ran.err


def test_progress_between_labelled_frames_is_interpolated(tmp_path: Path, command: Command) -> None:
    data = write(tmp_path / "data", [9], version="v3.0")
    args = ("--cameras", CAMERAS[0], "--every", 4, "--write", "progress")
    relabel(command, data, "--out", tmp_path / "out", *args)
    rows = parquet.read_table(tmp_path / "out" / "progress.parquet")
    np.testing.assert_allclose(rows.column("progress_sparse").to_pylist(), ramp(9), atol=2 / 255)
