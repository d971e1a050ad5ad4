"""``robo-reward train-policy``: clone a policy and improve it on a model's reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from robo_reward.errors import ConfigError

from .common import Result, Saving

if TYPE_CHECKING:
    from robo_reward.client import Source
    from robo_reward.models import RewardModel
    from robo_reward.policies.presets import Preset
    from robo_reward.policies.records import IterationRow


@dataclass(frozen=True, kw_only=True)
class TrainPolicy(Saving):
    """Clone a policy from a few demonstrations and improve it by RL on a model's reward.

    The model gives the reward and ends episodes; the simulator's success goes into the evaluations
    and nowhere else. Writes both policies, iterations.csv, metrics.json and TensorBoard.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward train-policy --preset pick-place --model compact",
        "robo-reward train-policy --preset push --node tcp://gpu:5601 --seed 1 --json",
        "robo-reward train-policy --env robo_reward/Reach-v0 --algo ppo --iterations 10",
    )

    preset: str = "pick-place"
    """Where all settings come from."""
    env: str | None = None
    """Gymnasium id of another table-top environment than that of the preset; it draws its goals."""
    algo: Literal["sac", "ppo"] | None = None
    """Another algorithm than that of the preset."""
    model: str = "compact"
    """Name, folder or hub id of the reward model."""
    node: str | None = None
    """Ask the reward node at this address instead of loading a model, e.g. tcp://host:5601."""
    keys: Path | None = None
    """Folder of keys (robo-reward keys), where --node asks for them."""
    observes: Literal["state", "features"] | None = None
    """What the policy sees: the simulator's state, or proprioception and features of --model;
    as the preset says where not given."""
    shaping: str = ""
    """How the model's signals become a reward, where not as the preset says: potential, delta,
    contrastive, …; sparse for a model that gives nothing but done, such as a classifier."""
    done_owner: Literal["model", "env"] = "model"
    """Who ends episodes: the model, or the simulator (a bracket, no result)."""
    iterations: int | None = None
    """Another number of iterations than that of the preset."""
    eval_episodes: int | None = None
    """Another number of evaluation episodes than that of the preset."""
    seed: int = 0
    """Of demonstrations, networks and exploration."""
    device: str = "auto"
    """Where the reward model runs: auto, cpu, cuda or mps."""
    timeout: float = 60.0
    """Give up when the node has not answered for this many seconds."""

    def run(self) -> Result:
        """Clone, improve, evaluate."""
        from robo_reward.errors import require

        require("stable_baselines3", extra="rl")
        import torch

        from robo_reward.policies.improve import improve

        if self.timeout <= 0:
            raise ConfigError(f"--timeout must be > 0 seconds, got {self.timeout:g}")
        preset = self._preset()
        # Two threads on operations this small are slower than one.
        torch.set_num_threads(1)
        learner_env, bare_env, source = self._environments(preset)
        name = f"{self.preset}-{preset.algorithm}-seed{self.seed}"
        with source, learner_env, bare_env, self.open_output(name) as out:
            out.write_json("policy.json", self._card(preset))
            with self.console().bar("train-policy", total=preset.iterations, unit="iter") as bar:
                result = improve(
                    learner_env,
                    bare_env,
                    preset,
                    seed=self.seed,
                    on_iteration=_teller(bar.update_to),
                    out=out.path,
                )
            metrics = {**result.as_dict(), "observes": preset.observes, "path": str(out.path)}
            out.write_json("metrics.json", metrics)
        return metrics

    def _preset(self) -> Preset:
        from robo_reward.envs import ENV_IDS
        from robo_reward.errors import did_you_mean
        from robo_reward.policies.presets import preset
        from robo_reward.shaping import preset as shaping_preset

        changes: dict[str, Any] = {}
        if self.env is not None:
            if self.env not in ENV_IDS:
                raise ConfigError(f"no environment {self.env!r}; {did_you_mean(self.env, ENV_IDS)}")
            changes |= {"env_id": self.env, "job": ""}
        changes |= {"algorithm": self.algo} if self.algo else {}
        changes |= {"observes": self.observes} if self.observes else {}
        changes |= {"iterations": self.iterations} if self.iterations is not None else {}
        changes |= {"eval_episodes": self.eval_episodes} if self.eval_episodes is not None else {}
        made = preset(self.preset, **changes)
        reward = replace(made.reward, done_owner=self.done_owner)
        if self.shaping:
            reward = replace(reward, shaping=shaping_preset(self.shaping, gamma=made.gamma))
        return replace(made, reward=reward)

    def _environments(self, preset: Preset) -> tuple[Any, Any, Any]:
        from robo_reward.policies.improve import make_env, reward_env

        source, model = self._source(preset)
        encoder = getattr(model, "visual_features", None)
        if preset.observes == "features" and encoder is None:
            raise ConfigError(f"model {self.model!r} gives no visual features; --observes state")
        bare = make_env(preset, encoder=encoder)
        judged = make_env(
            preset,
            encoder=encoder,
            render_mode="rgb_array",
            terminate_on_success=self.done_owner == "env",
        )
        options = {"patience_s": self.timeout}
        return reward_env(judged, source, preset, **options), bare, source

    def _source(self, preset: Preset) -> tuple[Source, RewardModel | None]:
        from robo_reward.client import connect, local

        model = None
        if self.node is None or preset.observes == "features":
            from robo_reward.models import load_model

            model = load_model(self.model, device=self.device)
        if self.node is not None:
            wait_s = min(self.timeout, 10.0)
            return connect(self.node, connect_timeout_s=wait_s, keys=self.keys), model
        assert model is not None
        return local(model), model

    def _card(self, preset: Preset) -> dict[str, Any]:
        return {
            "preset": self.preset,
            "algorithm": preset.algorithm,
            "env_id": preset.env_id,
            "job": preset.job,
            "observes": preset.observes,
            "model": self.model,
        }


def _teller(update_to: Callable[..., None]) -> Callable[[IterationRow], None]:
    def tell(row: IterationRow) -> None:
        note = f"model return {row.model_return:.1f}  done {row.model_done_rate:.0%}"
        update_to(row.iteration, note=note if row.iteration else None)

    return tell
