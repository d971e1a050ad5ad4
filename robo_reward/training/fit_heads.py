"""One loop for all small heads: vectors in, an ensemble out, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robo_reward.models.heads import Heads, HeadsConfig

Loss = Callable[[Tensor, Tensor], Tensor]
"""Turns ``(b,)`` items and the outputs of their vectors into losses, ``(b, members)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How heads are fitted.

    Attributes:
        steps: Optimiser steps.
        batch: Items in a batch.
        rate: Learning rate of AdamW, falling to 0 on a half cosine.
        decay: Weight decay.
        dropout: Share of the features hidden from a member at a step.
        copies: Varied copies of each picture beside itself.
        hidden: Width of the hidden layer.
        members: Networks of the ensemble.
        seed: Decides initial weights, resamples, batches and variation.
    """

    steps: int = 600
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.05
    dropout: float = 0.3
    copies: int = 6
    hidden: int = 64
    members: int = 5
    seed: int = 0


def fit_heads(
    sizes: HeadsConfig,
    vectors: Tensor,
    frames: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    config: FitConfig,
    weights: Tensor,
) -> Heads:
    """Fit an ensemble; every member learns from a resample of the items (a bootstrap).

    Args:
        sizes: What is built.
        vectors: ``(copies, n, width)``: each frame as it is and varied.
        frames: ``(items, k) int64``: the k frames that an item consists of.
        loss: Of ``(b,)`` indices of items and ``(b, k, members)`` outputs: ``(b, members)``.
        config: How.
        weights: ``(items,)``: how often an item is drawn, relative to others.
    """
    draw = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        heads = Heads(sizes, dropout=config.dropout)
        heads.standardise(vectors.flatten(0, 1))
        times = _resamples(len(frames), sizes.members, draw)
        optimiser = torch.optim.AdamW(heads.parameters(), lr=config.rate, weight_decay=config.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
        for _ in range(config.steps):
            items = torch.multinomial(weights, config.batch, replacement=True, generator=draw)
            copy = torch.randint(len(vectors), (config.batch,), generator=draw)
            seen = vectors[copy[:, None], frames[items]]
            said = heads(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
            share = times[items]
            total = (loss(items, said) * share).sum() / share.sum().clamp(min=1.0)
            optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return heads.eval()


def _resamples(items: int, members: int, draw: torch.Generator) -> Tensor:
    """Return how often each member's resample holds each item, ``(items, members)``."""
    counts = torch.zeros(items, members)
    for member in range(members):
        drawn = torch.randint(items, (items,), generator=draw)
        counts[:, member] = torch.bincount(drawn, minlength=items)
    return counts
