"""How often each scripted behaviour of the suite ends with the goal reached.

    python tests/benchmarks/experts.py --episodes 100 --json

The simulator's own check judges. Experts are recorded with the noise that training data has; seeds
are of the ``seen`` split. ``--picture`` writes one row of frames for each family.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from robo_reward.envs.experts.behaviour import KINDS
from robo_reward.envs.experts.record import roll_out
from robo_reward.envs.experts.seeds import SEED_BASES
from robo_reward.envs.tabletop.env import TabletopEnv
from robo_reward.envs.tabletop.tasks import FAMILIES

FIRST_SEED = SEED_BASES["seen"] + 700_000


def success_rate(families: tuple[str, ...], kind: str, episodes: int) -> tuple[float, float]:
    """Return the share of episodes that end in success, and their mean length in steps."""
    env = TabletopEnv(families, split="seen")
    ends, lengths = [], []
    for index in range(episodes):
        rollout = roll_out(env, seed=FIRST_SEED + index, kind=kind, images=False)
        ends.append(bool(rollout.judge(rollout.goal)[1][-1]))
        lengths.append(len(rollout.actions))
    env.close()
    return float(np.mean(ends)), float(np.mean(lengths))


def picture(path: Path, *, columns: int = 6, size: int = 128) -> None:
    """Draw an expert's episode of each family, ``columns`` moments in a row."""
    rows = []
    for family in FAMILIES:
        env = TabletopEnv((family,), split="seen", image_size=size, looks=family != "reach")
        rollout = roll_out(env, seed=FIRST_SEED + 5, kind="expert")
        frames = rollout.images["front"]
        moments = np.linspace(0, len(frames) - 1, columns).astype(int)
        rows.append(np.concatenate(list(frames[moments]), axis=1))
        env.close()
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="write a picture of the suite here and stop")
    args = parser.parse_args()
    if args.picture:
        picture(args.picture)
        print(args.picture)
        return
    experts, kinds = {}, {}
    for family in FAMILIES:
        rate, steps = success_rate((family,), "expert", args.episodes)
        experts[family] = {"success": rate, "steps": steps}
        print(f"{family:14s} expert       {rate:.2f}  {steps:.0f} steps", flush=True)
    for kind in KINDS:
        rate, steps = success_rate(tuple(FAMILIES), kind, args.episodes)
        kinds[kind] = {"success": rate, "steps": steps}
        print(f"{'all':14s} {kind:12s} {rate:.2f}  {steps:.0f} steps", flush=True)
    if args.json:
        print(json.dumps({"episodes": args.episodes, "experts": experts, "kinds": kinds}))


if __name__ == "__main__":
    main()
