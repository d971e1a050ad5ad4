"""``robo-reward eval-policy``: how often a saved policy truly succeeds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from robo_reward.errors import ConfigError, DatasetError, require

from .common import Common, Result

CARD = "policy.json"


@dataclass(frozen=True, kw_only=True)
class EvalPolicy(Common):
    """Play a saved policy in the bare environment and count true successes.

    The interval is the 95 % Wilson interval over all episodes of all seeds.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward eval-policy outputs/train-policy/mine --json",
        "robo-reward eval-policy outputs/train-policy/mine/policy_before.zip --seeds 1 2 3",
    )

    path: Annotated[Path, tyro.conf.Positional]
    """Folder of train-policy (its last policy), or one of the policies in it."""
    episodes: int = 100
    """Episodes of each seed."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the scenes."""
    deterministic: bool = True
    """Take the mean action, or draw one with the spread that the policy learned with."""
    device: str = "auto"
    """Where the encoder of a policy on features runs: auto, cpu, cuda or mps."""

    def run(self) -> Result:
        """Load and play."""
        require("stable_baselines3", extra="rl")
        import torch

        from robo_reward.policies.learners import load_policy
        from robo_reward.policies.rollout import Evaluation, evaluate

        if self.episodes < 1 or not self.seeds:
            raise ConfigError(f"--episodes and --seeds must be >= 1, got {self.episodes}")
        torch.set_num_threads(1)
        archive, card = _find(self.path)
        policy = load_policy(str(archive), card["algorithm"])
        total = self.episodes * len(self.seeds)
        with (
            self._environment(card) as env,
            self.console().bar("eval-policy", total=total, unit="ep") as bar,
        ):

            def play(seed: int) -> Evaluation:
                return evaluate(
                    policy,
                    env,
                    episodes=self.episodes,
                    seed=seed,
                    deterministic=self.deterministic,
                    on_episode=lambda _: bar.update(),
                )

            found = [play(seed) for seed in self.seeds]
        # Means weighted by what they are means of; a seed without a success has no steps.
        successes = sum(one.successes for one in found)
        steps = sum(one.steps * one.successes for one in found if one.successes)
        overall = Evaluation(
            episodes=total,
            successes=successes,
            steps=steps / successes if successes else float("nan"),
        )
        return {
            "policy": str(archive),
            **overall.as_dict(),
            "deterministic": self.deterministic,
            "seeds": list(self.seeds),
            "rates": [one.rate for one in found],
            "env": card["env_id"],
            "observes": card["observes"],
        }

    def _environment(self, card: dict[str, Any]) -> Any:
        from robo_reward.policies.improve import make_env
        from robo_reward.policies.presets import preset

        encoder = None
        if card["observes"] == "features":
            from robo_reward.models import load_model

            encoder = getattr(
                load_model(card["model"], device=self.device), "visual_features", None
            )
        trained = {key: card[key] for key in ("env_id", "job", "observes")}
        return make_env(preset(card["preset"], **trained), encoder=encoder)


def _find(path: Path) -> tuple[Path, dict[str, Any]]:
    archive = path / "policy_after.zip" if path.is_dir() else path
    card = archive.with_name(CARD)
    for needed in (archive, card):
        if not needed.is_file():
            raise DatasetError(
                f"there is no {needed}; give the folder that robo-reward train-policy wrote"
            )
    try:
        read: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{card} is no JSON: {error}") from error
    keys = ("preset", "algorithm", "env_id", "job", "observes", "model")
    if missing := [key for key in keys if key not in read]:
        raise DatasetError(f"{card} lacks {', '.join(missing)}; train-policy writes it")
    return archive, read
