"""LeRobot datasets in their layout, v2.1 and v3.0, written with pyarrow and PyAV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .recordings import PUSH, pictures

FPS = 10
CAMERAS = ("observation.images.front", "observation.images.wrist")


def film(path: Path, images: np.ndarray) -> None:
    """Lossless, so that the pixels still say their score."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=FPS, options={"qp": "0", "preset": "ultrafast"})
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "rgb24"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())


def features(*, reward: bool) -> dict[str, Any]:
    known: dict[str, Any] = {
        name: {"dtype": "video", "shape": [32, 32, 3], "names": ["height", "width", "channels"]}
        for name in CAMERAS
    }
    known["action"] = {"dtype": "float32", "shape": [2], "names": None}
    for name in ("timestamp",):
        known[name] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        known[name] = {"dtype": "int64", "shape": [1], "names": None}
    if reward:
        known["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    return known


def rows(number: int, frames: int, first: int, *, reward: bool) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "action": [[float(number), float(t)] for t in range(frames)],
        "timestamp": np.arange(frames, dtype=np.float32) / FPS,
        "frame_index": np.arange(frames),
        "episode_index": np.full(frames, number),
        "index": np.arange(first, first + frames),
        "task_index": np.zeros(frames, np.int64),
    }
    if reward:
        columns["next.reward"] = np.arange(frames, dtype=np.float32)
    return columns


def write(root: Path, lengths: list[int], *, version: str, reward: bool = False) -> Path:
    """A dataset of two cameras, the second one played backwards."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    starts = np.cumsum([0, *lengths]).tolist()
    films = [np.repeat(np.repeat(pictures(n, salt=k), 2, 1), 2, 2) for k, n in enumerate(lengths)]
    info: dict[str, Any] = {
        "codebase_version": version,
        "fps": FPS,
        "features": features(reward=reward),
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "chunks_size": 1000,
    }
    tables = [arrow.table(rows(k, n, starts[k], reward=reward)) for k, n in enumerate(lengths)]
    meta = root / "meta"
    meta.mkdir(parents=True)
    (meta / "stats.json").write_text(json.dumps({"action": {"mean": [0.0, 0.0]}}))
    if version == "v3.0":
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        (root / "data" / "chunk-000").mkdir(parents=True)
        parquet.write_table(arrow.concat_tables(tables), root / "data/chunk-000/file-000.parquet")
        film(root / "videos" / CAMERAS[0] / "chunk-000/file-000.mp4", np.concatenate(films))
        back = np.concatenate([one[::-1] for one in films])
        film(root / "videos" / CAMERAS[1] / "chunk-000/file-000.mp4", back)
        episodes: dict[str, Any] = {
            "episode_index": list(range(len(lengths))),
            "length": lengths,
            "tasks": [[PUSH]] * len(lengths),
            "data/chunk_index": [0] * len(lengths),
            "data/file_index": [0] * len(lengths),
        }
        for camera in CAMERAS:
            episodes[f"videos/{camera}/chunk_index"] = [0] * len(lengths)
            episodes[f"videos/{camera}/file_index"] = [0] * len(lengths)
            episodes[f"videos/{camera}/from_timestamp"] = [s / FPS for s in starts[:-1]]
        (meta / "episodes" / "chunk-000").mkdir(parents=True)
        parquet.write_table(arrow.table(episodes), meta / "episodes/chunk-000/file-000.parquet")
    else:
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = (
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        )
        (root / "data" / "chunk-000").mkdir(parents=True)
        lines = []
        for k, (n, images) in enumerate(zip(lengths, films, strict=True)):
            parquet.write_table(tables[k], root / f"data/chunk-000/episode_{k:06d}.parquet")
            for camera, shown in zip(CAMERAS, (images, images[::-1]), strict=True):
                film(root / f"videos/chunk-000/{camera}/episode_{k:06d}.mp4", shown)
            lines.append(json.dumps({"episode_index": k, "length": n, "tasks": [PUSH]}))
        (meta / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    (meta / "info.json").write_text(json.dumps(info))
    return root
