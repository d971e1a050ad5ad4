"""An episode in memory, on the disk and back, its truth with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robo_reward.datasets.episode import Episode
from robo_reward.datasets.log_episode import log_episode
from robo_reward.datasets.log_reader import LogReader

pytest.importorskip("mcap")


def episode(**changes: object) -> Episode:
    rng = np.random.default_rng(4)
    whole = Episode(
        id="metaworld-unseen-soccer-7",
        instruction="kick the ball into the goal",
        images={
            "corner": rng.integers(0, 256, (5, 12, 16, 3), np.uint8),
            "wrist": rng.integers(0, 256, (5, 8, 8, 3), np.uint8),
        },
        progress=np.array([0.0, 0.2, 0.5, 0.75, 1.0], np.float32),
        done=np.array([False, False, False, False, True]),
        success=True,
        quality="suboptimal",
        actions=rng.uniform(-1, 1, (4, 4)).astype(np.float32),
        meta={
            "family": "soccer",
            "kind": "suboptimal",
            "seed": 7,
            "alternatives": ["open the drawer", "press the button"],
            "other_tasks": {"push": "push the puck to the target"},
        },
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_all_of_it_comes_back(tmp_path: Path) -> None:
    before = episode()
    log_episode(tmp_path, before)
    (after,) = LogReader(tmp_path)
    assert (after.id, after.instruction) == (before.id, before.instruction)
    assert (after.success, after.quality) == (True, "suboptimal")
    for camera, images in before.images.items():
        np.testing.assert_array_equal(after.images[camera], images)
    for name in ("progress", "done", "actions"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).dtype == getattr(before, name).dtype
    assert {key: after.meta[key] for key in before.meta} == before.meta


def test_what_nobody_knows_stays_unknown(tmp_path: Path) -> None:
    nothing = {"progress": None, "done": None, "success": None, "quality": None, "actions": None}
    log_episode(tmp_path, episode(**nothing, meta={}))
    (after,) = LogReader(tmp_path)
    assert {name: getattr(after, name) for name in nothing} == nothing
    assert "alternatives" not in after.meta
    assert len(after) == 5


def test_a_copy_of_a_copy_is_the_same(tmp_path: Path) -> None:
    log_episode(tmp_path / "a", episode())
    (first,) = LogReader(tmp_path / "a")
    log_episode(tmp_path / "b", first)
    (second,) = LogReader(tmp_path / "b")
    assert second.meta == first.meta


def test_the_same_episode_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [log_episode(tmp_path / name, episode()) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_frames_may_be_kept_as_jpeg(tmp_path: Path) -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8)[None, None, :, None] * 4, (5, 64, 1, 3))
    before = episode(images={"corner": smooth})
    sizes = [
        log_episode(tmp_path / str(quality), before, jpeg_quality=quality).stat().st_size
        for quality in (None, 90)
    ]
    assert sizes[1] < sizes[0] / 3
    (after,) = LogReader(tmp_path / "90")
    assert np.abs(after.images["corner"].astype(int) - smooth).max() <= 8


def test_a_log_cut_short_keeps_the_truth_of_what_is_left(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3), np.uint8)
    path = log_episode(tmp_path, episode(images={"corner": noise}))
    data = path.read_bytes()
    path.unlink()
    (tmp_path / "cut.mcap.part").write_bytes(data[: len(data) // 2])
    (after,) = LogReader(tmp_path)
    assert 0 < len(after) < 5
    assert after.progress is not None
    np.testing.assert_array_equal(after.progress, episode().progress[: len(after)])  # type: ignore[index]
    assert after.success is None
    assert after.quality == "suboptimal"


def test_folders_within_are_read_too(tmp_path: Path) -> None:
    for name in ("b", "a"):
        log_episode(tmp_path / name, episode(id=name))
    assert [one.id for one in LogReader(tmp_path)] == ["a", "b"]
