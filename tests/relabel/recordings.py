"""Small recordings whose pixels say their score (``oracle-pixels``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from robo_reward.datasets.episode import Episode
from robo_reward.datasets.log_episode import log_episode
from robo_reward.models.oracle_pixels import paint

PUSH = "push the red cube onto the pad"


def ramp(frames: int, *, salt: int = 0) -> list[float]:
    """Progress of an episode: to the goal where the salt is even, half-way where it is odd."""
    top = 1.0 if salt % 2 == 0 else 0.5
    return [top * t / max(1, frames - 1) for t in range(frames)]


def pictures(frames: int, *, salt: int = 0, size: int = 16) -> np.ndarray:
    """``(T, size, size, 3) uint8``, every frame unlike all others."""
    values = ramp(frames, salt=salt)
    return np.stack(
        [paint(v, float(v >= 0.95), size=size, salt=1000 * salt + t) for t, v in enumerate(values)]
    )


def image_folders(root: Path, lengths: list[int]) -> Path:
    """A folder of image folders ``ep0``, ``ep1``, …"""
    for number, frames in enumerate(lengths):
        folder = root / f"ep{number}"
        folder.mkdir(parents=True)
        for t, image in enumerate(pictures(frames, salt=number)):
            Image.fromarray(image).save(folder / f"{t:04d}.png")
    return root


def logs(root: Path, lengths: list[int], *, instruction: str = PUSH) -> Path:
    """Recordings of the recorder."""
    for number, frames in enumerate(lengths):
        images = pictures(frames, salt=number)
        log_episode(
            root,
            Episode(
                id=f"run{number}",
                instruction=instruction,
                images={"front": images, "wrist": images[::-1].copy()},
                success=number % 2 == 0,
            ),
        )
    return root
