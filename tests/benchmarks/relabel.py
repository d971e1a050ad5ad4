"""Relabelling against the model's bare rate, with 1 and 2 workers, and in bounded memory.

    python tests/benchmarks/relabel.py --rounds 5 --json

``rate``: frames/s of a labelling run (reading, hashing, encoding, scoring, journal) over that of
the model alone on the same frames, both in turns in one process, so that a neighbour hits both.
``cpu`` is the same ratio in processor time, which a neighbour hardly changes. ``workers``: seconds
of the processes with 1 and with 2 workers, starting up among them. ``memory``: greatest resident
size after a small and after a large synthetic dataset (``--gb``), in a process each. ``encodings``:
frames that are encoded for an episode, counted, against scoring every prefix by itself as the
field's scripts do, whole prefixes and at most 8 frames of each.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.datasets.formats import open_dataset
from robo_reward.datasets.recorded import Dataset, Files, Instant, Recorded
from robo_reward.frames import Frame
from robo_reward.models import load_model
from robo_reward.models.base import RewardModel
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.query import Query
from robo_reward.relabel import (
    Instructions,
    JudgeConfig,
    ModelJudge,
    RelabelOptions,
    finish,
    label_episodes,
)
from robo_reward.relabel.workers import Job, label_with_workers
from robo_reward.task import Task

SENTENCE = "put the red cube on the blue pad"
OPTIONS = RelabelOptions(instructions=Instructions(fallback=SENTENCE))


def write_hdf5(path: Path, *, episodes: int, frames: int, size: int) -> Path:
    """Raw images: reading them is never the limit."""
    import h5py

    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number in range(episodes):
            images = random.integers(0, 256, (frames, size, size, 3), np.uint8)
            file.create_dataset(f"data/demo_{number}/obs/front_image", data=images)
    return path


def bare_rate(model: RewardModel, dataset: Dataset) -> tuple[float, float]:
    """Frames/s of the model alone, and its processor seconds a frame; frames are made before."""
    task = Task(instruction=SENTENCE)
    episodes = []
    for episode in dataset:
        shots = [i.frames for i in episode.instants(episode.cameras)]
        episodes.append(
            [
                Query(task=task, newest=shots[t], reference=shots[t - 1] if t else (), step=t)
                for t in range(len(shots))
            ]
        )
    start, cpu = time.monotonic(), time.process_time()
    count = 0
    for queries in episodes:
        model.cache.clear()
        for first in range(0, len(queries), OPTIONS.batch):
            model.score(queries[first : first + OPTIONS.batch])
        count += len(queries)
    return count / (time.monotonic() - start), (time.process_time() - cpu) / count


def relabel_rate(model: RewardModel, dataset: Dataset) -> tuple[float, float]:
    """Frames/s of a whole labelling run, and its processor seconds a frame."""
    judge = ModelJudge(model)
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.monotonic(), time.process_time()
        tally = label_episodes(dataset, judge, OPTIONS, Path(folder), total=len(dataset))
        finish(dataset, judge, OPTIONS, Path(folder), fingerprint="0" * 32)
        took, used = time.monotonic() - start, time.process_time() - cpu
    return tally.frames / took, used / tally.frames


def rates(path: Path, *, rounds: int) -> dict[str, float]:
    """Median rates of both, in turns."""
    model = load_model("compact", device="cpu")
    dataset = open_dataset(path)
    bare_rate(model, dataset)  # warms up
    pairs = [(bare_rate(model, dataset), relabel_rate(model, dataset)) for _ in range(rounds)]
    model.close()
    return {
        "bare_frames_per_s": statistics.median(bare[0] for bare, _ in pairs),
        "relabel_frames_per_s": statistics.median(ours[0] for _, ours in pairs),
        "share": statistics.median(ours[0] / bare[0] for bare, ours in pairs),
        "share_of_cpu": statistics.median(bare[1] / ours[1] for bare, ours in pairs),
    }


def workers(path: Path, counts: Sequence[int]) -> dict[str, float]:
    """Seconds of a run with so many processes."""
    found = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            job = Job(
                dataset=str(path),
                options=OPTIONS,
                judge=JudgeConfig(model="compact", device="cpu"),
                folder=folder,
                total=len(open_dataset(path)),
            )
            start = time.monotonic()
            label_with_workers(job, workers=count)
            found[str(count)] = time.monotonic() - start
    return found


class SyntheticEpisode(Recorded):
    """Frames that are made when they are asked for, each unlike all others."""

    SHAPE = (480, 640, 3)

    def __init__(self, *, index: int, length: int) -> None:
        super().__init__(id=f"e{index}", index=index, length=length)

    @property
    def cameras(self) -> tuple[str, ...]:
        return ("front",)

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        for t in range(start, self.length or 0, every):
            image = np.zeros(self.SHAPE, np.uint8)
            image[0, :3, 0] = (t % 256, t // 256 % 256, self.index % 256)
            image[1, 0, 0] = self.index // 256
            frame = Frame.of(image, camera="front", sequence=t, mono_ns=0, wall_ns=0)
            yield Instant(index=t, frames=(frame,))


class Synthetic(Dataset):
    """A dataset of so many gigabytes that exists nowhere."""

    kind = "synthetic"

    def __init__(self, *, gb: float, frames: int = 500) -> None:
        super().__init__(Path("synthetic"))
        self._frames = frames
        self._episodes = max(1, round(gb * 1e9 / (frames * np.prod(SyntheticEpisode.SHAPE))))

    def __iter__(self) -> Iterator[Recorded]:
        for index in range(self._episodes):
            yield SyntheticEpisode(index=index, length=self._frames)

    def __len__(self) -> int:
        return self._episodes

    def files(self) -> Files:
        return Files(self.path)


def memory_of(gb: float) -> dict[str, float]:
    """Label a synthetic dataset in this process and say how much memory that took."""
    dataset, judge = Synthetic(gb=gb), ModelJudge(OraclePixels())
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = label_episodes(dataset, judge, OPTIONS, Path(folder), total=len(dataset))
        finish(dataset, judge, OPTIONS, Path(folder), fingerprint="0" * 32)
    return {
        "gb": gb,
        "frames": tally.frames,
        "seconds": time.monotonic() - start,
        "max_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def memory(sizes: Sequence[float]) -> list[dict[str, float]]:
    """The same in a fresh process for each size."""
    found = []
    for gb in sizes:
        command = [sys.executable, __file__, "--memory-of", str(gb)]
        done = subprocess.run(command, capture_output=True, check=True, timeout=7200)
        found.append(json.loads(done.stdout))
    return found


def encodings(frames: int) -> dict[str, float]:
    """Count the frames that are encoded for one episode."""
    episode = SyntheticEpisode(index=0, length=frames)
    model = OraclePixels()
    with tempfile.TemporaryDirectory() as folder:
        dataset = Synthetic(gb=frames * np.prod(SyntheticEpisode.SHAPE) / 1e9, frames=frames)
        label_episodes(dataset, ModelJudge(model), OPTIONS, Path(folder), total=1)
    shots = [instant.frames[0] for instant in episode.instants(("front",))]
    counts = {"relabel": model.encoded_frames}
    for name, most in (("whole_prefixes", frames), ("prefixes_of_8", 8)):
        other = OraclePixels()
        for t in range(frames):
            places = np.unique(np.linspace(0, t, min(most, t + 1)).round().astype(int))
            other.cache.clear()  # every prefix is a request of its own
            other.encode([shots[place] for place in places])
        counts[name] = other.encoded_frames
    return {
        "frames": frames,
        **counts,
        "fewer_than_whole_prefixes": counts["whole_prefixes"] / counts["relabel"],
        "fewer_than_prefixes_of_8": counts["prefixes_of_8"] / counts["relabel"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--gb", type=float, default=50.0)
    parser.add_argument("--memory-of", type=float, help="only this, in this process")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.memory_of is not None:
        print(json.dumps(memory_of(args.memory_of)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = write_hdf5(
            Path(folder) / "demos.hdf5", episodes=args.episodes, frames=args.frames, size=128
        )
        result: dict[str, Any] = {"rate": rates(path, rounds=args.rounds)}
        result["workers_s"] = workers(path, (1, 2))
    result["memory"] = memory((args.gb / 50, args.gb))
    result["encodings"] = encodings(100)
    result["machine"] = {"cpu": platform.processor() or platform.machine(), "python": sys.version}
    print(json.dumps(result, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
