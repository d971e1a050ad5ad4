"""Pretrained encoders for the compact network: any vision or text backbone of transformers by name.

Dinov2, DINOv3, SigLIP 2, ViT, ConvNeXt, ResNet … for pictures; BERT, CLIP, SigLIP … for sentences.
A backbone's architecture is kept in ``config.json`` and its weights with all the others, so that a
saved model is loaded without the hub. What comes behind it (pointers, heads) does not change.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robo_reward.errors import ConfigError, ModelNotFound, require

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation where a checkpoint brings no preprocessor: its input is in [-1, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """What is needed to build a backbone again without its checkpoint.

    Attributes:
        name: Folder or hub id that it came from.
        architecture: Its configuration in transformers, as a plain mapping.
        frozen: Whether its weights stay as they came.
        mean: Mean of the colours in [0, 1] that it expects; for pictures only.
        std: Standard deviation of the same.
    """

    name: str
    architecture: dict[str, Any]
    frozen: bool = False
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF


def vision_backbone(name: str, *, frozen: bool = False) -> Backbone:
    """Look up a vision backbone.

    Args:
        name: Folder or hub id of a checkpoint with a vision model in it.
        frozen: Whether its weights are kept as they are.

    Raises:
        ModelNotFound: There is no such checkpoint, or it sees no pictures.
    """
    part = _part(name, "vision_config")
    if "num_channels" not in part:
        raise ModelNotFound(f"{name!r} is a {part.get('model_type')} model: it sees no pictures")
    mean, std = _colours(name)
    return Backbone(name=name, architecture=part, frozen=frozen, mean=mean, std=std)


def text_backbone(name: str, *, frozen: bool = False) -> Backbone:
    """Look up a text backbone; see ``vision_backbone``."""
    part = _part(name, "text_config")
    if "vocab_size" not in part:
        raise ModelNotFound(f"{name!r} is a {part.get('model_type')} model: it reads no text")
    return Backbone(name=name, architecture=part, frozen=frozen)


def load_weights(module: VisionMap | PretrainedText) -> None:
    """Fill a built backbone with the weights of the checkpoint that it is named after."""
    kind = type(module.backbone)
    loaded = kind.from_pretrained(module.of.name, config=module.backbone.config)
    module.backbone.load_state_dict(loaded.state_dict())


def usable_device(name: str) -> str:
    """Return the device that ``"auto"`` stands for here, any other name as it is."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def digest(module: nn.Module, settings: bytes = b"") -> str:
    """Name weights, and settings that go with them, by what they are: 12 hex digits."""
    said = hashlib.blake2b(settings, digest_size=6)
    for name, value in sorted(module.state_dict().items()):
        said.update(name.encode())
        said.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return said.hexdigest()


