"""The training loop for real, small: it learns, it is repeatable, it goes on after a kill."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robo_reward.errors import ConfigError, DatasetError  # noqa: E402
from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.compact_network import CompactConfig  # noqa: E402
from robo_reward.training import shards as shards_module  # noqa: E402
from robo_reward.training.batches import (  # noqa: E402
    EMPHASIS,
    BatchConfig,
    Batches,
    shard_source,
)
from robo_reward.training.card import data_hash, write_card  # noqa: E402
from robo_reward.training.check import check  # noqa: E402
from robo_reward.training.shards import Shard, generate, read_shard  # noqa: E402
from robo_reward.training.trainer import Check, TrainConfig, Trainer, _digest, save  # noqa: E402

SMALL = CompactConfig(image_size=48, widths=(8, 16, 16), map_width=16, text_width=32, trunk=32)


def config(steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        warmup=2,
        checkpoint_every=6,
        report_every=3,
        network=SMALL,
        batch=BatchConfig(episodes=6, queries=3),
    )


def trained(
    shards: list[Shard], *, config: TrainConfig, folder: Path, check: Check | None = None
) -> Trainer:
    source = shard_source(shards, config=config.batch, seed=config.seed)
    return Trainer(source, config=config, folder=folder, check=check)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One small shard, recorded in this process."""
    folder = tmp_path_factory.mktemp("shards")
    path = folder / "train-9-0000.msgpack"
    patch = pytest.MonkeyPatch()
    patch.setattr(shards_module, "EPISODES_PER_SHARD", 12)
    shards_module._record_shard(str(path), 0, 9, "train", 48)
    patch.undo()
    return [path]


@pytest.fixture(scope="module")
def read(data: list[Path]) -> list[Shard]:
    return [read_shard(path) for path in data]


def test_a_complete_shard_is_not_recorded_again(
    data: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "EPISODES_PER_SHARD", 12)
    before = data[0].stat().st_mtime_ns
    paths = generate(data[0].parent, episodes=12, seed=9, split="train")
    assert paths == data
    assert data[0].stat().st_mtime_ns == before


