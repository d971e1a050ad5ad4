"""How fast the table-top suite renders: frames a second, steps and rendering together.

    python tests/benchmarks/render_speed.py --processes 2 --json

Each process steps one family with random actions and renders every step, as a camera node or a
recording does; the families take turns. OpenGL is whatever MUJOCO_GL gives (EGL on llvmpipe where
there is no GPU); ``--renderer rays`` needs none.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from multiprocessing.synchronize import Barrier as BarrierType
from typing import Any

FAMILIES = ("pick_place", "open_drawer", "press_button", "turn_lever")
BURST_STEPS = 60


def work(queue: Any, barrier: BarrierType, size: int, renderer: str, seconds: float) -> None:
    """Step and render until the time is up; report frames and frames per second of bursts."""
    os.environ.setdefault("LP_NUM_THREADS", "0")
    import numpy as np

    from robo_reward.envs import TabletopEnv

    env = TabletopEnv(FAMILIES, image_size=size, renderer=renderer, render_mode="rgb_array")
    rng = np.random.default_rng(os.getpid())
    env.reset(seed=0)
    env.render()
    barrier.wait()
    bursts, frames = [], 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        env.reset()
        began = time.perf_counter()
        for action in rng.uniform(-1, 1, (BURST_STEPS, 4)).astype(np.float32):
            env.step(action)
            env.render()
        bursts.append(BURST_STEPS / (time.perf_counter() - began))
        frames += BURST_STEPS
    env.close()
    queue.put((frames / seconds, max(bursts), float(np.median(bursts))))


def measure(*, processes: int, size: int, renderer: str, seconds: float) -> dict[str, float]:
    """Return total frames a second over all processes: mean, best and median bursts."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    barrier = context.Barrier(processes)
    workers = [
        context.Process(target=work, args=(queue, barrier, size, renderer, seconds))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    rows = [queue.get(timeout=120 + seconds) for _ in workers]
    for worker in workers:
        worker.join(timeout=30)
    mean, best, median = (sum(column) for column in zip(*rows, strict=True))
    return {"frames_per_s": mean, "best_frames_per_s": best, "median_frames_per_s": median}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--renderer", choices=("gl", "rays"), default="gl")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result: dict[str, object] = dict(
        measure(
            processes=args.processes, size=args.size, renderer=args.renderer, seconds=args.seconds
        )
    )
    result |= {
        "processes": args.processes,
        "size": args.size,
        "renderer": args.renderer,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "machine": platform.machine(),
    }
    if args.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:20s} {value}")


if __name__ == "__main__":
    main()
