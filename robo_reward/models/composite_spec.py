"""The file that says what a composite is made of: YAML or JSON, a few lines.

how: cascade          # mean, weights, worst or cascade
limit: 0.3            # of a cascade: the next member is asked above this uncertainty
members:
- compact
- model: clip=laion/CLIP-ViT-B-32-laion2B-s34B-b79K
weight: 0.5       # of weights: one number, or one per signal: {progress: 1, done: 0}
calibration: lift.json
checks:
- my_robot.checks:gripper_is_open
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from robo_reward.errors import ConfigError, require
from robo_reward.signals import SIGNALS

How = Literal["mean", "weights", "worst", "cascade"]
Weight = float | dict[str, float]
"""One number, or one per signal; a signal that is not named has weight 1."""


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of a composite.

    Attributes:
        model: What ``--model`` takes.
        weight: Its say in ``how: weights``.
        calibration: File of ``robo-reward calibrate`` for it.
    """

    model: str
    weight: Weight = 1.0
    calibration: str | None = None


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds.

    Attributes:
        members: Names, or mappings for those with a weight or a calibration; of a cascade the
            cheapest first.
        how: How their answers become one.
        limit: Of a cascade: uncertainty above which the next member is asked.
        checks: ``module:attribute`` of rule-based checks.
    """

    members: list[str | Member]
    how: How = "mean"
    limit: float = 0.3
    checks: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """How the answers of some members become one.

    Attributes:
        how: ``"mean"``, ``"weights"``, ``"worst"`` or ``"cascade"``.
        weights: Of ``"weights"``: one per member.
        limit: Of ``"cascade"``: uncertainty above which the next member is asked, [0, 1].

    Raises:
        ConfigError: All that makes no sense.
    """

    how: How = "mean"
    weights: tuple[Weight, ...] = ()
    limit: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what nothing could be made of."""
        problems = []
        if self.how not in ("mean", "weights", "worst", "cascade"):
            problems.append(f"how must be mean, weights, worst or cascade, got {self.how!r}")
        if self.weights and self.how != "weights":
            problems.append(f"weights are for how: weights, got how: {self.how}")
        if not 0.0 <= self.limit <= 1.0:
            problems.append(f"limit must be in [0, 1], got {self.limit:g}")
        for weight in self.weights:
            named = weight if isinstance(weight, dict) else {}
            numbers = list(named.values()) if isinstance(weight, dict) else [weight]
            strange = sorted(set(named) - set(SIGNALS))
            if strange:
                problems.append(
                    f"no signal {strange[0]!r} to weigh; there are {', '.join(SIGNALS)}"
                )
            if any(not number >= 0 for number in numbers):
                problems.append(f"weights must be >= 0, got {weight}")
        if problems:
            raise ConfigError("; ".join(problems))

    def of(self, signal: str, members: int) -> list[float]:
        """Return the weight of each member in a signal."""
        if not self.weights:
            return [1.0] * members
        return [w.get(signal, 1.0) if isinstance(w, dict) else w for w in self.weights]


def read_spec(path: Path) -> Spec:
    """Read a file.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            held = json.loads(text)
        else:
            yaml = require("yaml", extra="camera")
            try:
                held = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ConfigError(f"{path} is no YAML: {error}") from error
        spec: Spec = msgspec.convert(held, Spec)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} says of no composite what it is made of: {error}") from error
    return spec