def test_a_broken_shard_is_named(data: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "train-0-0000.msgpack"
    broken.write_bytes(data[0].read_bytes()[:100])
    with pytest.raises(DatasetError, match="train-0-0000"):
        read_shard(broken)


def test_batches_are_the_same_again_and_hold_pairs(read: list[Shard], tmp_path: Path) -> None:
    trainer = trained(read, config=config(1), folder=tmp_path)
    first, again = trainer.source.draw(3), trainer.source.draw(3)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert first.images.shape == (12, 48, 48, 3)
    assert first.tokens.shape[:2] == (6, 3)
    assert first.progress.shape == (12, 3)
    assert not np.array_equal(first.images, trainer.source.draw(4).images)


def test_it_learns(read: list[Shard], tmp_path: Path) -> None:
    seen: list[float] = []
    trainer = trained(read, config=config(90), folder=tmp_path, check=partial(check, shards=read))
    trainer.run(lambda step, row: seen.append(row["loss"]))
    assert np.mean(seen[-5:]) < 0.9 * np.mean(seen[:2])


def test_a_killed_run_ends_with_the_same_weights(read: list[Shard], tmp_path: Path) -> None:
    whole = trained(read, config=config(10), folder=tmp_path / "whole").run()

    class Killed(Exception):
        pass

    def stop(step: int, row: dict[str, float]) -> None:
        if step == 9:
            raise Killed

    with pytest.raises(Killed):
        trained(read, config=config(10), folder=tmp_path / "part").run(stop)
    resumed = trained(read, config=config(10), folder=tmp_path / "part")
    assert resumed.step == 6
    for mine, theirs in zip(resumed.run().parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_it_begins_where_another_model_ended(read: list[Shard], tmp_path: Path) -> None:
    first = trained(read, config=config(4), folder=tmp_path / "first")
    save(first.run(), first.tokenizer, tmp_path / "model")
    begun = replace(config(4), init=str(tmp_path / "model"), network=CompactConfig())
    second = trained(read, config=begun, folder=tmp_path / "second")
    assert second.config.network == SMALL
    assert second.begun_from == load_model(str(tmp_path / "model")).model_id
    for mine, theirs in zip(
        second.network.parameters(), first.averaged().parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def test_another_setting_starts_anew(read: list[Shard], tmp_path: Path) -> None:
    trained(read, config=config(6), folder=tmp_path).run()
    assert trained(read, config=config(6), folder=tmp_path).step == 6
    assert trained(read, config=config(7), folder=tmp_path).step == 0


def test_what_is_saved_is_loaded_with_its_card(
    read: list[Shard], data: list[Path], tmp_path: Path
) -> None:
    trainer = trained(read, config=config(2), folder=tmp_path)
    network = trainer.run()
    save(network, trainer.tokenizer, tmp_path / "model")
    card = write_card(
        tmp_path / "model",
        network,
        config=trainer.config,
        begun_from=trainer.begun_from,
        shards=data,
        frames=len(read[0].facts),
        episodes=12,
        command="robo-reward train-reward",
        minutes=0.1,
        device="cpu",
        figures={"own_error": 0.5},
    )
    loaded = load_model(str(tmp_path / "model"), device="cpu")
    assert loaded.capabilities.parameters == sum(p.numel() for p in network.parameters())
    assert data_hash(data) in card.read_text()
    assert "| begun from | random weights |" in card.read_text()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "model" / name).is_file()


def test_a_checkpoint_from_before_a_setting_existed_is_gone_on_from() -> None:
    known = {"steps", "seed", "init", "rate", "warmup", "decay", "average", "clip",
             "checkpoint_every", "report_every", "network", "batch", "loss"}  # fmt: skip
    assert json.loads(_digest(TrainConfig())).keys() == known
    assert "text_rate" in json.loads(_digest(TrainConfig(text_rate=0.5)))
    assert _digest(replace(TrainConfig(), batch=BatchConfig(without=("undo",)))) != _digest(
        TrainConfig()
    )


def test_a_family_that_is_left_out_is_neither_seen_nor_asked(read: list[Shard]) -> None:
    def drawn(config: BatchConfig) -> tuple[Batches, set[str]]:
        said: set[str] = set()

        def encode(text: str) -> list[int]:
            said.add(text)
            return [1]

        batches = Batches(read, encode, config=config, seed=0)
        for number in range(25):
            batches.draw(number)
        return batches, said

    families = Counter(entry.goal.family for entry in read[0].entries)
    kinds = Counter(entry.kind for entry in read[0].entries)
    whole, said = drawn(BatchConfig(episodes=6, queries=5, augment=False))
    verbs = ("reach", "approach", "go to", "head over", "let the hand", "get close")
    assert any(text.startswith(verbs) for text in said)
    part, said = drawn(
        BatchConfig(episodes=6, queries=5, augment=False, without_families=("reach",))
    )
    assert len(part) == len(whole) - families["reach"]
    assert said
    assert not any(text.startswith(verbs) for text in said)
    kind = next(kind for kind in kinds if kind != "expert")
    fewer, _ = drawn(BatchConfig(episodes=6, queries=5, without=(kind,)))
    assert len(fewer) == len(whole) - kinds[kind]
    more, said = drawn(BatchConfig(episodes=6, queries=5, augment=False, emphasised=("reach",)))
    assert len(more) == len(whole) + (EMPHASIS - 1) * families["reach"]


def test_what_is_asked_can_be_left_out(read: list[Shard]) -> None:
    own = BatchConfig(
        episodes=6, queries=4, augment=False, without=("counterfactual", "mismatched")
    )
    batch = Batches(read, lambda text: [1], config=own, seed=0).draw(0)
    assert (batch.progress == batch.progress[:, :1]).all()
    with pytest.raises(ConfigError, match=r"no-such.*known: counterfactual"):
        Batches(read, lambda text: [1], config=BatchConfig(without=("no-such",)), seed=0)
    with pytest.raises(ConfigError, match=r"family 'lfit'; did you mean lift"):
        Batches(read, lambda text: [1], config=BatchConfig(without_families=("lfit",)), seed=0)
    with pytest.raises(ConfigError, match=r"more on family 'psuh'; did you mean push"):
        Batches(read, lambda text: [1], config=BatchConfig(emphasised=("psuh",)), seed=0)
