"""HDF5 as h5py writes it: read, labelled, opened again; nothing else has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

from robo_reward.datasets.formats import open_dataset  # noqa: E402
from robo_reward.datasets.labels import LabelTable  # noqa: E402

from .recordings import PUSH, pictures, ramp  # noqa: E402

Command = Callable[..., Any]
BASE = ("--model", "oracle-pixels", "--json", "--instruction", PUSH, "--reward", "dense")


def robomimic(path: Path, lengths: list[int], *, rewards: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for number, frames in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = frames
            demo.create_dataset("actions", data=np.full((frames, 7), number, np.float64))
            images = pictures(frames, salt=number)
            demo.create_dataset("obs/agentview_image", data=images, compression="gzip")
            demo.create_dataset("obs/wrist_image", data=images[::-1])
            demo.create_dataset("obs/robot0_eef_pos", data=np.zeros((frames, 3)))
            if rewards:
                truth = np.array(ramp(frames, salt=number)) >= 1.0
                demo.create_dataset("rewards", data=truth.astype(np.float64))
                demo.create_dataset("dones", data=truth.astype(np.int64))
    return path


def hashes(path: Path) -> dict[str, str]:
    """Name → hash of every dataset and of every group's attributes."""
    found: dict[str, str] = {}

    def visit(name: str, node: Any) -> None:
        parts = [str(sorted((k, str(v)) for k, v in node.attrs.items())).encode()]
        if isinstance(node, h5py.Dataset):
            parts += [str((node.shape, node.dtype)).encode(), np.asarray(node[()]).tobytes()]
        found[name] = hashlib.sha256(b"".join(parts)).hexdigest()

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def relabel(command: Command, *args: object, code: int = 0) -> dict[str, Any]:
    ran = command("relabel", *map(str, args), *BASE)
    assert ran.code == code, ran.err
    result: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return result


def test_a_copy_has_rewards_and_all_else_is_as_it_was(tmp_path: Path, command: Command) -> None:
    path = robomimic(tmp_path / "demos.hdf5", [40, 5, 12], rewards=False)
    before, whole = hashes(path), path.read_bytes()
    args = ("--cameras", "agentview_image", "--write", "copy", "jsonl")
    result = relabel(command, path, "--out", tmp_path / "out", *args)
    assert path.read_bytes() == whole
    copy = tmp_path / "out" / "copy" / "demos.hdf5"
    assert str(copy) in result["written"]
    after = hashes(copy)
    assert {name: after[name] for name in before} == before
    with h5py.File(copy) as file:
        demo = file["data/demo_2"]
        progress = ramp(12, salt=2)
        # Transition t is paid for frame t + 1; behind the last frame nothing moves.
        want = [*np.diff(progress), 0.0]
        np.testing.assert_allclose(demo["rewards"][()], want, atol=2 / 255)
        np.testing.assert_allclose(demo["labels/progress"][()], progress, atol=1 / 255)
        assert demo["dones"].dtype == np.int64
        assert demo["labels"].attrs["model"] == "oracle-pixels@1"
    lines = (tmp_path / "out" / "labels.jsonl").read_text().splitlines()
    assert len(lines) == 57


def test_a_simulators_rewards_stay(tmp_path: Path, command: Command) -> None:
    path = robomimic(tmp_path / "demos.hdf5", [8, 8])
    before = hashes(path)
    result = relabel(command, path, "--out", tmp_path / "a", "--write", "copy")
    after = hashes(tmp_path / "a" / "copy" / "demos.hdf5")
    assert {name: after[name] for name in before} == before
    assert "data/demo_0/model_rewards" in after
    # demo_0 succeeds in the simulator; eight frames are too few for the gate.
    assert result["truth"]["episodes_with_truth"] == 2
    assert result["truth"]["not_done_but_success"] == ["demo_0"]
    relabel(command, path, "--out", tmp_path / "b", "--write", "copy", "--replace-rewards")
    replaced = hashes(tmp_path / "b" / "copy" / "demos.hdf5")
    assert replaced["data/demo_0/recorded_rewards"] == before["data/demo_0/rewards"]
    assert replaced["data/demo_0/rewards"] == after["data/demo_0/model_rewards"]


def test_in_place_adds_and_changes_nothing(tmp_path: Path, command: Command) -> None:
    path = robomimic(tmp_path / "demos.hdf5", [6], rewards=False)
    before = hashes(path)
    relabel(command, path, "--out", tmp_path / "out", "--write", "in-place")
    after = hashes(path)
    assert {name: after[name] for name in before} == before
    assert "data/demo_0/rewards" in after
    ran = command(
        "relabel", str(path), "--out", str(tmp_path / "again"), *BASE, "--write", "in-place"
    )
    assert ran.code == 6
    assert "labels already" in ran.err


def test_libero_says_its_sentence_and_stands_on_its_head(tmp_path: Path) -> None:
    images = pictures(3, size=16)
    with h5py.File(tmp_path / "l.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["problem_info"] = json.dumps({"language_instruction": ["open the drawer"]})
        data.create_dataset("demo_10/obs/agentview_rgb", data=images[:, ::-1])
        data.create_dataset("demo_9/obs/agentview_rgb", data=images[:, ::-1])
    first, second = open_dataset(tmp_path / "l.hdf5")
    assert (first.id, second.id) == ("demo_9", "demo_10")
    assert first.instruction == "open the drawer"
    (_, shot, _) = first.instants(first.cameras)
    np.testing.assert_array_equal(shot.frames[0].image, images[1])


def test_aloha_files_with_padded_jpeg(tmp_path: Path, command: Command) -> None:
    import simplejpeg

    folder = tmp_path / "aloha"
    folder.mkdir()
    for number in range(2):
        images = np.repeat(np.repeat(pictures(4, salt=number), 8, 1), 8, 2)
        coded = [
            np.frombuffer(simplejpeg.encode_jpeg(np.ascontiguousarray(i)), np.uint8) for i in images
        ]
        longest = max(map(len, coded))
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            padded = np.stack([np.pad(row, (0, longest - len(row))) for row in coded])
            file.create_dataset("observations/images/cam_high", data=padded)
            file.create_dataset("action", data=np.zeros((4, 14)))
    (folder / "episode_2.hdf5").write_bytes(b"cut short")
    result = relabel(command, folder, "--out", tmp_path / "out", code=1)
    assert list(result["skipped"]) == ["episode_2"]
    first, second = LabelTable(tmp_path / "out")
    assert (first.id, second.id) == ("episode_0", "episode_1")
    np.testing.assert_allclose(first.signals["progress"], ramp(4), atol=0.05)


def test_rewards_of_frames_without_score_are_not_made_up(tmp_path: Path, command: Command) -> None:
    path = robomimic(tmp_path / "demos.hdf5", [6], rewards=False)
    args = ("relabel", str(path), *BASE, "--out", str(tmp_path / "o"), "--write", "copy")
    ran = command(*args, "--every", "2")
    assert ran.code == 6
    assert "--every 1" in ran.err
    assert (tmp_path / "o" / "labels.parquet").is_file()
    ran = command("relabel", str(path), *BASE, "--write", "progress")
    assert ran.code == 2
    assert "lerobot" in ran.err
