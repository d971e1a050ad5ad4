"""Training data of the table-top suite on disk: shards of frames with the facts of every frame.

A shard is three files: frames ``(N, S, S, 3) uint8``, facts ``(N, 30) float32`` and a msgpack list
of rollouts. Frames are memory-mapped when read. A shard is complete when its list exists, which is
written last, so that a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from robo_reward.envs.experts.record import draw_kind, roll_out
from robo_reward.envs.experts.seeds import SEED_BASES
from robo_reward.envs.tabletop.env import TabletopEnv
from robo_reward.envs.tabletop.goal import Goal
from robo_reward.envs.tabletop.spec import SceneSpec
from robo_reward.errors import DatasetError

EPISODES_PER_SHARD = 200
CAMERA = "front"
SIZE = 96
"""Side of the frames where nothing else is asked for, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One rollout of a shard, without its frames.

    Attributes:
        start: Index of its first frame in the shard.
        length: Number of frames.
        spec: The scene.
        goal: What the instruction asks for.
        instruction: The sentence.
        kind: Behaviour that was recorded.
        seed: Seed that gives it again.
    """

    start: int
    length: int
    spec: SceneSpec
    goal: Goal
    instruction: str
    kind: str
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A shard that was read; the frames stay on disk."""

    frames: NDArray[np.uint8]
    facts: NDArray[np.float32]
    entries: list[Entry]


def generate(
    folder: Path,
    *,
    episodes: int,
    seed: int = 0,
    split: str = "train",
    image_size: int = SIZE,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Record rollouts into shards; complete shards are left as they are.

    Args:
        folder: Where the shards go.
        episodes: How many, rounded up to whole shards.
        seed: Number of the set.
        split: Split of the suite.
        image_size: Side of the frames, pixels.
        workers: Processes that record.
        progress: Called with (shards done, shards in all).

    Returns:
        The paths of the shards' lists, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-episodes // EPISODES_PER_SHARD)
    size = "" if image_size == SIZE else f"-{image_size}px"
    paths = [folder / f"{split}-{seed}-{index:04d}{size}.msgpack" for index in range(count)]
    todo = [index for index, path in enumerate(paths) if not path.exists()]
    done = count - len(todo)
    if progress is not None:
        progress(done, count)
    # Spawned, not forked: a forked child would share the parent's OpenGL and torch threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(_record_shard, str(paths[index]), index, seed, split, image_size)
            for index in todo
        ]
        for job in as_completed(jobs):
            job.result()
            done += 1
            if progress is not None:
                progress(done, count)
    return paths


def read_shard(path: Path) -> Shard:
    """Read a shard; raises ``DatasetError`` when a file is missing or does not fit the others."""
    try:
        entries = msgspec.msgpack.decode(path.read_bytes(), type=list[Entry])
        frames = np.load(path.with_suffix(".frames.npy"), mmap_mode="r", allow_pickle=False)
        facts = np.load(path.with_suffix(".facts.npy"), allow_pickle=False)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise DatasetError(f"shard {path}: {error}; delete it and run the command again") from error
    if not len(frames) == len(facts) == sum(entry.length for entry in entries):
        raise DatasetError(f"shard {path}: its files disagree in length; delete it and run again")
    return Shard(frames, facts, entries)


def read_folder(folder: Path, *, split: str = "train") -> list[Shard]:
    """Read the shards of a split that are there.

    Raises:
        DatasetError: There is none, or one is broken.
    """
    paths = sorted(folder.glob(f"{split}-*.msgpack"))
    if not paths:
        raise DatasetError(
            f"{folder} holds no rollouts ({split}-*.msgpack); train-reward makes them"
        )
    return [read_shard(path) for path in paths]


def _record_shard(path: str, index: int, seed: int, split: str, image_size: int) -> None:
    env = TabletopEnv("all", split=split, image_size=image_size, cameras=(CAMERA,))  # type: ignore[arg-type]
    entries: list[Entry] = []
    frames, facts = [], []
    start = 0
    first = SEED_BASES[split] + seed * 1_000_000 + index * EPISODES_PER_SHARD
    for number in range(first, first + EPISODES_PER_SHARD):
        kind = draw_kind(np.random.default_rng([number, 3]))
        rollout = roll_out(env, seed=number, kind=kind)
        length = len(rollout.facts)
        entries.append(
            Entry(
                start=start,
                length=length,
                spec=rollout.spec,
                goal=rollout.goal,
                instruction=rollout.instruction,
                kind=kind,
                seed=number,
            )
        )
        start += length
        frames.append(rollout.images[CAMERA])
        facts.append(rollout.facts)
    env.close()
    _write(Path(path), np.concatenate(frames), np.concatenate(facts), entries)


def _write(
    path: Path, frames: NDArray[np.uint8], facts: NDArray[np.float32], entries: list[Entry]
) -> None:
    np.save(path.with_suffix(".frames.npy"), frames)
    np.save(path.with_suffix(".facts.npy"), facts)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.msgpack.encode(entries))
    os.replace(part, path)
