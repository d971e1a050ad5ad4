"""Does uncertainty know what the model has not seen: ROC-AUC and abstentions, set by set.

    python tests/benchmarks/out_of_domain.py --recordings metaworld=DATA/metaworld --json

In domain are episodes of the table-top suite's ``unseen`` split; every other set is compared with
them. The limit of abstention is fitted on ``seen`` episodes (other seeds than any that was trained
on) as ``robo-reward calibrate --abstain 0.01`` does it, or is that of ``--calibration``. Made here,
with seeds of their own: gaussian noise, plain colours, photograph-like textures (1/f noise, some
with flat shapes on them), the in-domain frames behind a cover (half or more of the picture, from
one side: black, skin-like or any colour) and the same frames out of focus. ``--recordings
NAME=FOLDER`` adds a set of recorded episodes (``*.mcap``), each under its own instruction.
``auc_ensemble`` is what the ensemble alone would reach. Intervals: 95 %, bootstrap over episodes.
``--speed`` encodes and scores with and without the density in turns: the median ratio of rates.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.clips import clip_queries, episode_views
from robo_reward.datasets.episode import Episode
from robo_reward.datasets.log_reader import read_recording, to_episode
from robo_reward.envs.experts.record import record_episodes
from robo_reward.evaluate.ranks import roc_auc
from robo_reward.models import load_model
from robo_reward.models.calibration import Calibration
from robo_reward.models.compact import CompactModel
from robo_reward.query import Query
from robo_reward.task import Task
from robo_reward.training.abstention import fit_abstention

Pictures = NDArray[np.uint8]
SIZE = 96
CLIP = 10
"""Frames of a made-up episode."""
RESAMPLES = 300


# -- pictures that are made here ---------------------------------------------------------------


def noise(rng: np.random.Generator) -> Pictures:
    deviation = rng.uniform(10, 90)
    return rng.normal(128, deviation, (CLIP, SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)


def plain(rng: np.random.Generator) -> Pictures:
    colour = rng.integers(0, 256, (CLIP, 1, 1, 3)) + rng.normal(0, 2, (CLIP, SIZE, SIZE, 3))
    return colour.clip(0, 255).astype(np.uint8)


def texture(rng: np.random.Generator) -> Pictures:
    """A 1/f spectrum as photographs have it, correlated colours, a window that drifts over it."""
    side = 2 * SIZE
    axis = np.fft.fftfreq(side)
    frequency = np.hypot(axis[:, None], axis[None])
    frequency[0, 0] = frequency[0, 1]
    waves = np.fft.fft2(rng.standard_normal((3, side, side))) * frequency ** -rng.uniform(0.7, 2.2)
    layers = np.moveaxis(np.fft.ifft2(waves).real, 0, -1)
    picture = (layers / layers.std()) @ (np.eye(3) * rng.uniform() + rng.uniform(0, 1, (3, 3)))
    picture = (picture - picture.mean((0, 1))) / picture.std()
    picture = picture * rng.uniform(15, 70) + rng.uniform(60, 190, 3)
    for _ in range(int(rng.integers(0, 8))):
        top, left = rng.integers(0, side, 2)
        down, across = rng.integers(8, 60, 2)
        picture[top : top + down, left : left + across] = rng.uniform(0, 255, 3)
    start = rng.integers(0, side - SIZE - CLIP, 2)
    crops = [picture[y : y + SIZE, x : x + SIZE] for y, x in start + np.arange(CLIP)[:, None]]
    return np.stack(crops).clip(0, 255).astype(np.uint8)


def covered(frames: Pictures, rng: np.random.Generator) -> Pictures:
    """Half of the picture or more behind one thing that came in from one side."""
    colours = (np.zeros(3), np.array([150, 90, 70]) * rng.uniform(0.3, 1.3), rng.uniform(0, 255, 3))
    colour = colours[int(rng.integers(3))]
    depth = round(frames.shape[1] * rng.uniform(0.5, 1.0))
    turned = np.rot90(frames, turns := int(rng.integers(4)), (1, 2)).astype(np.float64)
    turned[:, :depth] = colour + rng.normal(0, 3, turned[:, :depth].shape)
    return np.rot90(turned, -turns, (1, 2)).clip(0, 255).astype(np.uint8)


def out_of_focus(frames: Pictures, rng: np.random.Generator) -> Pictures:
    """Three boxes, which come close to a gaussian of 4 to 8 pixels."""
    width = int(rng.integers(4, 8)) * 2 + 1
    blurred = frames.astype(np.float64)
    for axis in (1, 2, 1, 2, 1, 2):
        padded = np.concatenate(
            [np.repeat(blurred.take([0], axis), width // 2, axis), blurred,
             np.repeat(blurred.take([-1], axis), width // 2, axis)], axis)  # fmt: skip
        windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis)
        blurred = windows.mean(-1)
    return blurred.astype(np.uint8)


# -- sets --------------------------------------------------------------------------------------


def made(episodes: list[Episode], *, seed: int) -> Iterator[tuple[str, list[Episode]]]:
    """Yield name and episodes of each set that is made here."""
    for number, draw in enumerate((noise, plain, texture)):
        rng = np.random.default_rng([seed, number])
        texts = [episode.instruction for episode in episodes]
        yield draw.__name__, [_episode(text, draw(rng)) for text in texts]
    for number, spoil in enumerate((covered, out_of_focus)):
        rng = np.random.default_rng([seed, 10 + number])
        spoilt = [
            _episode(one.instruction, spoil(next(iter(one.images.values())), rng))
            for one in episodes
        ]
        yield spoil.__name__, spoilt


def recorded(folder: Path) -> list[Episode]:
    return [to_episode(read_recording(path)) for path in sorted(folder.rglob("*.mcap"))]


def _episode(instruction: str, pictures: Pictures) -> Episode:
    return Episode(id="made", instruction=instruction, images={"front": pictures})


def queries(episode: Episode, number: int) -> list[Query]:
    views = episode_views(episode)
    return clip_queries(views, Task(instruction=episode.instruction), clip=number)


def doubts(model: CompactModel, episodes: Iterable[Episode]) -> list[NDArray[np.float32]]:
    """Return the uncertainty of every frame, ``(T,)`` per episode, scored frame after frame."""
    return [
        model.score(queries(episode, number)).uncertainty for number, episode in enumerate(episodes)
    ]


# -- figures -----------------------------------------------------------------------------------


def auc(inside: list[NDArray[np.float32]], outside: list[NDArray[np.float32]]) -> float:
    known, foreign = np.concatenate(inside), np.concatenate(outside)
    labels = np.r_[np.zeros(len(known)), np.ones(len(foreign))]
    return float(roc_auc(np.r_[known, foreign], labels))


def interval(
    inside: list[NDArray[np.float32]], outside: list[NDArray[np.float32]], *, seed: int
) -> list[float]:
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        pick = [rng.integers(0, len(one), len(one)) for one in (inside, outside)]
        draws.append(auc([inside[i] for i in pick[0]], [outside[i] for i in pick[1]]))
    return [float(end) for end in np.quantile(draws, (0.025, 0.975))]


def share_above(episodes: list[NDArray[np.float32]], limit: float) -> float:
    return float((np.concatenate(episodes) > np.float32(limit)).mean())


def speed(name: str, episodes: list[Episode], *, rounds: int = 7) -> dict[str, float]:
    """Time encoding and scoring with the density and without, in turns, every frame anew."""
    rates: dict[str, list[float]] = {"with": [], "without": []}
    models = {kind: _load(name) for kind in rates}
    models["without"].density = None
    asked = [queries(episode, number) for number, episode in enumerate(episodes)]
    frames = sum(map(len, asked))
    for turn in range(rounds + 1):
        for kind, model in models.items():
            model.cache = type(model.cache)(capacity=model.cache.capacity)
            began = time.process_time()
            for batch in asked:
                model.score(batch)
            if turn:  # the first one warms up
                rates[kind].append(frames / (time.process_time() - began))
    ratios = [a / b for a, b in zip(rates["with"], rates["without"], strict=True)]
    return {
        "ratio": statistics.median(ratios),
        **{f"frames_per_cpu_s_{kind}": statistics.median(found) for kind, found in rates.items()},
    }


def _load(name: str) -> CompactModel:
    model = load_model(name, device="cpu")
    if not isinstance(model, CompactModel) or model.density is None:
        raise SystemExit(f"{name} is no compact model with a density")
    return model


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Score every set with the whole model and with its ensemble alone."""
    model, ensemble = _load(args.model), _load(args.model)
    ensemble.density = None
    inside = list(record_episodes("unseen", episodes=args.episodes, seed=args.seed))
    known, known_spread = doubts(model, inside), doubts(ensemble, inside)
    if args.calibration:
        fitted = Calibration.load(args.calibration)
        fitted.check(model=model.model_id, prompt=model.prompt_id)
        abstention = fitted.abstention
    else:
        familiar = doubts(model, record_episodes("seen", episodes=args.fit_episodes, seed=7))
        abstention = fit_abstention(familiar, asked=0.01, resamples=RESAMPLES, seed=0)
    if abstention is None:
        raise SystemExit("the episodes do not support a limit; take more")
    rows: dict[str, Any] = {}
    sets = list(made(inside, seed=args.seed))
    for pair in args.recordings:
        name, _, folder = pair.partition("=")
        sets.append((name, recorded(Path(folder))))
    for name, episodes in sets:
        foreign = doubts(model, episodes)
        rows[name] = {
            "auc": auc(known, foreign),
            "auc_interval": interval(known, foreign, seed=args.seed),
            "auc_ensemble": auc(known_spread, doubts(ensemble, episodes)),
            "abstained": share_above(foreign, abstention.limit),
            "episodes": len(episodes),
            "frames": sum(map(len, foreign)),
        }
    moved = np.concatenate(known) != np.concatenate(known_spread)
    return {
        "model": model.model_id,
        "limit": abstention.limit,
        "limit_asked": abstention.asked,
        "limit_rate": [abstention.rate.value, abstention.rate.low, abstention.rate.high],
        "in_domain": {
            "abstained": share_above(known, abstention.limit),
            "raised": float(moved.mean()),
            "episodes": len(inside),
            "frames": sum(map(len, known)),
        },
        "out_of_domain": rows,
        "speed": speed(args.model, inside[:20]) if args.speed else None,
        "seed": args.seed,
        "machine": platform.machine(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--episodes", type=int, default=100, help="of the unseen split")
    parser.add_argument("--fit-episodes", type=int, default=100, help="for the limit")
    parser.add_argument("--seed", type=int, default=1, help="of the sets")
    parser.add_argument("--calibration", type=Path, help="take the limit from this file")
    parser.add_argument("--recordings", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--speed", action="store_true", help="also what the density costs")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = measure(args)
    if args.json:
        print(json.dumps(result))
        return
    inside = result["in_domain"]
    print(f"{result['model']}  limit {result['limit']:.3f}  in domain: {inside}")
    for name, row in result["out_of_domain"].items():
        low, high = row["auc_interval"]
        print(
            f"{name:16s} AUC {row['auc']:.3f} [{low:.3f}, {high:.3f}]  ensemble alone "
            f"{row['auc_ensemble']:.3f}  abstained {row['abstained']:.1%} of {row['frames']}"
        )
    if result["speed"]:
        print(f"speed: {result['speed']}")


if __name__ == "__main__":
    main()
