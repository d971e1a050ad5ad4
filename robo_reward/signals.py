"""The five signals, the status that says whether there are any, and the identity they belong to.

Sources of the definitions: progress and delta as in VLAC (arXiv 2509.15937) and Robometer
(arXiv 2603.02115), the three-signal form of Large Reward Models (arXiv 2603.16065).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

SIGNALS = ("progress", "progress_delta", "done", "contrastive", "uncertainty")
"""Names of the signals: the same in the API, on the wire and in label tables."""

RANGES: dict[str, tuple[float, float]] = {
    "progress": (0.0, 1.0),
    "progress_delta": (-1.0, 1.0),
    "done": (0.0, 1.0),
    "contrastive": (-1.0, 1.0),
    "uncertainty": (0.0, 1.0),
}


LIMIT_MARK = ">"
"""Between the id of a calibration and the uncertainty above which there is no score."""


class Status(str, Enum):
    """Why there are numbers, or why there are none."""

    OK = "ok"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    STALE = "stale"
    BAD_REQUEST = "bad_request"
    MODEL_ERROR = "model_error"
    ABSTAINED = "abstained"
    CANCELLED = "cancelled"


REASONS: dict[str, Status] = {
    "OK": Status.OK,
    "BUSY": Status.OVERLOADED,
    "NOT_READY": Status.OVERLOADED,
    "DRAINING": Status.OVERLOADED,
    "DEADLINE": Status.TIMEOUT,
    "STALLED": Status.TIMEOUT,
    "PEER_LOST": Status.TIMEOUT,
    "STALE": Status.STALE,
    "NO_FRAME": Status.STALE,
    "NEED_FRAMES": Status.BAD_REQUEST,
    "BAD_HEADER": Status.BAD_REQUEST,
    "BAD_PAYLOAD": Status.BAD_REQUEST,
    "TOO_LARGE": Status.BAD_REQUEST,
    "VERSION": Status.BAD_REQUEST,
    "TASK_UNKNOWN": Status.BAD_REQUEST,
    "DENIED": Status.BAD_REQUEST,
    "MODEL_ERROR": Status.MODEL_ERROR,
    "ABSTAINED": Status.ABSTAINED,
    "CANCELLED": Status.CANCELLED,
}
"""Fine codes of the node and the status each one belongs to."""

OUTAGE = frozenset({Status.OVERLOADED, Status.TIMEOUT, Status.STALE})
"""Statuses that pass by themselves: asking again is worth it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What a model says of one query; NaN where it says nothing.

    Attributes:
        progress: Share of the task done in the newest frame, [0, 1].
        progress_delta: Change from the reference frame to the newest one, [-1, 1].
        done: Calibrated probability that the goal holds in the newest frame, [0, 1].
        contrastive: P(newest more complete) - P(reference more complete), [-1, 1].
        uncertainty: 0 for sure, 1 for no idea.
    """

    progress: float = math.nan
    progress_delta: float = math.nan
    done: float = math.nan
    contrastive: float = math.nan
    uncertainty: float = math.nan


MISSING = Signals()
"""No signals at all: what a score holds whenever its status is not ``ok``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which query a score answers, with what, and how old it is. Never optional.

    Attributes:
        client: Session of the asking process, hex.
        env: Index of the environment within the client.
        episode: Number of the episode within the environment.
        step: Number of the transition within the episode; 0 is the frame of the reset.
        frames: Ids of the newest frames that were used, one per camera.
        reference: Ids of the reference frames that were used.
        history: Ids of the earlier frames that were looked at, instant by instant.
        model: Model name and weight hash.
        prompt: Hash of the prompt or of the text pre-processing.
        calibration: Id of the calibration, ``"none"`` without one; where the model abstains,
            ``LIMIT_MARK`` and the uncertainty above which it does: ``"none>0.6"``.
        age_s: Age of the newest frame when it was scored, seconds; NaN where unknown.
        queue_s: Time in the queue, seconds.
        inference_s: Time in the model, seconds (of the whole batch).
        total_s: From the question to the answer as the asker saw it, seconds.
    """

    client: str = ""
    env: int = 0
    episode: int = 0
    step: int = 0
    frames: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    model: str = ""
    prompt: str = ""
    calibration: str = "none"
    age_s: float = math.nan
    queue_s: float = math.nan
    inference_s: float = math.nan
    total_s: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Signals, the status that vouches for them, and the identity they belong to.

    Raises:
        ValueError: Numbers beside a status that is not ``ok``, a signal outside its range, or a
            reason that does not belong to the status.
    """

    signals: Signals = MISSING
    status: Status = Status.OK
    reason: str = "OK"
    detail: str = ""
    identity: Identity = field(default_factory=Identity)

    def __post_init__(self) -> None:
        """Hold the rule that a failure is never a number."""
        if REASONS.get(self.reason) is not self.status:
            raise ValueError(f"reason {self.reason!r} does not belong to status {self.status}")
        for name in SIGNALS:
            value = getattr(self.signals, name)
            if math.isnan(value):
                continue
            if self.status is not Status.OK:
                raise ValueError(f"status {self.status.value} with {name}={value}: must be NaN")
            low, high = RANGES[name]
            if not low <= value <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {value}")

    @property
    def ok(self) -> bool:
        """Whether the signals may be used."""
        return self.status is Status.OK

    @classmethod
    def missing(cls, reason: str, *, identity: Identity, detail: str = "") -> Score:
        """Make the score that says why there is none; ``reason`` is a key of ``REASONS``."""
        return cls(status=REASONS[reason], reason=reason, detail=detail, identity=identity)

    def as_dict(self) -> dict[str, Any]:
        """Return plain nested values, ready for ``info["score"]``, JSON or a table."""
        plain = asdict(self)
        plain["status"] = self.status.value
        return plain
