"""``robo-reward train-reward``: make the data, train a reward model, write its folder."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from robo_reward.errors import ConfigError, require

from .common import Result, Saving
from .console import Bar
from .output import Output

if TYPE_CHECKING:
    from robo_reward.models.compact_network import CompactConfig
    from robo_reward.training.batches import MakeSource
    from robo_reward.training.examples import Example
    from robo_reward.training.shards import Shard
    from robo_reward.training.trainer import TrainConfig, Trainer

HELD_OUT_EPISODES = 200


@dataclass(frozen=True, kw_only=True)
class TrainReward(Saving):
    """Train a reward model: the compact one on rollouts of the table-top suite, or a small one.

    --preset compact records the rollouts first, as far as they are not there yet; the same flags
    give the same data and the same weights on the same machine. Killed, it goes on: run it again
    with the same --out and --yes. --preset classifier and --preset preference put small heads on a
    frozen encoder, in minutes on a CPU, from recordings of your own.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward train-reward --out outputs/compact",
        "robo-reward train-reward --without-family stack --out outputs/no-stack",
        "robo-reward train-reward --init compact --rate 1e-3 --dataset recordings/",
        "robo-reward train-reward --episodes 400 --steps 300 --out outputs/try",
        "robo-reward train-reward --preset classifier --data recordings/ --out outputs/mine",
        "robo-reward eval-reward --model compact outputs/compact/model",
    )

    preset: Literal["compact", "classifier", "preference"] = "compact"
    """compact: all signals, of any sentence. classifier: done, of one task, from some labelled
    frames. preference: progress, from which of two frames is further (RL-VLM-F)."""
    data: Path = Path("data/tabletop")
    """Folder of the recorded rollouts; for the other presets recordings as adapt reads them, or a
    folder with pictures in success/ and failure/."""
    episodes: int = 6000
    """Rollouts to train on, 27 KB a frame, about 28 frames each."""
    data_seed: int = 0
    """Number of the set of rollouts; another set shares none."""
    steps: int = 6500
    """Optimiser steps of 96 frames and 480 instructions."""
    init: str = ""
    """Model to begin from: compact, a folder, a hub id; random weights when empty."""
    rate: float = 2e-3
    """Peak learning rate; about half of it suits a network that is begun from another."""
    dataset: tuple[Path, ...] = ()
    """Recorded episodes to learn from as well: recordings, videos, folders of them, as adapt reads
    them; those of other suites come from record --suite."""
    dataset_share: float = 0.5
    """Share of every batch that comes from --dataset, between 0 and 1."""
    instruction: str = ""
    """What the episodes of --dataset show, where they do not say so themselves."""
    encoder: str = ""
    """Pretrained vision backbone of transformers, a folder or hub id, e.g.
    facebook/dinov2-small; the network of our own when empty, for the other presets the compact
    model's encoder."""
    features: Literal["map", "pointed"] = "map"
    """Of the other presets: map reads the whole picture, pointed what the sentence points at."""
    frames: int = 200
    """Of --preset classifier: labelled frames to learn from at most; 0 for all."""
    pairs: int = 1500
    """Of --preset preference: pairs of frames to be ordered."""
    judge: str = ""
    """Of --preset preference: the model whose contrastive orders them; the truth when empty."""
    text_encoder: str = ""
    """Pretrained text backbone in the same way."""
    freeze: bool = False
    """Leave the weights of pretrained backbones as they are."""
    image_size: int = 96
    """Side of the pictures, pixels; a backbone wants a multiple of its patch."""
    seed: int = 0
    """Decides initial weights, batches and augmentation."""
    without: tuple[str, ...] = ()
    """Leave out, for an ablation: counterfactual, mismatched, or a behaviour such as near_miss."""
    without_family: tuple[str, ...] = ()
    """Task families of which nothing is seen or asked, to be tested on what is new."""
    emphasise: tuple[str, ...] = ()
    """Task families whose episodes are drawn three times as often."""
    workers: int = 2
    """Processes that record rollouts."""
    threads: int = 1
    """Threads of torch on a CPU; another process draws the batches."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda."""

    def run(self) -> Result:
        """Record, train, write the folder and its card."""
        if self.preset != "compact":
            from .train_heads import train_heads

            return train_heads(self)
        if self.episodes < 1 or self.steps < 1:
            raise ConfigError(
                f"--episodes and --steps must be at least 1, got {self.episodes} and {self.steps}"
            )
        if not 0 < self.dataset_share < 1:
            raise ConfigError(
                f"--dataset-share must be above 0 and below 1, got {self.dataset_share:g}; "
                "adapt trains on recorded episodes alone"
            )
        torch = require("torch", extra="train")
        from robo_reward.training.batches import BatchConfig, check_names
        from robo_reward.training.examples import data_hash
        from robo_reward.training.trainer import TrainConfig

        batch = BatchConfig(
            without=self.without,
            without_families=self.without_family,
            emphasised=self.emphasise,
        )
        check_names(batch)
        torch.set_num_threads(self.threads)
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        recorded = self._recorded()
        with self.open_output() as out:
            paths = self._record("train", self.episodes, seed=self.data_seed)
            held_out = self._record("seen", HELD_OUT_EPISODES, seed=0)
            config = TrainConfig(
                steps=self.steps,
                seed=self.seed,
                init=self.init,
                rate=self.rate,
                recorded=data_hash(recorded) if recorded else "",
                network=self._network(),
                batch=batch,
            )
            return self._train(out, paths, held_out, recorded, config, device)

    def _recorded(self) -> list[Example]:
        from robo_reward.datasets.sources import open_episodes
        from robo_reward.training.examples import prepare

        return [
            example
            for path in self.dataset
            for example in prepare(
                open_episodes(path, instruction=self.instruction), size=self.image_size
            )
        ]

    def _network(self) -> CompactConfig:
        from robo_reward.models.backbones import text_backbone, vision_backbone
        from robo_reward.models.compact_network import CompactConfig

        return CompactConfig(
            image_size=self.image_size,
            vision=vision_backbone(self.encoder, frozen=self.freeze) if self.encoder else None,
            text=text_backbone(self.text_encoder, frozen=self.freeze)
            if self.text_encoder
            else None,
        )

    def _record(self, split: str, episodes: int, *, seed: int) -> list[Path]:
        from robo_reward.training.shards import EPISODES_PER_SHARD, generate

        shards = -(-episodes // EPISODES_PER_SHARD)
        with self.console().bar(f"record {split}", total=shards, unit="shard") as bar:
            return generate(
                self.data,
                episodes=episodes,
                seed=seed,
                split=split,
                image_size=self.image_size,
                workers=self.workers,
                progress=lambda done, total: bar.update_to(done),
            )

    def _train(
        self,
        out: Output,
        paths: list[Path],
        held_out: list[Path],
        recorded: list[Example],
        config: TrainConfig,
        device: str,
    ) -> Result:
        from robo_reward.training.check import check
        from robo_reward.training.density import fit_folder
        from robo_reward.training.shards import read_shard
        from robo_reward.training.trainer import Trainer, save

        shards = [read_shard(path) for path in paths]
        checked = [read_shard(path) for path in held_out]
        began = time.perf_counter()
        on_held_out = partial(check, shards=checked, without_families=self.without_family)
        source = self._source(shards, recorded, config)
        trainer = Trainer(source, check=on_held_out, config=config, folder=out.path, device=device)
        with self.console().bar("train-reward", total=config.steps, unit="step") as bar:
            bar.update_to(trainer.step)
            network = trainer.run(_reporter(bar, out.path))
        network = network.cpu()
        figures = on_held_out(network, trainer.tokenizer)
        model = out.path / "model"
        save(network, trainer.tokenizer, model)
        fit_folder(model, paths)
        minutes = (time.perf_counter() - began) / 60
        card = self._card(model, trainer, paths, shards, recorded, figures, minutes, device)
        out.write_json("metrics.json", figures)
        return {**figures, "steps": config.steps, "minutes": minutes, "card": str(card),
                "path": str(model)}  # fmt: skip

    def _source(
        self, shards: list[Shard], recorded: list[Example], config: TrainConfig
    ) -> MakeSource:
        from robo_reward.training.batches import shard_source
        from robo_reward.training.episode_batches import mixed_source
        from robo_reward.training.negatives import NegativeConfig

        if not recorded:
            return shard_source(shards, config=config.batch, seed=config.seed)
        clips = max(1, round(self.dataset_share * config.batch.episodes))
        rollouts = replace(config.batch, episodes=max(1, config.batch.episodes - clips))
        left_out = {"counterfactual", "mismatched"} & set(self.without)
        return mixed_source(
            recorded,
            shards,
            clips=replace(config.batch, episodes=clips),
            rollouts=rollouts,
            negatives=NegativeConfig().without(left_out),
            seed=config.seed,
        )

    def _card(
        self,
        folder: Path,
        trainer: Trainer,
        paths: list[Path],
        shards: list[Shard],
        recorded: list[Example],
        figures: Mapping[str, float],
        minutes: float,
        device: str,
    ) -> Path:
        from robo_reward.training.card import write_card

        return write_card(
            folder,
            trainer.averaged(),
            config=trainer.config,
            begun_from=trainer.begun_from,
            shards=paths,
            frames=sum(len(shard.facts) for shard in shards),
            episodes=sum(len(shard.entries) for shard in shards),
            recorded=recorded,
            command="robo-reward " + shlex.join(sys.argv[1:]),
            minutes=minutes,
            device=device,
            figures=figures,
        )


def _reporter(bar: Bar, folder: Path) -> Any:
    """Move the bar and write TensorBoard scalars at every report."""
    tensorboard = require("torch.utils.tensorboard", extra="train")
    writer = tensorboard.SummaryWriter(str(folder / "tensorboard"))

    def report(step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            writer.add_scalar(f"train/{name}", value, step)
        writer.flush()
        bar.update_to(step, note=f"loss {row['loss']:.3f}  {row['frames_per_s']:.0f} frames/s")

    return report
