"""Pretrained encoders: tiny checkpoints of real architectures, trained, saved and served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from robo_reward.errors import ConfigError, ModelNotFound  # noqa: E402
from robo_reward.frames import Frame  # noqa: E402
from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.backbones import (  # noqa: E402
    PretrainedVision,
    text_backbone,
    vision_backbone,
)
from robo_reward.models.compact_network import CompactConfig, CompactNetwork  # noqa: E402
from robo_reward.query import Query  # noqa: E402
from robo_reward.task import Task  # noqa: E402
from robo_reward.training import shards as shards_module  # noqa: E402
from robo_reward.training.batches import BatchConfig, shard_source  # noqa: E402
from robo_reward.training.shards import Shard, read_shard  # noqa: E402
from robo_reward.training.trainer import TrainConfig, Trainer, save  # noqa: E402

SIZE = 112
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 32}  # fmt: skip
VISION: dict[str, Callable[[], Any]] = {
    "dinov2": lambda: transformers.Dinov2Config(**SMALL, image_size=42, patch_size=14),
    "dinov3": lambda: transformers.DINOv3ViTConfig(
        **SMALL, image_size=48, patch_size=8, num_register_tokens=2
    ),
    "siglip2": lambda: transformers.SiglipConfig(
        vision_config={**SMALL, "image_size": 28, "patch_size": 14},
        text_config={**SMALL, "vocab_size": 64, "max_position_embeddings": 40},
    ),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1]
    ),
}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    path = tmp_path_factory.mktemp("shards") / "train-9-0000-112px.msgpack"
    patch = pytest.MonkeyPatch()
    patch.setattr(shards_module, "EPISODES_PER_SHARD", 8)
    shards_module._record_shard(str(path), 0, 9, "train", SIZE)
    patch.undo()
    return read_shard(path)


def backbone_of(network: CompactNetwork) -> Any:
    encoder = network.encoder
    assert isinstance(encoder, PretrainedVision)
    return encoder.backbone


def checkpoint(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    transformers.AutoModel.from_config(VISION[name]()).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3]}'
    )
    return folder


def reader(folder: Path) -> Path:
    """A tiny BERT with a tokenizer of its own."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["put", "the", "red", "cube", "on", "blue", "pad"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*words, *"abcdefghijklmnopqrstuvwxyz"]))
    config = transformers.BertConfig(**SMALL, vocab_size=64)
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def sizes(**changes: Any) -> CompactConfig:
    small = CompactConfig(image_size=SIZE, map_width=16, text_width=32, trunk=32, text_layers=1)
    return replace(small, **changes)


def train(shard: Shard, network: CompactConfig, folder: Path, *, steps: int = 2) -> Trainer:
    config = TrainConfig(
        steps=steps, warmup=1, checkpoint_every=1, report_every=1, network=network,
        batch=BatchConfig(episodes=3, queries=3),
    )  # fmt: skip
    source = shard_source([shard], config=config.batch, seed=config.seed)
    return Trainer(source, config=config, folder=folder)


@pytest.mark.parametrize("name", sorted(VISION))
def test_a_vision_backbone_is_tuned_saved_and_served(
    name: str, shard: Shard, tmp_path: Path
) -> None:
    found = vision_backbone(str(checkpoint(name, tmp_path / "tiny")))
    assert found.mean == (0.4, 0.5, 0.6)
    trainer = train(shard, sizes(vision=found), tmp_path / "run")
    source = type(backbone_of(trainer.network)).from_pretrained(tmp_path / "tiny")
    for mine, theirs in zip(
        backbone_of(trainer.network).parameters(), source.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    network = trainer.run()
    moved = [
        not torch.equal(a, b)
        for a, b in zip(backbone_of(network).parameters(), source.parameters(), strict=True)
    ]
    assert any(moved)
    save(network, trainer.tokenizer, tmp_path / "model")
    model = load_model(str(tmp_path / "model"), device="cpu")
    task = Task(instruction="put the red cube on the blue pad")
    frame = Frame.of(np.asarray(shard.frames[0]), sequence=0)
    scores = model.score([Query(task=task, newest=(frame,))])
    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(shard.frames[:1])).permute(0, 3, 1, 2).float()
        maps = network.encoder(pixels / 127.5 - 1.0)
    assert maps.shape == (1, 16, network.encoder.side, network.encoder.side)
    assert np.isfinite(scores.progress).all()


def test_a_frozen_backbone_stays_as_it_came(shard: Shard, tmp_path: Path) -> None:
    found = vision_backbone(str(checkpoint("dinov2", tmp_path / "tiny")), frozen=True)
    network = train(shard, sizes(vision=found), tmp_path / "run", steps=3).run()
    source = type(backbone_of(network)).from_pretrained(tmp_path / "tiny")
    for mine, theirs in zip(backbone_of(network).parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_pictures_are_normalised_as_the_checkpoint_wants(tmp_path: Path) -> None:
    found = vision_backbone(str(checkpoint("dinov2", tmp_path / "tiny")))
    network = CompactNetwork.of(sizes(vision=found)).eval()
    seen: list[Any] = []
    backbone_of(network).embeddings.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0] if args else kwargs["pixel_values"]),
        with_kwargs=True,
    )
    grey = torch.zeros(1, 3, SIZE, SIZE)  # 0.5 in [0, 1]
    network.encoder(grey)
    expected = (0.5 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.2, 0.3])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


def test_a_text_backbone_brings_its_tokenizer(shard: Shard, tmp_path: Path) -> None:
    found = text_backbone(str(reader(tmp_path / "bert")), frozen=True)
    trainer = train(shard, sizes(text=found), tmp_path / "run")
    assert "bert" in trainer.begun_from
    save(trainer.run(), trainer.tokenizer, tmp_path / "model")
    model = load_model(str(tmp_path / "model"), device="cpu")
    frame = Frame.of(np.asarray(shard.frames[0]), sequence=0)
    said = ("put the red cube on the blue pad", "put the blue cube on the red pad")
    rows = model.score([Query(task=Task(instruction=text), newest=(frame,)) for text in said])
    assert np.isfinite(rows.progress).all()
    assert rows.progress[0] != rows.progress[1]


def test_a_sentence_reads_the_same_whatever_it_is_batched_with(tmp_path: Path) -> None:
    found = text_backbone(str(reader(tmp_path / "bert")))
    text = CompactNetwork.of(sizes(text=found)).eval().text
    alone = text(torch.tensor([[5, 6, 7]]))
    padded = text(torch.tensor([[5, 6, 7, 0, 0], [5, 6, 7, 8, 9]]))[:1]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("ask", "says"),
    [(vision_backbone, "sees no pictures"), (text_backbone, "no backbone")],
)
def test_what_is_no_backbone_is_refused(ask: Any, says: str, tmp_path: Path) -> None:
    name = reader(tmp_path / "bert") if ask is vision_backbone else tmp_path / "nothing"
    with pytest.raises(ModelNotFound, match=says):
        ask(str(name))


def test_frames_of_another_size_are_refused(shard: Shard, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--image-size 96"):
        train(shard, sizes(image_size=96), tmp_path / "run")


def test_a_side_that_the_own_encoder_cannot_halve_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 16"):
        CompactNetwork.of(sizes(image_size=100))
