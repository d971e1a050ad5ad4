"""The network of the compact reward model: a small vision-language net that points, then judges.

An image becomes a 12 × 12 map of features, once, whatever is asked about it. The instruction
becomes three pointers over that map (the thing to act on, where it should end up, the gripper), as
in pointer networks; what stands at the pointers and between them is judged by an ensemble of heads.
Progress is a distribution over bins (HL-Gauss targets, arXiv 2403.03950); the contrastive logit is
antisymmetric by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional

from robo_reward.errors import ConfigError
from robo_reward.frames import Image
from robo_reward.models.backbones import Backbone, PretrainedText, PretrainedVision
from robo_reward.models.compact import fit_square

POINTERS = ("target", "place", "gripper")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactConfig:
    """Sizes of the network; what ``config.json`` holds.

    Attributes:
        image_size: Side of the input, pixels.
        widths: Channels at 1/4, 1/8 and 1/16 of the input.
        map_width: Channels of the 1/8 feature map that is kept of a frame.
        text_width: Width of the text encoder.
        text_layers: Its number of layers.
        vocabulary: Number of tokens.
        max_tokens: Longest instruction, tokens.
        trunk: Width of the joint vector.
        heads: Members of the ensemble.
        bins: Bins of progress over [0, 1].
        vision: Pretrained encoder of pictures instead of the one here, which ``widths`` is of.
        text: Pretrained encoder of sentences, in front of the slots of ``TextEncoder``.
    """

    image_size: int = 96
    widths: tuple[int, int, int] = (32, 64, 128)
    map_width: int = 64
    text_width: int = 128
    text_layers: int = 3
    vocabulary: int = 512
    max_tokens: int = 40
    trunk: int = 256
    heads: int = 5
    bins: int = 26
    vision: Backbone | None = None
    text: Backbone | None = None


def _conv(inside: int, outside: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)), inplace=True)


class ImageEncoder(nn.Module):
    """Image to feature map: a small residual net with a top-down path."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        if config.image_size % 16:
            raise ConfigError(f"image_size must be a multiple of 16, got {config.image_size}")
        self.side = config.image_size // 8
        fine, middle, coarse = config.widths
        width = config.map_width
        self.stem = _conv(3, 16, stride=2)
        self.fine = nn.Sequential(_conv(16, fine, stride=2), _Residual(fine))
        self.middle = nn.Sequential(
            _conv(fine, middle, stride=2), _Residual(middle), _Residual(middle)
        )
        self.coarse = nn.Sequential(_conv(middle, coarse, stride=2), _Residual(coarse))
        # Four fine cells make one of the map: their detail is kept in channels.
        self.from_fine = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * fine, width, 1))
        self.from_middle = nn.Conv2d(middle, width, 1)
        self.from_coarse = nn.Conv2d(coarse, width, 1)
        self.smooth = _conv(width, width)

    def forward(self, images: Tensor) -> Tensor:
        """``(n, 3, S, S)`` in [-1, 1] → ``(n, map_width, S/8, S/8)``."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        coarse = self.from_coarse(self.coarse(middle))
        top = functional.interpolate(coarse, scale_factor=2.0)
        joined: Tensor = self.smooth(self.from_fine(fine) + self.from_middle(middle) + top)
        return joined


class TextEncoder(nn.Module):
    """Tokens to one query per pointer and a summary.

    Convolutions over the words, then one softmax read per slot: which words say what to act on,
    which say where to. At this size attention layers cost more on a CPU than the image encoder.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        width = config.text_width
        self.pretrained = PretrainedText(config.text, width=width) if config.text else None
        if self.pretrained is None:
            self.tokens = nn.Embedding(config.vocabulary, width, padding_idx=0)
            self.positions = nn.Parameter(torch.randn(config.max_tokens, width) * 0.02)
            self.layers = nn.ModuleList(
                nn.Sequential(nn.ReLU(), nn.Conv1d(width, width, 3, padding=1))
                for _ in range(config.text_layers)
            )
        self.slots = nn.Linear(width, len(POINTERS) + 1)
        self.values = nn.Linear(width, (len(POINTERS) + 1) * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(n, L) int64``, 0 for padding → ``(n, 4, text_width)``."""
        there = (tokens != 0)[..., None]
        states = self._states(tokens, there)
        weights = self.slots(states).masked_fill(~there, -1e4).softmax(1)
        values = self.values(states).unflatten(-1, (len(POINTERS) + 1, -1))
        normed: Tensor = self.norm((weights[..., None] * values).sum(1))
        return normed

    def _states(self, tokens: Tensor, there: Tensor) -> Tensor:
        if self.pretrained is not None:
            read: Tensor = self.pretrained(tokens, there[..., 0])
            return read
        states: Tensor = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            # Padding is zeroed so that a sentence reads the same whatever it is batched with.
            states = states * there
            states = states + layer(states.transpose(1, 2)).transpose(1, 2)
        return states


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the network says of n (frame, instruction) pairs.

    Attributes:
        joint: ``(n, trunk)``: the vector that the heads read.
        bins: ``(n, heads, bins)``: logits of progress.
        done: ``(n, heads)``: logits of done.
        pointers: ``(n, 3, cells)``: logits over the map.
    """

    joint: Tensor
    bins: Tensor
    done: Tensor
    pointers: Tensor


class CompactNetwork(nn.Module, PyTorchModelHubMixin, library_name="robo-reward"):
    """Encoder, text encoder, pointers and heads.

    Args:
        **sizes: Fields of ``CompactConfig``; given as keywords because ``config.json`` holds them.
    """

    grid: Tensor

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.config = config = _config(sizes)
        width, text, trunk = config.map_width, config.text_width, config.trunk
        self.encoder: ImageEncoder | PretrainedVision = (
            PretrainedVision(config.vision, image_size=config.image_size, map_width=width)
            if config.vision
            else ImageEncoder(config)
        )
        side = self.encoder.side
        self.text = TextEncoder(config)
        self.cell_places = nn.Parameter(torch.randn(width, side, side) * 0.02)
        self.keys = nn.Conv2d(width, text, 1)
        self.queries = nn.Linear(text, text)
        self.register_buffer("grid", _grid(side), persistent=False)
        seen = len(POINTERS) * (width + 2) + 2 * 2 + 2 + width
        self.trunk = nn.Sequential(
            nn.Linear(seen + 2 * text, 2 * trunk),
            nn.ReLU(inplace=True),
            nn.Linear(2 * trunk, trunk),
            nn.LayerNorm(trunk),
            nn.ReLU(inplace=True),
        )
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(trunk, 96), nn.ReLU(inplace=True), nn.Linear(96, config.bins + 1)
            )
            for _ in range(config.heads)
        )
        self.order = nn.Sequential(
            nn.Linear(2 * trunk, 128), nn.ReLU(inplace=True), nn.Linear(128, 1)
        )

    @classmethod
    def of(cls, config: CompactConfig) -> CompactNetwork:
        """Make an untrained network of these sizes."""
        return cls(**asdict(config))

    def judge(self, maps: Tensor, text: Tensor) -> Judgement:
        """Judge frames against instructions: each of n frames against its own q of them.

        Args:
            maps: ``(n, map_width, s, s)`` from ``encoder``.
            text: ``(n, q, 4, text_width)`` from ``text``.

        Returns:
            A judgement of n·q rows, the instructions of a frame together.
        """
        frames, asked = text.shape[:2]
        rows = frames * asked
        placed = maps + self.cell_places
        logits = self._point(placed, text)
        weights = logits.softmax(-1)
        at = torch.bmm(weights, placed.flatten(2).transpose(1, 2))
        where = torch.matmul(weights, self.grid)
        at, where = at.reshape(rows, len(POINTERS), -1), where.reshape(rows, len(POINTERS), 2)
        apart = where[:, :1] - where[:, 1:]
        around = placed.mean((2, 3)).repeat_interleave(asked, 0)
        seen = torch.cat(
            [at.flatten(1), where.flatten(1), apart.flatten(1), apart.norm(dim=-1), around], 1
        )
        said = text.reshape(rows, len(POINTERS) + 1, -1)
        joint = self.trunk(torch.cat([seen, said[:, -1], said[:, 0]], 1))
        out = torch.stack([head(joint) for head in self.heads], 1)
        return Judgement(
            joint, out[..., :-1], out[..., -1], logits.reshape(rows, len(POINTERS), -1)
        )

    def where(self, maps: Tensor, text: Tensor) -> Tensor:
        """Return where the pointers look, as (column, row) in [-1, 1].

        Args:
            maps: ``(n, map_width, s, s)`` from ``encoder``.
            text: ``(4, text_width)`` from ``text``, one instruction for all.

        Returns:
            ``(n, 3, 2)``.
        """
        logits = self._point(maps + self.cell_places, text.expand(len(maps), 1, -1, -1))
        where: Tensor = logits.softmax(-1) @ self.grid
        return where

    def _point(self, placed: Tensor, text: Tensor) -> Tensor:
        """Logits over the cells, ``(n, q·3, cells)``."""
        keys: Tensor = self.keys(placed).flatten(2)
        queries = self.queries(text[:, :, : len(POINTERS)]).flatten(1, 2)
        logits: Tensor = torch.bmm(queries, keys) / keys.shape[1] ** 0.5
        return logits

    def order_logit(self, newest: Tensor, reference: Tensor) -> Tensor:
        """Logit that the newest frame is further than the reference, ``(n,)``; antisymmetric."""
        forward = self.order(torch.cat([newest, reference], 1))
        backward = self.order(torch.cat([reference, newest], 1))
        logit: Tensor = (forward - backward).squeeze(1)
        return logit


