"""Losses of the compact model.

HL-Gauss classification of progress (arXiv 2403.03950), success cross-entropy, pointer cross-entropy
against where the simulator projects the things, and a Bradley–Terry loss over frame pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robo_reward.models.compact_network import CompactNetwork, Judgement, bin_centres


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the losses and widths of their soft targets.

    Attributes:
        smoothing: Standard deviation of the progress targets.
        order_scale: Difference of progress at which an order is worth about 3 to 1.
        pointer_spread: Standard deviation of the pointer targets, cells.
        positive: Weight of frames in which the goal holds.
        mean: Weight of the absolute error of the expected progress.
        done: Weight of the success loss.
        pointer: Weight of the pointer loss.
        order: Weight of the pairwise loss.
        nearness: Weight of the temporal InfoNCE loss; 0 leaves it out.
    """

    smoothing: float = 0.03
    order_scale: float = 0.03
    pointer_spread: float = 0.6
    positive: float = 2.0
    mean: float = 2.0
    done: float = 1.0
    pointer: float = 0.3
    order: float = 0.3
    nearness: float = 0.0


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of n rows; frames 2i and 2i + 1 of an episode, q instructions each.

    Attributes:
        progress: ``(n,)``, NaN where unknown.
        done: ``(n,)``, NaN where unknown.
        points: ``(n, 3, 2)``, NaN where unknown.
        further: ``(n / 2,)`` probability that the second frame of a pair is further, where that is
            known of itself; NaN where it follows from progress.
        queries: q.
    """

    progress: Tensor
    done: Tensor
    points: Tensor
    further: Tensor
    queries: int


def total_loss(
    network: CompactNetwork, said: Judgement, targets: Targets, *, config: LossConfig
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss and its parts."""
    centres = bin_centres(said.bins.shape[-1]).to(said.bins)
    soft = hl_gauss(targets.progress.nan_to_num(), centres, config.smoothing)
    known = targets.progress.isfinite()
    bins = mean_of(-(soft[:, None] * said.bins.log_softmax(-1)).sum(-1), known)
    expected = (said.bins.softmax(-1) * centres).sum(-1)
    error = mean_of((expected - targets.progress.nan_to_num()[:, None]).abs(), known)
    truth = targets.done.nan_to_num()
    weight = 1.0 + (config.positive - 1.0) * truth
    losses = functional.binary_cross_entropy_with_logits(
        said.done, truth[:, None].expand_as(said.done), weight[:, None], reduction="none"
    )
    done = mean_of(losses, targets.done.isfinite())
    pointer = pointer_loss(said.pointers, targets.points, network.grid, config.pointer_spread)
    order = order_loss(network, said.joint, targets, config.order_scale)
    loss = (
        bins
        + config.mean * error
        + config.done * done
        + config.pointer * pointer
        + config.order * order
    )
    parts = {"bins": bins, "error": error, "done": done, "pointer": pointer, "order": order}
    if config.nearness:
        parts["nearness"] = nearness_loss(said.joint, targets)
        loss = loss + config.nearness * parts["nearness"]
    return loss, {name: float(value.detach()) for name, value in parts.items()}


def hl_gauss(values: Tensor, centres: Tensor, spread: float) -> Tensor:
    """Spread values over bins as a Gaussian's mass in each, ``(n, bins)``; rows sum to 1."""
    half = (centres[1] - centres[0]) / 2
    edges = torch.cat([centres - half, centres[-1:] + half])
    mass: Tensor = torch.special.ndtr((edges - values[:, None]) / spread).diff(dim=-1)
    return mass / mass.sum(-1, keepdim=True)


def pointer_loss(logits: Tensor, points: Tensor, grid: Tensor, spread: float) -> Tensor:
    """Cross-entropy of pointers ``(n, 3, cells)`` against Gaussians about known points."""
    cell = float(grid[1, 0] - grid[0, 0])
    known = (points.abs() <= 1).all(-1)
    away = points.nan_to_num(0.0)[..., None, :] - grid
    target = (-(away**2).sum(-1) / (2 * (spread * cell) ** 2)).softmax(-1)
    losses = -(target * logits.log_softmax(-1)).sum(-1)
    return (losses * known).sum() / known.sum().clamp(min=1)


def order_loss(network: CompactNetwork, joint: Tensor, targets: Targets, scale: float) -> Tensor:
    """Bradley–Terry loss over the two frames of each pair, for every instruction.

    Two frames of one episode are ordered by their progress. The ends of two episodes of different
    quality are ordered whatever their progress: a preference between whole trajectories.
    """
    pairs = joint.view(-1, 2, targets.queries, joint.shape[-1])
    progress = targets.progress.view(-1, 2, targets.queries)
    logit = network.order_logit(pairs[:, 1].flatten(0, 1), pairs[:, 0].flatten(0, 1))
    by_progress = ((progress[:, 1] - progress[:, 0]) / scale).sigmoid().flatten()
    further = torch.where(targets.further.isfinite(), targets.further, by_progress)
    losses = functional.binary_cross_entropy_with_logits(
        logit, further.nan_to_num(), reduction="none"
    )
    return mean_of(losses, further.isfinite())


def nearness_loss(joint: Tensor, targets: Targets, *, temperature: float = 0.1) -> Tensor:
    """Temporal InfoNCE: an instant is nearer to its neighbour than to other episodes (R3M).

    Neighbours are the two frames of a pair, under its own instruction, as far as their progress is
    alike; frames far apart in progress are not drawn together.
    """
    pairs = functional.normalize(
        joint.view(-1, 2, targets.queries, joint.shape[-1])[:, :, 0], dim=-1
    )
    progress = targets.progress.view(-1, 2, targets.queries)[:, :, 0]
    near = (1.0 - 5.0 * (progress[:, 1] - progress[:, 0]).abs()).clamp(min=0.0).nan_to_num()
    logits = pairs[:, 0] @ pairs[:, 1].T / temperature
    losses = functional.cross_entropy(
        logits, torch.arange(len(logits), device=logits.device), reduction="none"
    )
    return (losses * near).sum() / near.sum().clamp(min=1.0)


def mean_of(losses: Tensor, known: Tensor) -> Tensor:
    """Mean over the rows that are known, ``(n, …)`` and ``(n,) bool``; 0 where none is."""
    if bool(known.all()):
        return losses.mean()
    return losses[known].sum() / max(losses[known].numel(), 1)
