"""What small heads read of a frame: one vector from a frozen encoder, with or without the sentence.

``map`` takes mean and maximum of the encoder's map over a coarse grid, which keeps roughly where
things are, and reads no language: the form of HIL-SERL's classifier. ``pointed`` is the vector that
the compact model's own heads read, what stands where the sentence points; one head then serves many
sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from robo_reward.errors import ConfigError
from robo_reward.frames import Image

from .frame_encoder import FrameEncoder

KINDS = ("map", "pointed")
GRID = 2
"""Cells of the coarse grid along each side."""
FOLDER = "encoder"


class FrozenFeatures:
    """Pictures, and sentences where they count, to vectors.

    Args:
        encoder: The frozen encoder.
        kind: ``"map"`` or ``"pointed"``.

    Attributes:
        width: Length of a vector.

    Raises:
        ConfigError: No such kind, or an encoder that reads no sentences is to point.
    """

    def __init__(self, encoder: FrameEncoder, kind: str) -> None:
        if kind not in KINDS:
            raise ConfigError(f"features must be map or pointed, got {kind!r}")
        if kind == "pointed" and encoder.compact is None:
            raise ConfigError(
                f"only a compact model points at what a sentence names, {encoder.name} reads none; "
                "take features map"
            )
        self.encoder = encoder
        self.kind = kind
        self.width = 2 * encoder.width * GRID**2
        if kind == "pointed" and encoder.compact is not None:
            self.width = encoder.compact.network.config.trunk

    @property
    def reads_text(self) -> bool:
        """Whether the sentence changes the vector."""
        return self.kind == "pointed"

    def encode(self, images: Sequence[Image]) -> list[Tensor]:
        """Return what is kept of each picture, whatever will be asked about it."""
        maps = self.encoder.maps(images)
        return maps if self.reads_text else [_pooled(found) for found in maps]

    def vectors(self, kept: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Return one vector per frame and its sentence, ``(n, width) float32``."""
        stacked = torch.stack(list(kept)).float()
        compact = self.encoder.compact
        if not self.reads_text or compact is None:
            return stacked
        with torch.inference_mode():
            said = torch.stack([self.encoder.said(text) for text in texts])[:, None]
            return compact.network.judge(stacked, said).joint

    def save(self, folder: Path) -> None:
        """Write the encoder below a model's folder."""
        self.encoder.save(folder / FOLDER)

    @classmethod
    def load(cls, folder: Path, kind: str, *, device: str) -> FrozenFeatures:
        """Read what ``save`` wrote."""
        return cls(FrameEncoder.load(folder / FOLDER, device=device), kind)


def _pooled(found: Tensor) -> Tensor:
    whole = found.float()
    mean = functional.adaptive_avg_pool2d(whole, GRID)
    # What is small stands out in a maximum and drowns in a mean.
    most = functional.adaptive_max_pool2d(whole, GRID)
    return torch.cat([mean.flatten(), most.flatten()]).half()