def _config(sizes: dict[str, Any]) -> CompactConfig:
    """Read what ``config.json`` holds: lists for tuples, mappings for backbones."""
    plain = _tuples(sizes)
    for name in ("vision", "text"):
        if plain.get(name) is not None:
            plain[name] = Backbone(**_tuples(plain[name]))
    return CompactConfig(**plain)


def _tuples(held: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in held.items()}


def normalised(images: Tensor) -> Tensor:
    """Turn ``(n, S, S, 3) uint8`` into what the encoder takes, ``(n, 3, S, S)`` in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def prepared(images: Sequence[Image], size: int, *, device: str) -> Tensor:
    """Turn pictures of any size into a batch for an encoder, cut to squares: ``normalised``."""
    batch = np.stack([fit_square(image, size) for image in images])
    pixels = normalised(torch.from_numpy(batch).to(device))
    return pixels.contiguous(memory_format=torch.channels_last)


def bin_centres(bins: int) -> Tensor:
    """Progress that each bin stands for, ``(bins,)`` over [0, 1]."""
    return torch.linspace(0.0, 1.0, bins)


def expected_progress(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the ensemble's mixture, ``(n,)`` each.

    Args:
        logits: ``(n, heads, bins)``.
    """
    centres = bin_centres(logits.shape[-1]).to(logits)
    mixture = logits.softmax(-1).mean(1)
    mean = (mixture * centres).sum(-1)
    variance = (mixture * (centres - mean[:, None]) ** 2).sum(-1)
    return mean, variance.sqrt()


def _grid(side: int) -> Tensor:
    """Coordinates of the cells in [-1, 1], ``(side², 2)`` as (column, row)."""
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], 1)