class _Pretrained(nn.Module):
    """A backbone of transformers, as it is or still learning.

    Args:
        of: The backbone; built with random weights, see ``load_weights``.
    """

    backbone: Any

    def __init__(self, of: Backbone) -> None:
        super().__init__()
        self.of = of
        self.backbone = _build(of)

    def train(self, mode: bool = True) -> _Pretrained:
        """A frozen backbone stays in evaluation mode: no dropout, no running statistics."""
        super().train(mode)
        if self.of.frozen:
            self.backbone.eval()
        return self

    def _read(self, **inputs: Any) -> Tensor:
        """Last hidden state of the backbone; a frozen one keeps nothing for gradients."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.of.frozen):
            seen: Tensor = self.backbone(**inputs).last_hidden_state
        return seen


class VisionMap(_Pretrained):
    """Picture to map, with a backbone alone.

    Args:
        of: The backbone; built with random weights, see ``load_weights``.
        image_size: Side of the input, pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, of: Backbone, *, image_size: int) -> None:
        super().__init__(of)
        shape = of.architecture
        patch = shape.get("patch_size")
        # Backbones without patches halve their input five times, odd sides rounded up.
        self.side = image_size // int(patch) if patch else -(-image_size // 32)
        if self.side < 2:
            raise ConfigError(f"{of.name} sees {image_size} px as one cell; take a larger picture")
        self.width = _width(shape)
        self.register_buffer("mean", torch.tensor(of.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(of.std).view(1, 3, 1, 1), persistent=False)
        self._options = _accepted(self.backbone, interpolate_pos_encoding=True)

    def cells(self, images: Tensor) -> Tensor:
        """``(n, 3, S, S)`` in [-1, 1] → ``(n, s², width)``, row by row."""
        pixels = ((images + 1) / 2 - self.mean) / self.std
        seen = self._read(pixel_values=pixels, **self._options)
        if seen.ndim == 4:
            seen = seen.flatten(2).transpose(1, 2)
        # Class and register tokens stand before those of the patches.
        return seen[:, seen.shape[1] - self.side**2 :]

    def joined(self, cells: Tensor) -> Tensor:
        """``(n, s², width)`` → ``(n, width, s, s)``."""
        across = cells.transpose(1, 2)
        return across.reshape(*across.shape[:2], self.side, self.side)

    def forward(self, images: Tensor) -> Tensor:
        """``(n, 3, S, S)`` in [-1, 1] → ``(n, width, s, s)``."""
        return self.joined(self.cells(images))


class PretrainedVision(VisionMap):
    """Picture to map, with a backbone and one linear layer.

    Args:
        of: The backbone; built with random weights, see ``load_weights``.
        image_size: Side of the input, pixels.
        map_width: Channels of the map.
    """

    def __init__(self, of: Backbone, *, image_size: int, map_width: int) -> None:
        super().__init__(of, image_size=image_size)
        self.project = nn.Linear(self.width, map_width)

    def forward(self, images: Tensor) -> Tensor:
        """``(n, 3, S, S)`` in [-1, 1] → ``(n, map_width, s, s)``."""
        return functional.relu(self.joined(self.project(self.cells(images))))


class PretrainedText(_Pretrained):
    """Tokens to one vector per token, with a backbone and one linear layer.

    Args:
        of: The backbone; built with random weights, see ``load_weights``.
        width: Width of the vectors.
    """

    def __init__(self, of: Backbone, *, width: int) -> None:
        super().__init__(of)
        self.project = nn.Linear(_width(of.architecture), width)

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        """``(n, L) int64`` and ``(n, L) bool`` → ``(n, L, width)``."""
        states: Tensor = self.project(self._read(input_ids=tokens, attention_mask=there.long()))
        return states


def backbone_tokenizer(name: str) -> Any:
    """Return the ``tokenizers.Tokenizer`` of a text checkpoint.

    Raises:
        ModelNotFound: It brings none that can be written as one ``tokenizer.json``.
    """
    transformers = require("transformers", extra="train")
    made = transformers.AutoTokenizer.from_pretrained(name)
    found = getattr(made, "backend_tokenizer", None)
    if found is None:
        raise ModelNotFound(f"{name!r} has no tokenizer that is saved as tokenizer.json")
    found.no_padding()
    return found


def _part(name: str, part: str) -> dict[str, Any]:
    """Configuration of the wanted half of a checkpoint, or of all of it."""
    transformers = require("transformers", extra="train")
    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"no backbone {name!r}: {str(error).splitlines()[0]}") from error
    plain: dict[str, Any] = json.loads(getattr(config, part, config).to_json_string(use_diff=False))
    return plain


def _colours(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    path = Path(name) / "preprocessor_config.json"
    if not path.is_file():
        hub = require("huggingface_hub", extra="train")
        try:
            path = Path(hub.hf_hub_download(name, path.name))
        except (OSError, ValueError):
            return HALF, HALF
    held = json.loads(path.read_text())
    return tuple(held.get("image_mean", HALF)), tuple(held.get("image_std", HALF))


def _build(of: Backbone) -> Any:
    transformers = require("transformers", extra="train")
    shape = dict(of.architecture)
    config = transformers.AutoConfig.for_model(shape.pop("model_type"), **shape)
    built = transformers.AutoModel.from_config(config).float()
    return built.requires_grad_(not of.frozen)


def _width(architecture: dict[str, Any]) -> int:
    return int(architecture.get("hidden_size") or architecture["hidden_sizes"][-1])


def _accepted(model: Any, **options: Any) -> dict[str, Any]:
    """Those of some options that a model's ``forward`` names."""
    known = inspect.signature(type(model).forward).parameters
    return {name: value for name, value in options.items() if name in known}
