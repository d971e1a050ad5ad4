"""Minari datasets as Minari writes them: labelled, and opened by Minari again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest

minari = pytest.importorskip("minari")
pytest.importorskip("pyarrow")

from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

from robo_reward.datasets.formats import open_dataset  # noqa: E402
from robo_reward.datasets.labels import LabelTable  # noqa: E402

from .recordings import PUSH, pictures, ramp  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

Command = Callable[..., Any]
STEPS = [9, 4]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def make(tmp_path: Path, *, pixels: bool, jpeg: bool = False) -> Path:
    spaces: dict[str, gym.Space[Any]] = {
        "state": gym.spaces.Box(-1, 1, (2,), np.float32),
        "mission": gym.spaces.Text(100),
    }
    if pixels:
        spaces["front"] = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    buffers = []
    for number, steps in enumerate(STEPS):
        seen: dict[str, Any] = {
            "state": np.zeros((steps + 1, 2), np.float32),
            "mission": [PUSH] * (steps + 1),
        }
        if pixels:
            seen["front"] = pictures(steps + 1, salt=number)
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=number,
                observations=seen,
                actions=np.full((steps, 2), 0.5, np.float32),
                rewards=[float(t) for t in range(steps)],
                terminations=[t == steps - 1 for t in range(steps)],
                truncations=[False] * steps,
                infos={"success": np.array([False] * steps + [number == 0])},
            )
        )
    minari.create_dataset_from_buffers(
        dataset_id="test/push-v3",
        buffer=buffers,
        observation_space=gym.spaces.Dict(spaces),
        action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
        algorithm_name="none",
        author="nobody",
        author_email="nobody@example.org",
        code_permalink="https://example.org",
        description="a test",
        jpeg_encoding=jpeg,
    )
    return tmp_path / "minari" / "test" / "push-v3"


def relabel(command: Command, *args: object) -> dict[str, Any]:
    ran = command(
        "relabel", *map(str, args), "--model", "oracle-pixels", "--json", "--reward", "dense"
    )
    assert ran.code == 0, ran.err
    result: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return result


def test_a_new_dataset_that_minari_opens(tmp_path: Path, command: Command) -> None:
    data = make(tmp_path, pixels=True)
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
    result = relabel(command, data, "--out", tmp_path / "out", "--write", "copy")
    assert {p: p.read_bytes() for p in data.rglob("*") if p.is_file()} == before
    assert result["kind"] == "minari"
    # The recording says that the first one succeeded; ten frames are too few for the gate.
    assert result["truth"]["not_done_but_success"] == ["episode_0"]
    assert result["truth"]["agree"] == 1
    old = minari.MinariDataset(str(data / "data"))
    new = minari.MinariDataset(str(tmp_path / "out" / "copy" / "data"))
    assert new.id == "test/push-labelled-v3"
    pairs = zip(old.iterate_episodes(), new.iterate_episodes(), strict=True)
    for number, (was, now) in enumerate(pairs):
        np.testing.assert_array_equal(was.observations["front"], now.observations["front"])
        np.testing.assert_array_equal(was.actions, now.actions)
        np.testing.assert_array_equal(was.truncations, now.truncations)
        np.testing.assert_array_equal(was.rewards, now.infos["recorded_rewards"])
        np.testing.assert_array_equal(was.terminations, now.infos["recorded_terminations"])
        want = np.diff(ramp(STEPS[number] + 1, salt=number))
        np.testing.assert_allclose(now.rewards, want, atol=2 / 255)
        assert not now.terminations.any()
        np.testing.assert_array_equal(now.infos["success"], was.infos["success"])
    (first, _) = LabelTable(tmp_path / "out")
    assert set(first.instructions) == {PUSH}


def test_jpeg_is_not_compressed_again(tmp_path: Path, command: Command) -> None:
    data = make(tmp_path, pixels=True, jpeg=True)
    relabel(command, data, "--out", tmp_path / "out", "--write", "copy")
    main = "data/main_data.hdf5"
    with h5py.File(data / main) as old, h5py.File(tmp_path / "out" / "copy" / main) as new:
        for number in range(2):
            name = f"episode_{number}/observations/front"
            np.testing.assert_array_equal(old[name][()], new[name][()])


@pytest.mark.parametrize("where", ["hdf5", "videos"])
def test_pixels_in_a_side_file(where: str, tmp_path: Path, command: Command) -> None:
    data = make(tmp_path, pixels=False)
    images = [pictures(steps + 1, salt=number) for number, steps in enumerate(STEPS)]
    if where == "hdf5":
        with h5py.File(data / "pixels.hdf5", "w") as file:
            for number, shown in enumerate(images):
                file.create_dataset(f"episode_{number}/front", data=shown)
    else:
        pytest.importorskip("av")
        from .lerobot_folders import film

        for number, shown in enumerate(images):
            large = np.repeat(np.repeat(shown, 2, 1), 2, 2)
            film(data / "videos" / "front" / f"episode_{number}.mp4", large)
    first, second = open_dataset(data)
    assert first.cameras == ("front",)
    relabel(command, data, "--out", tmp_path / "out", "--write", "copy")
    for number, labels in enumerate(LabelTable(tmp_path / "out")):
        want = ramp(STEPS[number] + 1, salt=number)
        np.testing.assert_allclose(labels.signals["progress"], want, atol=2 / 255)
    new = minari.MinariDataset(str(tmp_path / "out" / "copy" / "data"))
    assert [len(episode) for episode in new.iterate_episodes()] == STEPS
    assert second.instruction == PUSH
