"""The verbs: one line each, nothing imported until a verb is called."""

from __future__ import annotations

VERBS: dict[str, tuple[str, str, str]] = {
    "doctor": ("robo_reward.cli.doctor", "Doctor", "what works on this machine"),
    "models": ("robo_reward.cli.models", "Models", "which reward models there are, and their cost"),
    "score": ("robo_reward.cli.score", "Score", "the signals of one video"),
    "eval-reward": (
        "robo_reward.cli.eval_reward",
        "EvalReward",
        "figures of reward models on episodes with truth, and a report",
    ),
    "serve": ("robo_reward.cli.serve", "Serve", "a reward node, until it is told to stop"),
}
"""Name → (module, class, one line of help), in the order of the help."""
