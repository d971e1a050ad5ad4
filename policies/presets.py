"""Named settings of policy learning: everything that a result depends on, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from robo_reward.envs.reward_config import RewardConfig
from robo_reward.errors import ConfigError, did_you_mean
from robo_reward.shaping import GateConfig, ShapingConfig

from .bc import CloneConfig
from .demos import DemoConfig
from .observations import OBSERVES, Observes
from .one_goal import JOBS

Algorithm = Literal["sac", "ppo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SacConfig:
    """Settings of ``GuidedSAC``; see there.

    Attributes:
        learning_rate: Of actor and critics.
        batch_size: Rows of an update, half of them from the guide buffer.
        tau: Share of the critics that goes into their targets at every update.
        action_std: Standard deviation of the actions while learning, before squashing.
        clone_weight: Weight of the cloning term.
        clone_always: Share of the cloning term that the Q-filter does not touch.
        actor_delay: Updates in which the actor only clones.
        average: Share of the actor that goes into its average at every update.
        reward_scale: Factor on rewards inside the updates.
        n_steps: Steps of a return.
    """

    learning_rate: float = 5e-4
    batch_size: int = 128
    tau: float = 0.01
    action_std: float = 0.25
    clone_weight: float = 0.3
    clone_always: float = 1.0
    actor_delay: int = 2000
    average: float = 5e-4
    reward_scale: float = 0.03
    n_steps: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoConfig:
    """Settings of PPO from a cloned policy.

    Attributes:
        learning_rate: Of the policy and the value function.
        batch_size: Rows of an update.
        epochs: Passes over what an iteration collected.
        action_std: Standard deviation of the actions at the start.
        clip_range: How far a pass may move the policy.
        value_passes: Iterations at the start in which only the value function learns.
        reward_scale: Factor on rewards.
    """

    learning_rate: float = 1e-4
    batch_size: int = 120
    epochs: int = 8
    action_std: float = 0.2
    clip_range: float = 0.1
    value_passes: int = 2
    reward_scale: float = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One recipe, from demonstrations to the improved policy.

    Attributes:
        env_id: Gymnasium id.
        env_options: Passed to ``gymnasium.make``.
        job: Key of ``JOBS``; empty for the goals that the environment draws.
        observes: What the policy observes.
        algorithm: ``sac`` or ``ppo``.
        demos: The handful of demonstrations.
        clone: How the base policy is made of them.
        hidden: Width of both hidden layers of every network.
        iterations: How many; one iteration is ``episodes`` episodes and ``updates`` updates.
        episodes: Episodes of an iteration (for PPO: this many times 60 steps).
        updates: SAC updates of an iteration.
        gamma: Discount, of the algorithm and of the shaping.
        reward: What ``VisualReward`` does.
        sac: Settings of SAC.
        ppo: Settings of PPO.
        eval_episodes: Evaluation episodes before and after.
        watch_episodes: Evaluation episodes after every iteration, for the plot only.
    """

    env_id: str = "robo_reward/PickPlace-v0"
    env_options: dict[str, Any] = field(default_factory=lambda: {"looks": False})
    job: str = "red-cube-to-blue-pad"
    observes: Observes = "state"
    algorithm: Algorithm = "sac"
    demos: DemoConfig = field(default_factory=DemoConfig)
    clone: CloneConfig = field(default_factory=CloneConfig)
    hidden: int = 128
    iterations: int = 30
    episodes: int = 20
    updates: int = 1000
    gamma: float = 0.95
    reward: RewardConfig = field(
        default_factory=lambda: RewardConfig(
            shaping=ShapingConfig(form="delta", kappa=100.0, gamma=0.95),
            gate=GateConfig(enter=0.8, leave=0.5, votes=3, window=4, dwell=1),
        )
    )
    sac: SacConfig = field(default_factory=SacConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    eval_episodes: int = 100
    watch_episodes: int = 10

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        problems = [
            f"{name} must be >= 1, got {getattr(self, name)}"
            for name in ("hidden", "iterations", "episodes", "updates", "eval_episodes")
            if getattr(self, name) < 1
        ]
        if self.watch_episodes < 0:
            problems.append(f"watch_episodes must be >= 0, got {self.watch_episodes}")
        if self.algorithm not in ("sac", "ppo"):
            problems.append(f"algorithm must be sac or ppo, got {self.algorithm!r}")
        if self.observes not in OBSERVES:
            problems.append(f"observes must be one of {', '.join(OBSERVES)}, got {self.observes!r}")
        if self.job and self.job not in JOBS:
            problems.append(f"unknown job {self.job!r}; {did_you_mean(self.job, JOBS)}")
        if self.reward.mode != "sync":
            problems.append(f"policies learn in mode sync here, got {self.reward.mode!r}")
        if self.reward.shaping.gamma != self.gamma:
            problems.append(
                f"gamma is {self.gamma} for the algorithm and {self.reward.shaping.gamma} for the "
                "shaping; they must be one number"
            )
        if problems:
            raise ConfigError("preset: " + "; ".join(problems))


_PICK_PLACE = Preset(demos=DemoConfig(episodes=3), episodes=30, updates=1500)
_FEATURES = replace(_PICK_PLACE, observes="features", demos=DemoConfig(episodes=8))

_PUSH = replace(
    _PICK_PLACE,
    env_id="robo_reward/Push-v0",
    job="push-red-cube-to-blue-pad",
    demos=DemoConfig(episodes=8),
)

_LIFT = replace(
    _PICK_PLACE,
    env_id="robo_reward/Lift-v0",
    job="lift-red-cube",
    demos=DemoConfig(episodes=2),
)

_OPEN_DRAWER = replace(_PICK_PLACE, env_id="robo_reward/OpenDrawer-v0", job="open-red-drawer")

PRESETS: dict[str, Preset] = {
    "pick-place": _PICK_PLACE,
    "pick-place-features": _FEATURES,
    "push": _PUSH,
    "push-features": replace(_FEATURES, env_id=_PUSH.env_id, job=_PUSH.job),
    "lift": _LIFT,
    "open-drawer": _OPEN_DRAWER,
    "pick-place-ppo": replace(_PICK_PLACE, algorithm="ppo"),
    "quick": replace(
        _PICK_PLACE,
        demos=DemoConfig(episodes=2),
        clone=CloneConfig(updates=50),
        hidden=32,
        iterations=2,
        episodes=1,
        updates=10,
        eval_episodes=2,
        watch_episodes=1,
    ),
}
"""Presets by name; ``quick`` only shows that everything runs."""


def preset(name: str, **changes: Any) -> Preset:
    """Return a preset, with changes.

    Raises:
        ConfigError: No such preset or field.

    Example:
        >>> preset("quick", iterations=1).iterations
        1
    """
    if name not in PRESETS:
        raise ConfigError(f"no policy preset {name!r}; {did_you_mean(name, PRESETS)}")
    known = Preset.__dataclass_fields__
    for key in changes:
        if key not in known:
            raise ConfigError(f"a preset has no setting {key!r}; {did_you_mean(key, known)}")
    return replace(PRESETS[name], **changes)
