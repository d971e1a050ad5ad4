"""``train-reward`` from shards to a folder, with the encoder that its flags name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.backbones import PretrainedVision  # noqa: E402
from robo_reward.models.compact import CompactModel  # noqa: E402
from robo_reward.training import shards as shards_module  # noqa: E402

SIZE = 32


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shard of each split, small and complete, so that none is recorded."""
    monkeypatch.setattr(shards_module, "EPISODES_PER_SHARD", 8)
    folder = tmp_path / "data"
    folder.mkdir()
    for split, seed in (("train", 7), ("seen", 0)):
        path = folder / f"{split}-{seed}-0000-{SIZE}px.msgpack"
        shards_module._record_shard(str(path), 0, seed, split, SIZE)
    monkeypatch.undo()
    return folder


@pytest.mark.timeout(300)
def test_the_named_encoder_is_trained_and_saved(
    command: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    tiny = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=8
    )
    transformers.AutoModel.from_config(tiny).save_pretrained(tmp_path / "tiny")
    ran = command(
        "train-reward", "--data", str(data), "--episodes", "8", "--data-seed", "7",
        "--steps", "1", "--image-size",
        str(SIZE), "--encoder", str(tmp_path / "tiny"), "--freeze", "--out", str(tmp_path / "run"),
        "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    model = load_model(str(tmp_path / "run" / "model"), device="cpu")
    assert isinstance(model, CompactModel)
    assert isinstance(model.network.encoder, PretrainedVision)
    assert model.network.config.vision is not None
    assert model.network.config.vision.frozen
    assert model.network.config.image_size == SIZE
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"| begun from | {tmp_path / 'tiny'} |" in card


@pytest.mark.timeout(300)
def test_recorded_episodes_are_mixed_in(
    command: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    film = tmp_path / "film"
    film.mkdir()
    for number in range(6):
        pixels = np.full((40, 40, 3), 40 * number, np.uint8)
        (film / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    flags = (
        "train-reward", "--data", str(data), "--episodes", "8", "--data-seed", "7", "--steps", "1",
        "--image-size", str(SIZE), "--dataset", str(film), "--out", str(tmp_path / "run"),
    )  # fmt: skip
    refused = command(*flags)
    assert refused.code == 2
    assert "instruction" in refused.err
    ran = command(*flags, "--instruction", "fade to white", "--dataset-share", "0.25", "--json")
    assert ran.code == 0, ran.err
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "| recorded episodes | 1, 6 frames, hash `" in card
    assert command(*flags, "--dataset-share", "1").code == 2
