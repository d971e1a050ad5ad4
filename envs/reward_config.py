"""One set of options for all reward wrappers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from robo_reward.errors import ConfigError, did_you_mean
from robo_reward.shaping import GateConfig, ShapingConfig, preset

Mode = Literal["sync", "pipelined", "deferred"]
DoneOwner = Literal["env", "model", "human"]
OnMissing = Literal["wait", "raise", "nan"]

MODES = ("sync", "pipelined", "deferred")
DONE_OWNERS = ("env", "model", "human")
ON_MISSING = ("wait", "raise", "nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """What ``VisualReward`` and its two vector twins do.

    Attributes:
        mode: ``sync``: ``step`` waits for the score of its own frame. ``pipelined``: ``step``
            returns NaN for its own transition and, in ``info["late_rewards"]``, the rewards of
            the query before. ``deferred``: the same without waiting, up to ``max_in_flight``.
        done_owner: Whose word ends an episode as a success.
        shaping: How signals become a reward.
        gate: When the model's ``done`` counts; used where the model owns done. ``None`` takes the
            operating point of the model's calibration, and ``GateConfig()`` where it has none.
        stride: Every how many steps the model is asked, and at the end of every episode.
        on_missing: ``wait``: an outage is waited out for ``patience_s``, then ``RewardLost``;
            ``raise``: the first score that is missing raises; ``nan``: no waiting.
        patience_s: How long an outage may last, seconds.
        deadline_s: Budget of one try, seconds.
        max_missing: Share of the last ``missing_window`` scores that may be missing before
            ``RewardLost`` is raised.
        missing_window: See ``max_missing``.
        max_in_flight: Queries of one environment that may be open in ``deferred``.
        jpeg_quality: 1-100 stores frames as JPEG when they are taken; ``None`` keeps raw pixels.
        max_age_s: Stream mode: how much later than the end of the step a frame may be, seconds.
        truth_keys: Keys that are taken out of ``info``, so that no learner sees them.

    Raises:
        ConfigError: All settings that are out of range, in one message.
    """

    mode: Mode = "sync"
    done_owner: DoneOwner = "model"
    shaping: ShapingConfig = field(default_factory=ShapingConfig)
    gate: GateConfig | None = None
    stride: int = 1
    on_missing: OnMissing = "wait"
    patience_s: float = 60.0
    deadline_s: float = 2.0
    max_missing: float = 0.05
    missing_window: int = 1000
    max_in_flight: int = 64
    jpeg_quality: int | None = None
    max_age_s: float = 0.2
    truth_keys: tuple[str, ...] = ("success", "is_success")

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        problems = [
            f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
            for name, known in (
                ("mode", MODES),
                ("done_owner", DONE_OWNERS),
                ("on_missing", ON_MISSING),
            )
            if getattr(self, name) not in known
        ]
        problems += [
            f"{name} must be >= 1, got {getattr(self, name)}"
            for name in ("stride", "missing_window", "max_in_flight")
            if getattr(self, name) < 1
        ]
        problems += [
            f"{name} must be > 0 seconds, got {getattr(self, name)}"
            for name in ("patience_s", "deadline_s", "max_age_s")
            if not getattr(self, name) > 0
        ]
        if not 0.0 <= self.max_missing <= 1.0:
            problems.append(f"max_missing must be in [0, 1], got {self.max_missing}")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            problems.append(f"jpeg_quality must be in [1, 100], got {self.jpeg_quality}")
        if self.shaping.spread and self.stride > 1 and self.mode == "sync":
            problems.append(
                "shaping.spread pays steps whose reward is known only at the next query; "
                'use mode="pipelined" or "deferred", or leave the delta on the query step'
            )
        if problems:
            raise ConfigError("reward wrapper: " + "; ".join(problems))

    @classmethod
    def of(cls, config: RewardConfig | None, options: dict[str, Any]) -> RewardConfig:
        """Return the config with the options that a caller gave by keyword.

        Args:
            config: Where to start from; the defaults when ``None``.
            options: Fields to change; ``shaping`` may be the name of a preset.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        known = cls.__dataclass_fields__
        for name in options:
            if name not in known:
                raise ConfigError(f"unknown option {name!r}; {did_you_mean(name, known)}")
        if isinstance(options.get("shaping"), str):
            options = {**options, "shaping": preset(options["shaping"])}
        return replace(config or cls(), **options)
