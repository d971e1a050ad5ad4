"""Signals to scalar reward: r = w_env·r_env + sparse + κ·dense.

``dense`` is, by the form that was chosen:

==============  =============================================================================
potential       γᵐ·Φ(s′) − Φ(s), Φ = progress, m the steps since the previous query; Φ = 0 at a
                true terminal, not at a time-out (Ng et al. 1999: the best policy stays best)
delta           the model's ``progress_delta`` against the frame of the previous query
contrastive     the sign of ``contrastive``
mean            mean of progress, done and contrastive brought to [0, 1] (Large Reward Models)
==============  =============================================================================

A score that is missing makes ``dense`` NaN, in potential form also that of the next query, because
both use the Φ that nobody knows. Nothing turns NaN into a number here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from robo_reward.errors import ConfigError, did_you_mean
from robo_reward.signals import Score, Signals

from .normalise import TaskScale

Form = Literal["potential", "delta", "contrastive", "mean"]

NEEDS: dict[str, tuple[str, ...]] = {
    "potential": ("progress",),
    "delta": ("progress_delta",),
    "contrastive": ("contrastive",),
    "mean": ("progress", "done", "contrastive"),
}
"""Signals that a model must give for each form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapingConfig:
    """How signals become a reward.

    Attributes:
        form: Which dense term, see the top of this module.
        env_weight: w_env; 0 leaves the environment's own reward out.
        sparse: Whether −1 is paid until done and 0 at done.
        kappa: Weight of the dense term. ``None``: 1 / (1 − gamma) for differences of progress
            (the value of never finishing), 1 for the forms that are not differences.
        gamma: Discount of the algorithm; it must be the same number there.
        spread: At a query stride n > 1: the dense term is divided over the steps since the
            previous query (needs a mode with late rewards) and does not stand on the query step.
        dead_band: potential: Φ is held until progress has moved by more than this, so that slow
            progress is paid late and not lost; delta and contrastive: smaller values are 0.
        clip: Largest absolute value of the dense term, before kappa; ``None`` for no limit.
        ema: Share of the old Φ in the smoothed one, [0, 1); potential form only.
        normalise: Whether the dense term is divided by its per-task scale (``TaskScale``).

    Raises:
        ConfigError: All settings that are out of range, in one message.
    """

    form: Form = "potential"
    env_weight: float = 0.0
    sparse: bool = True
    kappa: float | None = None
    gamma: float = 0.99
    spread: bool = False
    dead_band: float = 0.0
    clip: float | None = None
    ema: float = 0.0
    normalise: bool = False

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        problems = []
        if self.form not in NEEDS:
            problems.append(f"unknown form {self.form!r}; {did_you_mean(self.form, NEEDS)}")
        if not 0.0 < self.gamma <= 1.0:
            problems.append(f"gamma must be in (0, 1], got {self.gamma}")
        if self.kappa is None and self.gamma == 1.0 and self.form in ("potential", "delta"):
            problems.append("gamma is 1, so kappa = 1 / (1 - gamma) has no value; set kappa")
        if self.kappa is not None and not (math.isfinite(self.kappa) and self.kappa >= 0):
            problems.append(f"kappa must be >= 0, got {self.kappa}")
        if not 0.0 <= self.dead_band < 1.0:
            problems.append(f"dead_band must be in [0, 1), got {self.dead_band}")
        if self.clip is not None and not self.clip > 0.0:
            problems.append(f"clip must be > 0, got {self.clip}")
        if not 0.0 <= self.ema < 1.0:
            problems.append(f"ema must be in [0, 1), got {self.ema}")
        if self.ema and self.form != "potential":
            problems.append(f"ema smooths a potential; form is {self.form!r}")
        if problems:
            raise ConfigError("shaping: " + "; ".join(problems))

    @property
    def weight(self) -> float:
        """κ as a number."""
        if self.kappa is not None:
            return self.kappa
        return 1.0 / (1.0 - self.gamma) if self.form in ("potential", "delta") else 1.0

    @property
    def needs(self) -> tuple[str, ...]:
        """Signals that the model must give; none at weight 0."""
        return NEEDS[self.form] if self.weight else ()


PRESETS: dict[str, ShapingConfig] = {
    "potential": ShapingConfig(kappa=100.0),
    "sparse": ShapingConfig(kappa=0.0),
    "delta": ShapingConfig(form="delta", kappa=100.0),
    "contrastive": ShapingConfig(form="contrastive", kappa=1.0),
    "lrm": ShapingConfig(form="mean", kappa=1.0, sparse=False),
    "rynnvalue": ShapingConfig(kappa=0.1),
    "dense": ShapingConfig(form="delta", kappa=1.0, sparse=False),
}
"""Named settings: the default; sparse −1/0 alone; raw differences; signs; the mean of Large Reward
Models; RynnValue's κ; differences of progress and nothing else."""


