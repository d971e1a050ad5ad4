"""Training of the compact model: data → loss → step → check → checkpoint, in one readable loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from robo_reward.errors import ConfigError
from robo_reward.models import density
from robo_reward.models.backbones import (
    PretrainedText,
    PretrainedVision,
    backbone_tokenizer,
    load_weights,
)
from robo_reward.models.compact import CompactModel, encode_text
from robo_reward.models.compact_network import CompactConfig, CompactNetwork, normalised
from robo_reward.models.weights import write_weights

from .batches import Batch, BatchConfig, MakeSource, stream
from .losses import LossConfig, Targets, total_loss
from .tokenizer import train_tokenizer

Report = Callable[[int, dict[str, float]], None]
Check = Callable[[CompactNetwork, Tokenizer], Mapping[str, float]]
"""Measures a network on what it is not trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides what is learned, but the data.

    Attributes:
        steps: Optimiser steps.
        seed: Decides initial weights, batches and augmentation.
        init: Model to begin from, its sizes and tokenizer included: ``"compact"`` (the shipped
            one), a folder or a hub id; empty for random weights.
        rate: Peak learning rate; warmed up, then a half cosine down to a hundredth.
        warmup: Steps of warm-up.
        backbone_rate: Share of the learning rate that pretrained encoders get.
        decay: AdamW weight decay.
        text_rate: Rate of the text encoder as a share of ``rate``; 0 freezes it.
        statistics: Whether batch normalisation goes on learning its running statistics.
        average: Decay of the moving average of the weights, which is what is kept.
        clip: Largest norm of the gradient.
        checkpoint_every: Steps between checkpoints.
        report_every: Steps between reports.
        recorded: Hash of the recorded episodes that are learned from besides the rollouts.
        network: Sizes of the network.
        batch: How batches are drawn.
        loss: Weights of the losses.
    """

    steps: int = 7000
    seed: int = 0
    init: str = ""
    rate: float = 2e-3
    warmup: int = 200
    backbone_rate: float = 0.1
    decay: float = 0.02
    text_rate: float = 1.0
    statistics: bool = True
    average: float = 0.998
    clip: float = 1.0
    checkpoint_every: int = 250
    report_every: int = 50
    recorded: str = ""
    network: CompactConfig = field(default_factory=CompactConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)


class Trainer:
    """Trains one network; goes on from the folder's checkpoint when there is one.

    Args:
        source: Makes what is trained on, given the network's tokenizer.
        check: The running check, made at every tenth report.
        config: What to do.
        folder: Holds the checkpoint while training and the model afterwards.
        device: torch device.
    """

    def __init__(
        self,
        source: MakeSource,
        *,
        config: TrainConfig,
        folder: Path,
        check: Check | None = None,
        device: str = "cpu",
    ) -> None:
        self.folder = folder
        self.device = device
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        torch.set_float32_matmul_precision("medium")
        self.tokenizer, self.network, self.begun_from = _begin(config)
        self.config = replace(config, network=self.network.config)
        if not config.text_rate:
            self.network.text.requires_grad_(False)
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(  # type: ignore[no-untyped-call]
                config.average
            ),
            use_buffers=False,
        )
        self.optimiser = torch.optim.AdamW(_groups(self.network, self.config), lr=config.rate)
        self.step = 0
        self.source = source(self._encode)
        _check_size(self.source.size, self.network.config.image_size)
        self._check = check
        self._restore()

    def run(self, report: Report | None = None, *, until: int | None = None) -> CompactNetwork:
        """Train to the end, or to a step; returns the averaged network, ready to be used."""
        sums: dict[str, float] = {}
        began = time.perf_counter()
        end = self.config.steps if until is None else min(until, self.config.steps)
        for batch in stream(self.source, self.step, end):
            self._set_rate()
            for name, value in self._learn(batch).items():
                sums[name] = sums.get(name, 0.0) + value
            self.step += 1
            if report is not None and self.step % self.config.report_every == 0:
                row = {name: value / self.config.report_every for name, value in sums.items()}
                seconds = time.perf_counter() - began
                row["frames_per_s"] = len(batch.images) * self.config.report_every / seconds
                if self.step % (10 * self.config.report_every) == 0 and self._check:
                    row.update(self._check(self.averaged(), self.tokenizer))
                report(self.step, row)
                sums, began = {}, time.perf_counter()
            if self.step % self.config.checkpoint_every == 0:
                self._checkpoint()
        return self.averaged()

    def averaged(self) -> CompactNetwork:
        """Return the moving average of the network, with the running statistics of now."""
        network = cast(CompactNetwork, self.average.module)
        for mine, theirs in zip(network.buffers(), self.network.buffers(), strict=True):
            mine.copy_(theirs)
        return network.eval()

    def _encode(self, text: str) -> list[int]:
        return encode_text(self.tokenizer, text, self.config.network.max_tokens)

    def _learn(self, batch: Batch) -> dict[str, float]:
        self.network.train()
        if not self.config.statistics:
            for module in self.network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        images = torch.from_numpy(batch.images).to(self.device)
        maps = self.network.encoder(normalised(images))
        episodes, queries, length = batch.tokens.shape
        tokens = torch.from_numpy(batch.tokens).to(self.device).view(-1, length)
        text = self.network.text(tokens).view(episodes, queries, 4, -1).repeat_interleave(2, 0)
        said = self.network.judge(maps, text)
        targets = Targets(
            torch.from_numpy(batch.progress).to(self.device).flatten(),
            torch.from_numpy(batch.done).to(self.device).flatten(),
            torch.from_numpy(batch.points).to(self.device).flatten(0, 1),
            torch.from_numpy(batch.further).to(self.device).flatten(),
            queries,
        )
        loss, parts = total_loss(self.network, said, targets, config=self.config.loss)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return {"loss": float(loss.detach()), **parts}

    def _set_rate(self) -> None:
        config = self.config
        warm = min((self.step + 1) / config.warmup, 1.0)
        share = min(self.step / config.steps, 1.0)
        rate = config.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]

    @property
    def _path(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _checkpoint(self) -> None:
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in state.items()}
        write_weights(
            {k: v.contiguous().clone() for k, v in tensors.items()},
            self._path,
            metadata={"step": str(self.step), "config": _digest(self.config)},
        )

    def _restore(self) -> None:
        """Go on where a killed run stopped; batches are numbered, so that it ends up the same."""
        if not self._path.exists():
            return
        from safetensors import safe_open

        with safe_open(self._path, "pt") as file:
            metadata = file.metadata()
        if metadata["config"] != _digest(self.config):
            return
        tensors = load_file(self._path)
        self.step = int(metadata["step"])
        self.network.load_state_dict(_part(tensors, "network."))
        self.average.module.load_state_dict(_part(tensors, "average."))
        self.average.n_averaged.fill_(self.step)
        state = self.optimiser.state_dict()
        state["state"] = {}
        for name, value in _part(tensors, "adam.").items():
            index, key = name.split(".", 1)
            state["state"].setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(state)


def save(network: CompactNetwork, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the folder that ``CompactModel.from_pretrained`` reads: half precision, no pickle.

    A density that lies there belongs to other weights and goes; ``density.fit_folder`` makes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / density.FILE).unlink(missing_ok=True)
    tensors = {
        name: value.detach().half().contiguous() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    write_weights(tensors, folder / "model.safetensors")
    config = json.dumps(asdict(network.config), indent=2)
    (folder / "config.json").write_text(config + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))


def _begin(config: TrainConfig) -> tuple[Tokenizer, CompactNetwork, str]:
    """Return tokenizer, network, and what it begins from, for the card."""
    sizes = config.network
    if not config.init:
        network = CompactNetwork.of(sizes)
        pretrained = [network.encoder, network.text.pretrained]
        for part in pretrained:
            if isinstance(part, (PretrainedVision, PretrainedText)):
                load_weights(part)
        names = [part.name for part in (sizes.vision, sizes.text) if part]
        tokenizer = backbone_tokenizer(sizes.text.name) if sizes.text else None
        return (
            tokenizer or train_tokenizer(sizes.vocabulary),
            network,
            " and ".join(names) or "random weights",
        )
    model = CompactModel.from_pretrained(None if config.init == "compact" else config.init)
    return model.tokenizer, model.network, model.model_id


def _check_size(side: int, size: int) -> None:
    if side != size:
        raise ConfigError(
            f"the recorded frames are {side} px and the network takes {size} px; "
            f"record them with --image-size {size}"
        )


def _groups(network: CompactNetwork, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters by weight decay (matrices only) and by share of the learning rate."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            share = config.backbone_rate if ".backbone." in name else 1.0
            share *= config.text_rate if name.startswith("text.") else 1.0
            decay = config.decay if parameter.ndim > 1 else 0.0
            groups.setdefault((-decay, -share), []).append(parameter)
    return [
        {"params": groups[key], "weight_decay": -key[0], "share": -key[1]} for key in sorted(groups)
    ]


def _part(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _digest(config: TrainConfig) -> str:
    """What a checkpoint must agree in; settings that came later count only where they are set."""
    values = asdict(config)
    later = [
        (values, TrainConfig(), ("backbone_rate", "text_rate", "statistics", "recorded")),
        (values["network"], CompactConfig(), ("vision", "text")),
        (values["batch"], BatchConfig(), ("without", "without_families", "emphasised")),
        (values["loss"], LossConfig(), ("nearness",)),
    ]
    for group, default, names in later:
        for name in names:
            if group[name] == getattr(default, name):
                del group[name]
    return json.dumps(values, sort_keys=True)
