"""The verbs: one line each, nothing imported until a verb is called."""

from __future__ import annotations

VERBS: dict[str, tuple[str, str, str]] = {
    "demo": (
        "robo_reward.cli.demo",
        "Demo",
        "improve a policy on the model's reward: camera node, reward node, learner",
    ),
    "doctor": ("robo_reward.cli.doctor", "Doctor", "what works on this machine"),
    "models": ("robo_reward.cli.models", "Models", "which reward models there are, and their cost"),
    "score": ("robo_reward.cli.score", "Score", "the signals of one video"),
    "relabel": ("robo_reward.cli.relabel", "Relabel", "dense labels for a recorded dataset"),
    "eval-reward": (
        "robo_reward.cli.eval_reward",
        "EvalReward",
        "figures of reward models on episodes with truth, and a report",
    ),
    "train-reward": (
        "robo_reward.cli.train_reward",
        "TrainReward",
        "record the suite and train the compact reward model",
    ),
    "adapt": (
        "robo_reward.cli.adapt",
        "Adapt",
        "teach a reward model a new task from a few demonstrations",
    ),
    "calibrate": (
        "robo_reward.cli.calibrate",
        "Calibrate",
        "make done a probability, and choose where the gate stands",
    ),
    "train-policy": (
        "robo_reward.cli.train_policy",
        "TrainPolicy",
        "clone a policy and improve it on a model's reward",
    ),
    "eval-policy": (
        "robo_reward.cli.eval_policy",
        "EvalPolicy",
        "how often a saved policy truly succeeds",
    ),
    "serve": ("robo_reward.cli.serve", "Serve", "a reward node, until it is told to stop"),
    "camera": ("robo_reward.cli.camera", "Camera", "stream a camera, a video or a scene"),
    "record": ("robo_reward.cli.record", "Record", "record cameras, actions and scores"),
    "monitor": ("robo_reward.cli.monitor", "Monitor", "rate, age and drops of camera streams"),
    "bench": (
        "robo_reward.cli.bench",
        "Bench",
        "whether a reward node keeps up with your cameras and control rate",
    ),
    "keys": ("robo_reward.cli.keys", "Keys", "key pairs, and lists of who may talk to whom"),
    "up": ("robo_reward.cli.up", "Up", "several nodes from one file, in one terminal"),
}
"""Name → (module, class, one line of help), in the order of the help."""
