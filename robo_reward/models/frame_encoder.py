"""Frozen pictures-to-maps encoders by name: the compact model's, or any vision backbone.

What the models have in common that put something small on features which nobody trains: distance to
a goal image, the classifier, the preference-learned reward. ``save`` writes what is needed to load
the same encoder from a folder, without the hub.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robo_reward.frames import Image

from .backbones import VisionMap, load_weights, usable_device, vision_backbone
from .compact import ENCODE_BATCH, CompactModel
from .compact_network import prepared

COMPACT = "compact"
SIZE = 224
"""Side of the input where a backbone names none, pixels."""
COPIED = ("config.json", "model.safetensors", "tokenizer.json")
"""Files of a compact model that its encoders need."""


class FrameEncoder:
    """Pictures to maps of features.

    Args:
        name: ``"compact"``, the folder of a compact model, or a folder or hub id of a vision
            backbone.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        image_size: Side of the input for a backbone, pixels; 0 takes the one it was trained on.

    Attributes:
        compact: The compact model, where it is one: it reads sentences too.
        size: Side of the input, pixels.
        width: Channels of a map.
        side: Cells of a map along each side.

    Raises:
        ModelNotFound: There is no such checkpoint, or it sees no pictures.
    """

    def __init__(self, name: str = COMPACT, *, device: str = "auto", image_size: int = 0) -> None:
        self.name = name
        self.device = usable_device(device)
        self.compact: CompactModel | None = None
        if name == COMPACT or _is_compact(Path(name)):
            self.compact = CompactModel.from_pretrained(
                None if name == COMPACT else name, device=device
            )
            config = self.compact.network.config
            self.size, self.width = config.image_size, config.map_width
            self.module: Any = self.compact.network.encoder
        else:
            found = vision_backbone(name, frozen=True)
            self.size = image_size or int(found.architecture.get("image_size") or SIZE)
            self.module = VisionMap(found, image_size=self.size)
            load_weights(self.module)
            self.width = self.module.width
        self.side = int(self.module.side)
        self.module.eval().to(self.device)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.module.parameters())

    def maps(self, images: Sequence[Image]) -> list[Tensor]:
        """Return one map per picture, ``(width, side, side) float16`` each, in order."""
        found: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(images), ENCODE_BATCH):
                part = images[start : start + ENCODE_BATCH]
                pixels = prepared(part, self.size, device=self.device)
                found.extend(self.module(pixels).half().unbind(0))
        return found

    def said(self, text: str) -> Tensor:
        """Return what the compact model makes of a sentence, ``(4, text_width)``."""
        if self.compact is None:
            raise ValueError(f"{self.name} reads no sentences")
        said: Tensor = self.compact.said(text)
        return said

    def save(self, folder: Path) -> None:
        """Write a folder that ``FrameEncoder(folder)`` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.compact is not None:
            for name in COPIED:
                shutil.copyfile(self.compact.folder / name, folder / name)
            return
        of = self.module.of
        # The size goes along: a backbone may be used at another than it was trained on.
        self.module.backbone.save_pretrained(folder)
        colours = {"image_mean": of.mean, "image_std": of.std, "robo_reward_size": self.size}
        (folder / "preprocessor_config.json").write_text(json.dumps(colours, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> FrameEncoder:
        """Read what ``save`` wrote."""
        path = folder / "preprocessor_config.json"
        held = json.loads(path.read_text()) if path.is_file() else {}
        return cls(str(folder), device=device, image_size=int(held.get("robo_reward_size", 0)))


def _is_compact(folder: Path) -> bool:
    """Whether a folder holds a compact model: transformers name a type, it does not."""
    path = folder / "config.json"
    if not path.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    return "model_type" not in json.loads(path.read_text())