def preset(name: str, **changes: Any) -> ShapingConfig:
    """Return a named setting, with changes.

    Raises:
        ConfigError: No such preset or field.

    Example:
        >>> preset("delta", gamma=0.95).weight
        100.0
    """
    if name not in PRESETS:
        raise ConfigError(f"no shaping preset {name!r}; {did_you_mean(name, PRESETS)}")
    known = ShapingConfig.__dataclass_fields__
    for key in changes:
        if key not in known:
            raise ConfigError(f"shaping has no setting {key!r}; {did_you_mean(key, known)}")
    return replace(PRESETS[name], **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTerms:
    """One reward taken apart; ``total`` is what the learner gets.

    Attributes:
        env: w_env · r_env.
        sparse: −1 or 0; NaN where the model owns done and did not answer.
        dense: The dense term after dead-band, clip and scale, before κ.
        kappa: κ.
        potential: Φ of the state after the step (0 at a true terminal); NaN where unknown.
        total: env + sparse + κ·dense.
    """

    env: float
    sparse: float
    dense: float
    kappa: float
    potential: float
    total: float

    def as_dict(self) -> dict[str, float]:
        """Return plain numbers, ready for ``info["reward_terms"]``."""
        return asdict(self)


class Shaper:
    """Makes the shaping of episodes; what outlives an episode (the per-task scale) is kept here.

    Example:
        >>> from robo_reward.signals import Score, Signals
        >>> shaping = Shaper(ShapingConfig(gamma=0.5, kappa=2.0)).begin(task="lift")
        >>> shaping.rebase(Score(signals=Signals(progress=0.25)))
        >>> shaping.settle([0.0], Score(signals=Signals(progress=0.5)), done=False)[0].total
        -1.0
    """

    def __init__(self, config: ShapingConfig | None = None) -> None:
        self.config = config or ShapingConfig()
        self.scale = TaskScale()

    def begin(self, *, task: str = "") -> EpisodeShaping:
        """Start an episode; ``task`` names the statistics that it belongs to."""
        return EpisodeShaping(self.config, scale=self.scale, task=task)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"scale": self.scale.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.scale.load_state_dict(state.get("scale", {}))


class EpisodeShaping:
    """The shaping of one episode: knows Φ of the state that was scored last.

    Args:
        config: What to do.
        scale: Statistics shared by all episodes.
        task: Name of the task in these statistics.
    """

    def __init__(self, config: ShapingConfig, *, scale: TaskScale, task: str) -> None:
        self.config = config
        self.potential = math.nan
        self._mean = math.nan
        self._held = math.nan
        self._scale = scale
        self._task = task
        self._divisor = scale.of(task) if config.normalise else 1.0

    def rebase(self, score: Score, *, task: str | None = None) -> None:
        """Take this score as that of the state the next transition starts from.

        At the reset, and when the task changes: progress towards another goal is no difference.
        """
        if task is not None and task != self._task:
            self._task = task
            self._divisor = self._scale.of(task) if self.config.normalise else 1.0
        self._held = math.nan
        self.potential = self._smooth(score.signals.progress)

    def between(self, env_reward: float, *, done: bool | None = False) -> RewardTerms:
        """Return the reward of a step that is not a query step: no dense term."""
        return self._terms(env_reward, dense=0.0, done=done)

    def settle(
        self, env_rewards: Sequence[float], score: Score, *, done: bool | None, span: int = 1
    ) -> list[RewardTerms]:
        """Return the rewards that this score decides.

        Args:
            env_rewards: The environment's own rewards of the steps that are still open, in order;
                the last one is the step that was scored.
            score: Score of the state after the last step, against that of the previous query.
            done: Whether that state is a true terminal; ``None`` where nobody knows.
            span: Steps since the previous query.

        Returns:
            One entry per step.
        """
        before = self.potential
        self.potential = self._smooth(score.signals.progress)
        dense = self._dense(score.signals, before=before, done=bool(done), span=span)
        share = dense / len(env_rewards) if self.config.spread else 0.0
        rows = [self._terms(reward, dense=share, done=False) for reward in env_rewards[:-1]]
        last = share if self.config.spread else dense
        rows.append(self._terms(env_rewards[-1], dense=last, done=done))
        return rows

    def _smooth(self, progress: float) -> float:
        """Return Φ after smoothing and dead-band; a missing score leaves the memory alone."""
        if math.isnan(progress):
            return math.nan
        if math.isnan(self._held):
            self._held = self._mean = progress
        else:
            self._mean = self.config.ema * self._mean + (1.0 - self.config.ema) * progress
            if abs(self._mean - self._held) > self.config.dead_band:
                self._held = self._mean
        return self._held

    def _dense(self, signals: Signals, *, before: float, done: bool, span: int) -> float:
        config = self.config
        if config.weight == 0.0:
            return 0.0
        if config.form == "potential":
            after = 0.0 if done else self.potential
            dense = config.gamma**span * after - before
        elif config.form == "delta":
            dense = self._banded(signals.progress_delta)
        elif config.form == "contrastive":
            banded = self._banded(signals.contrastive)
            dense = banded if math.isnan(banded) else float((banded > 0) - (banded < 0))
        else:
            dense = (signals.progress + signals.done + (1.0 + signals.contrastive) / 2.0) / 3.0
        if config.normalise:
            self._scale.add(self._task, dense)
            dense /= self._divisor
        if config.clip is not None and not math.isnan(dense):
            dense = min(config.clip, max(-config.clip, dense))
        return dense

    def _banded(self, value: float) -> float:
        return 0.0 if abs(value) < self.config.dead_band else value

    def _terms(self, env_reward: float, *, dense: float, done: bool | None) -> RewardTerms:
        config = self.config
        # 0 · inf is NaN: an environment's odd reward must not come in through a weight of zero.
        env = config.env_weight * env_reward if config.env_weight else 0.0
        sparse = 0.0
        if config.sparse:
            sparse = math.nan if done is None else -1.0 + float(done)
        total = env + sparse + config.weight * dense
        terminal = bool(done) and config.form == "potential"
        return RewardTerms(
            env=env,
            sparse=sparse,
            dense=dense,
            kappa=config.weight,
            potential=0.0 if terminal else self.potential,
            total=total,
        )
