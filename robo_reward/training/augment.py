"""Image variation: what a camera, a lens and a cable do to a picture that the scene did not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_SHIFT = 5


def augment(
    images: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Vary frames of one episode alike, but for their noise.

    Args:
        images: ``(n, S, S, 3) uint8``.
        rng: Source of randomness.

    Returns:
        The varied frames, and by how much points in them moved, ``(2,)`` as (column, row) in
        [-1, 1] units.
    """
    size = images.shape[1]
    across, down = (int(v) for v in rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, 2))
    # Roll, then repeat the edge over what came in from the other side.
    moved: NDArray[np.float32] = np.roll(images, (down, across), (1, 2)).astype(np.float32)
    if down > 0:
        moved[:, :down] = moved[:, down : down + 1]
    elif down < 0:
        moved[:, down:] = moved[:, down - 1 : down]
    if across > 0:
        moved[:, :, :across] = moved[:, :, across : across + 1]
    elif across < 0:
        moved[:, :, across:] = moved[:, :, across - 1 : across]
    if rng.random() < 0.8:
        moved = _recolour(moved, rng)
    if rng.random() < 0.15:
        moved = _blur(moved)
    if rng.random() < 0.6:
        noise = rng.standard_normal(moved.shape, np.float32)
        moved = moved + (noise * float(rng.uniform(0, 8))).astype(np.float32)
    shift = np.array([across, down], np.float32) * 2 / size
    return moved.clip(0, 255).astype(np.uint8), shift


def _recolour(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    gain = (rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    grey = images @ np.full((3, 1), 1 / 3, np.float32)
    saturation = np.float32(rng.uniform(0.75, 1.2))
    mean = np.float32(rng.uniform(-12, 12))
    varied: NDArray[np.float32] = (grey + (images - grey) * saturation) * gain + mean
    return varied


def _blur(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """A box of 3 pixels, which the lens of a cheap camera comes close to."""
    down = (images + np.roll(images, 1, 1) + np.roll(images, -1, 1)) / 3
    blurred = (down + np.roll(down, 1, 2) + np.roll(down, -1, 2)) / 3
    return blurred.astype(np.float32, copy=False)
