"""An episode: what the cameras saw, what was asked, and, where somebody knows it, the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError

Quality = Literal["failure", "suboptimal", "success"]
QUALITY_RANK: dict[Quality, int] = {"failure": 0, "suboptimal": 1, "success": 2}
"""Which quality is the better one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """One recorded episode of T frames.

    Attributes:
        id: Unique within its dataset.
        instruction: What the robot was asked to do.
        images: Camera name → ``(T, H, W, 3) uint8 RGB``.
        progress: True stage-wise progress, ``(T,) float32`` in [0, 1], or ``None``.
        done: Whether the goal holds in each frame, ``(T,) bool``, or ``None``.
        success: Whether the episode ends with the goal reached, or ``None`` where nobody knows.
        quality: Label for policy ranking, or ``None``.
        actions: ``(T - 1, A) float32``: the action between frames t and t + 1, or ``None``.
        meta: Plain values: task family, seed, failure kind, split, ….
    """

    id: str
    instruction: str
    images: dict[str, NDArray[np.uint8]]
    progress: NDArray[np.float32] | None = None
    done: NDArray[np.bool_] | None = None
    success: bool | None = None
    quality: Quality | None = None
    actions: NDArray[np.float32] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse arrays whose lengths disagree."""
        lengths = {name: len(images) for name, images in self.images.items()}
        if not lengths or len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise DatasetError(f"episode {self.id}: cameras with frame counts {lengths}")
        frames = len(self)
        for name, values, want in (
            ("progress", self.progress, frames),
            ("done", self.done, frames),
            ("actions", self.actions, frames - 1),
        ):
            if values is not None and len(values) != want:
                raise DatasetError(f"episode {self.id}: {name} has {len(values)}, want {want}")

    def __len__(self) -> int:
        """Number of frames T."""
        return len(next(iter(self.images.values())))
