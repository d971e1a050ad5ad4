"""What turns a model's ``done`` into a probability, and where the done gate stands on it.

Fitted by ``robo-reward calibrate`` on episodes whose outcome is known, kept as one JSON beside the
model, and good for one model and prompt only. Its id is part of every score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, DatasetError
from robo_reward.gate_config import GateConfig

SCHEMA = 1
GATE_BYTES = 4096
EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneCurve:
    """A rising map from the model's ``done`` to a probability.

    Attributes:
        kind: ``"sigmoid"``: log-odds times ``slope`` plus ``offset`` (Platt 1999; temperature
            scaling, arXiv 1706.04599, is the case ``offset = 0``). ``"isotonic"``: straight lines
            between points.
        slope: Of the log-odds; above 0.
        offset: Added to them.
        x: Places of the points, rising.
        y: Probabilities at the points, not falling.
    """

    kind: Literal["sigmoid", "isotonic"] = "sigmoid"
    slope: float = 1.0
    offset: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a map that would turn sure into unsure."""
        if self.kind == "sigmoid" and not self.slope > 0:
            raise ConfigError(f"a done curve must rise, its slope is {self.slope}")
        rising = all(np.diff(self.x) > 0) and all(np.diff(self.y) >= 0)
        if self.kind == "isotonic" and (
            len(self.x) != len(self.y) or len(self.x) < 2 or not rising
        ):
            raise ConfigError("a done curve needs two points or more, as many y as x, both rising")

    def __call__(self, done: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map ``(n,)`` probabilities; NaN stays NaN."""
        values = np.asarray(done, np.float64)
        if self.kind == "isotonic":
            mapped = np.where(np.isnan(values), np.nan, np.interp(values, self.x, self.y))
            return mapped.astype(np.float32)
        return sigmoid(self.slope * log_odds(values) + self.offset).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % bootstrap interval over episodes."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstention:
    """Above which uncertainty a model gives no number.

    Attributes:
        limit: Scores with a higher uncertainty are ``abstained``.
        asked: Share of familiar frames that may be.
        rate: That share on episodes that the limit was not chosen on.
        frames: Frames that it was chosen on.
    """

    limit: float
    asked: float
    rate: Interval
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCalibration:
    """The fit for one instruction, or for all that have none of their own.

    Attributes:
        curve: From the model's ``done`` to a probability.
        gate: Operating point on that probability.
        precision: Decisions of the gate that were right in their frame.
        recall: True dones over true and missed ones.
        false_done_per_1000: Episodes ended wrongly per 1,000 frames played.
        ece_before: Calibration error of the model's own ``done``.
        ece_after: That of the mapped one, on episodes the curve was not fitted on.
        episodes: Episodes in the data.
        reached: Those in which the goal was reached.
    """

    curve: DoneCurve
    gate: GateConfig
    precision: Interval
    recall: Interval
    false_done_per_1000: Interval
    ece_before: float
    ece_after: float
    episodes: int
    reached: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The fits of one model.

    Attributes:
        model: Model id that it was fitted on; another model refuses it.
        prompt: Prompt id, likewise.
        overall: Fit over all episodes, for every instruction without one of its own.
        tasks: Instruction → its own fit.
        asked_precision: Precision that was asked for.
        data: What it was fitted on, for people.
        abstention: When to give no number; ``None`` for never.
        schema: Version of this layout.
    """

    model: str
    prompt: str
    overall: TaskCalibration
    tasks: dict[str, TaskCalibration]
    asked_precision: float
    data: str = ""
    abstention: Abstention | None = None
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """Hash of everything in it, 12 hex digits."""
        plain = msgspec.to_builtins(self)
        if self.abstention is None:
            del plain["abstention"]  # files from before there was one keep their id
        return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()[:12]

    def of(self, instruction: str) -> TaskCalibration:
        """Return the fit for an instruction."""
        return self.tasks.get(instruction, self.overall)

    def gates(self) -> dict[str, GateConfig]:
        """Return the operating points by instruction, ``""`` for all others.

        What a node tells its clients at the handshake has to fit into one header: instructions
        beyond ``GATE_BYTES`` of text use the point of all others.
        """
        found = {"": self.overall.gate}
        room = GATE_BYTES
        for text, fit in sorted(self.tasks.items()):
            room -= len(text.encode()) + 64
            if room < 0:
                break
            found[text] = fit.gate
        return found

    def apply(
        self, done: NDArray[np.floating[Any]], instructions: Sequence[str]
    ) -> NDArray[np.float32]:
        """Map the ``done`` of n queries, ``(n,)``, each by the fit for its instruction."""
        mapped = np.empty(len(done), np.float32)
        groups: dict[str, list[int]] = {}
        for row, text in enumerate(instructions):
            groups.setdefault(text if text in self.tasks else "", []).append(row)
        for text, rows in groups.items():
            mapped[rows] = self.of(text).curve(done[rows])
        return mapped

    def check(self, *, model: str, prompt: str) -> None:
        """Refuse another model or prompt than it was fitted on.

        Raises:
            ConfigError: It is another one.
        """
        for what, mine, theirs in (("model", self.model, model), ("prompt", self.prompt, prompt)):
            if mine != theirs:
                raise ConfigError(
                    f"the calibration is for {what} {mine!r}, this one is {theirs!r}; "
                    "run robo-reward calibrate again"
                )

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        draft = path.with_name(f".{path.name}.part")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> Calibration:
        """Read one that ``save`` wrote.

        Raises:
            DatasetError: There is none, or it cannot be read.
        """
        try:
            made = msgspec.json.decode(Path(path).read_bytes(), type=cls)
        except OSError as error:
            raise DatasetError(
                f"no calibration at {path}: {error.strerror}; robo-reward calibrate makes one"
            ) from error
        except (msgspec.DecodeError, ConfigError) as error:
            raise DatasetError(f"{path} is no calibration: {error}") from error
        if made.schema != SCHEMA:
            raise DatasetError(
                f"{path} has schema {made.schema}, this version reads {SCHEMA}; calibrate again"
            )
        return made


def log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of probabilities, bounded at ``EDGE`` from both ends."""
    kept = np.clip(probability, EDGE, 1.0 - EDGE)
    odds: NDArray[np.float64] = np.log(kept) - np.log1p(-kept)
    return odds


def sigmoid(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of log-odds."""
    probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-odds))
    return probability
