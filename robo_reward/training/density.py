"""Fits the density over a compact model's features that tells strange frames from familiar ones.

``robo-reward train-reward`` does it at its end. For a folder of weights that has none, or whose
weights were replaced:

    python -m robo_reward.training.density MODEL_FOLDER DATA_FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor

from robo_reward.errors import DatasetError
from robo_reward.models.compact_network import CompactNetwork, normalised
from robo_reward.models.density import Density, pooled

from .augment import augment
from .card import data_hash
from .shards import Shard, read_shard

FRAMES = 12_000
"""Frames that are looked at, spread over all shards."""
HELD_OUT = 0.2
"""Share of them, the last ones, that say how far familiar frames lie from the rest."""
FAMILIAR = 0.995
"""Share of familiar frames that are not strange at all."""
FLOOR = 1e-3
"""Least variance of a direction, as a share of the mean variance."""
BATCH = 128
QUALITY = (60, 96)
"""Range of JPEG qualities: links between nodes compress."""


def fit_folder(
    folder: Path, shards: Sequence[Path], *, frames: int = FRAMES, seed: int = 0
) -> Path:
    """Fit the density of the weights in a folder and write it beside them.

    Args:
        folder: What ``train-reward`` wrote, or ``assets/compact``.
        shards: Lists (``.msgpack``) of the shards that the weights were trained on.
        frames: How many frames to look at.
        seed: Decides which, and how they are varied.

    Returns:
        The path of the density.

    Raises:
        DatasetError: There are no shards, or one cannot be read.
    """
    if not shards:
        raise DatasetError("no training shards to fit the density on")
    network = CompactNetwork.from_pretrained(str(folder)).float().eval()
    images = draw_frames([read_shard(path) for path in shards], frames=frames, seed=seed)
    made = fit_density(network, vary(images, seed=seed))
    return made.save(folder, fitted_on=f"{len(images)} frames, data {data_hash(shards)}")


def fit_density(network: CompactNetwork, images: NDArray[np.uint8]) -> Density:
    """Fit a Gaussian to the first frames, and to the last ones what its distances mean.

    Args:
        network: The encoder is used as it is.
        images: ``(n, S, S, 3) uint8`` of what is familiar, at the network's input size, at least
            10; neighbours in time next to each other, so that the last ones are other episodes.

    Raises:
        DatasetError: Too few frames.
    """
    kept = round(len(images) * (1.0 - HELD_OUT))
    if len(images) < 10:
        raise DatasetError(f"a density needs 10 frames or more, got {len(images)}")
    features = _features(network, images)
    mean = features[:kept].mean(0)
    variances, axes = torch.linalg.eigh(torch.cov((features[:kept] - mean).T))
    # Directions in which nothing varied would make every new frame infinitely strange.
    variances = variances.clamp_min(FLOOR * float(variances.mean()) + 1e-12)
    whiten = axes / variances.sqrt()
    lengths = ((features[kept:] - mean) @ whiten).square().mean(1).sqrt()
    return Density(
        mean=mean.float(),
        whiten=whiten.float(),
        knee=float(lengths.quantile(FAMILIAR)),
        scale=float(lengths.std()) + 1e-6,
    )


def draw_frames(shards: Sequence[Shard], *, frames: int, seed: int) -> NDArray[np.uint8]:
    """Return up to ``frames`` frames, ``(n, S, S, 3)``, as many of each shard, in their order."""
    rng = np.random.default_rng([seed, 17])
    found = []
    for shard in shards:
        count = min(-(-frames // len(shards)), len(shard.frames))
        places = np.sort(rng.choice(len(shard.frames), count, replace=False))
        found.append(shard.frames[places])
    return np.concatenate(found)[:frames]


def vary(images: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """Return a third of the frames as they are, a third augmented, a third through JPEG."""
    rng = np.random.default_rng([seed, 18])
    varied = images.copy()
    for place in range(len(images)):
        if place % 3 == 1:
            varied[place] = augment(images[place : place + 1], rng)[0][0]
        elif place % 3 == 2:
            pixels = np.ascontiguousarray(images[place])
            data = simplejpeg.encode_jpeg(pixels, quality=int(rng.integers(*QUALITY)))
            varied[place] = simplejpeg.decode_jpeg(data)
    return varied


def _features(network: CompactNetwork, images: NDArray[np.uint8]) -> Tensor:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = normalised(torch.from_numpy(images[start : start + BATCH]))
            parts.append(pooled(network.encoder(batch)))
    return torch.cat(parts).double()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit the density of a folder; writes its path to stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="holds model.safetensors")
    parser.add_argument("data", type=Path, help="holds train-*.msgpack, the training shards")
    parser.add_argument("--frames", type=int, default=FRAMES, help="how many to look at")
    asked = parser.parse_args(arguments)
    shards = sorted(asked.data.glob("train-*.msgpack"))
    path = fit_folder(asked.folder, shards, frames=asked.frames)
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
