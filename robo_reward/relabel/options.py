"""What a run is asked to do, and the key that says whether two runs are the same one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from robo_reward.client.source import ModelInfo
from robo_reward.datasets.labels import SCHEMA_VERSION
from robo_reward.errors import ConfigError

from .instructions import Instructions


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelOptions:
    """How a dataset is labelled.

    Attributes:
        instructions: Which sentence belongs to which frame.
        every: Label each n-th frame; delta and contrastive refer to the labelled frame before.
        cameras: Which, in order; the first ones, as many as the model has views, when empty.
        batch: Instants that are encoded and scored together; part of the result's last bits.
        goal: ``"last"`` gives the model the last frame of the episode as goal image: such labels
            saw the future.
        limit: Label this many episodes only, the first ones; ``None`` for all.

    Raises:
        ConfigError: A number is out of range.
    """

    instructions: Instructions = field(default_factory=Instructions)
    every: int = 1
    cameras: tuple[str, ...] = ()
    batch: int = 32
    goal: Literal["none", "last"] = "none"
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        problems = [
            f"{name} must be >= 1, got {value}"
            for name, value in (("every", self.every), ("batch", self.batch), ("limit", self.limit))
            if value is not None and value < 1
        ]
        if self.goal not in ("none", "last"):
            problems.append(f"goal must be none or last, got {self.goal!r}")
        if problems:
            raise ConfigError("relabel: " + "; ".join(problems))

    def key(self, *, dataset: str, info: ModelInfo) -> str:
        """Return 16 hex digits that are the same for runs that give the same table."""
        plain = [
            SCHEMA_VERSION,
            dataset,
            info.model,
            info.prompt,
            info.calibration,
            self.instructions.digest(),
            self.every,
            self.cameras,
            self.batch,
            self.goal,
            self.limit,
        ]
        return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()[:16]
