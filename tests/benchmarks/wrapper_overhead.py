"""What wrapping an environment leaves of a policy's training speed, side by side in one run.

    python tests/benchmarks/wrapper_overhead.py --seconds 20 --json

SAC trains on Pendulum, one update per environment step: ``bare`` with the environment's own reward
and the stock buffer, then through ``VecVisualReward`` in each mode with a model that takes
``--latency-ms`` per batch and leaves the CPU idle, as a model on a GPU does. The modes take turns
in short rounds, so that a neighbour on the machine hits all of them; the median round is reported.
``cpu_ms`` is the processor time of a step, which a neighbour hardly changes: what the wrapper
itself costs is the difference to ``bare``, the rest of what is lost is waiting for the model.
Where a step of all environments is shorter than the model's latency, pipelined mode is bounded by
the model (``bound``, printed beside it), whoever wraps it.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv

from robo_reward.client.local import LocalSource
from robo_reward.frames import Image
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.policies.buffers import attach, replay_buffer_class
from robo_reward.policies.vec_reward import make_vec_reward

MODES = ("sync", "pipelined", "deferred")
ROUNDS = 4


class Camera:
    """Draws a picture of the pendulum's angle; every picture is new."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = 0

    def __call__(self, env: Any) -> Image:
        self._count += 1
        upright = (np.cos(env.unwrapped.state[0]) + 1) / 2
        return paint(float(upright), 0.0, size=self._size, salt=self._count)


def make_model(mode: str, *, envs: int, size: int, latency_s: float) -> tuple[SAC, LocalSource]:
    """Return an algorithm with its environment, and the source to close."""
    makers: list[Callable[[], Any]] = [lambda: gymnasium.make("Pendulum-v1")] * envs
    source = LocalSource(OraclePixels(fixed_s=latency_s))
    options: dict[str, Any] = {}
    if mode == "bare":
        env: Any = DummyVecEnv(makers)
    else:
        env = make_vec_reward(
            makers,
            source,
            cameras={"front": Camera(size)},
            instruction="swing the pendulum up",
            mode=mode,
            shaping="potential",
        )
        options["replay_buffer_class"] = replay_buffer_class(env.observation_space)
    model = SAC(
        "MlpPolicy",
        env,
        learning_starts=4 * envs,
        gradient_steps=-1,
        buffer_size=20_000,
        device="cpu",
        seed=0,
        **options,
    )
    if mode != "bare":
        attach(model)
    return model, source


def measure(model: SAC, *, seconds: float) -> tuple[float, float]:
    """Train for about this long; returns environment steps per second, CPU seconds per step."""
    start, busy = time.perf_counter(), time.process_time()
    steps = 0
    while time.perf_counter() - start < seconds:
        before = model.num_timesteps
        model.learn(8 * model.n_envs, reset_num_timesteps=False)
        steps += model.num_timesteps - before
    return steps / (time.perf_counter() - start), (time.process_time() - busy) / steps


def run(args: argparse.Namespace) -> dict[str, Any]:
    settings = {"envs": args.envs, "size": args.size, "latency_s": args.latency_ms / 1e3}
    made = {mode: make_model(mode, **settings) for mode in ("bare", *MODES)}
    for model, _ in made.values():
        model.learn(8 * args.envs)
    rounds: dict[str, list[tuple[float, float]]] = {mode: [] for mode in made}
    for _ in range(ROUNDS):
        for mode, (model, _) in made.items():
            rounds[mode].append(measure(model, seconds=args.seconds / ROUNDS))
    result: dict[str, Any] = {
        "envs": args.envs,
        "latency_ms": args.latency_ms,
        "frame_px": args.size,
        "machine": f"{platform.machine()} python {platform.python_version()}",
    }
    bare = statistics.median(rate for rate, _ in rounds["bare"])
    for mode, values in rounds.items():
        rate = statistics.median(rate for rate, _ in values)
        cpu_s = statistics.median(cpu for _, cpu in values)
        result[f"{mode}_steps_per_s"] = round(rate, 2)
        result[f"{mode}_kept"] = round(rate / bare, 3)
        result[f"{mode}_cpu_ms"] = round(1e3 * cpu_s, 3)
    # One batch per step of all environments and one batch at a time: no wrapper can be faster.
    result["bound"] = round(min(1.0, args.envs / (args.latency_ms / 1e3) / bare), 3)
    for model, source in made.values():
        if model.env is not None:
            model.env.close()
        source.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--envs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each mode")
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--size", type=int, default=96, help="side of a frame, pixels")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = run(args)
    for mode in ("bare", *MODES):
        rate, kept, cpu = (result[f"{mode}_{key}"] for key in ("steps_per_s", "kept", "cpu_ms"))
        print(f"{mode:10s} {rate:8.1f} steps/s  kept {kept:.3f}  {cpu:.2f} ms CPU a step")
    print(f"bound by the model: {result['bound']:.3f}")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
