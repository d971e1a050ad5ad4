"""An ensemble of small networks on frozen features, and the folder that it is kept in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from robo_reward.errors import DatasetError, MissingDependency

from .weights import write_weights

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsConfig:
    """What ``config.json`` holds.

    Attributes:
        reward_model: Name in the registry of the model that reads the folder.
        features: Kind of ``FrozenFeatures``.
        width: Length of the vectors.
        hidden: Width of the hidden layer.
        members: Networks of the ensemble.
        instruction: The sentence it was trained for; empty where there were several.
    """

    reward_model: str
    features: str
    width: int
    hidden: int = 64
    members: int = 5
    instruction: str = ""


class Heads(nn.Module):
    """Vector to one number per member: standardised, one hidden layer.

    Args:
        config: Sizes.
        dropout: Share of the features that a member does not see while it learns.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: HeadsConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.width))
        self.register_buffer("deviation", torch.ones(config.width))
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(config.width, config.hidden),
                nn.ReLU(),
                nn.Linear(config.hidden, 1),
            )
            for _ in range(config.members)
        )

    def standardise(self, vectors: Tensor) -> None:
        """Take mean and deviation of the features from vectors, ``(n, width)``."""
        self.mean.copy_(vectors.mean(0))
        self.deviation.copy_(vectors.std(0).clamp(min=1e-3))

    def forward(self, vectors: Tensor) -> Tensor:
        """``(n, width)`` → ``(n, members)``."""
        scaled = (vectors - self.mean) / self.deviation
        return torch.cat([member(scaled) for member in self.members], 1)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        write_weights(tensors, folder / WEIGHTS)
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, *, expected: str, how: str) -> Heads:
        """Read what ``save`` wrote.

        Args:
            folder: Where it lies.
            expected: Name of the model that reads it.
            how: How such a folder is made, for the error.

        Raises:
            MissingDependency: The folder holds no such weights.
            DatasetError: It holds another kind of model, or it is broken.
        """
        if not (folder / WEIGHTS).is_file() or not (folder / "config.json").is_file():
            raise MissingDependency(f"{folder} holds no trained {expected}; {how}")
        held: dict[str, Any] = json.loads((folder / "config.json").read_text())
        if held.get("reward_model") != expected:
            kind = held.get("reward_model", "model of another kind")
            raise DatasetError(f"{folder} holds a {kind}, not a {expected}")
        try:
            heads = cls(HeadsConfig(**held))
            heads.load_state_dict(load_file(folder / WEIGHTS))
        except (TypeError, RuntimeError, ValueError) as error:
            raise DatasetError(f"{folder} is broken: {error}") from error
        return heads.eval()
