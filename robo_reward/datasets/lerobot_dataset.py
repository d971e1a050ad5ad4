"""LeRobot datasets v2.1 and v3.0: parquet tables, videos, and JSON beside them.

Read by their layout and not through LeRobot's package, which pins other versions of half of what
this project uses. A frame of an episode is found by its time in the video.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robo_reward.errors import DatasetError, require
from robo_reward.frames import Frame, Image

from .pyav import read_frames
from .recorded import Dataset, Files, Instant, Recorded, Truth

VERSIONS = ("v2.1", "v3.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an episode stands.

    Attributes:
        number: ``episode_index``.
        length: Number of frames.
        tasks: Sentences.
        data: Table file.
        videos: Camera → video file.
        starts_s: Camera → time of its first frame in that file, seconds.
    """

    number: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: dict[str, Path] = field(default_factory=dict)
    starts_s: dict[str, float] = field(default_factory=dict)


class LeRobotEpisode(Recorded):
    """One episode.

    Attributes:
        place: Where it stands.
    """

    def __init__(self, place: Place, *, index: int, info: dict[str, Any]) -> None:
        self.place = place
        self._info = info
        super().__init__(
            id=f"episode_{place.number:06d}",
            index=index,
            length=place.length,
            instruction=place.tasks[0] if place.tasks else "",
        )

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the image and video features."""
        return tuple(camera_keys(self._info))

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Decode the cameras side by side."""
        first = -(-start // every) * every
        streams = [self._stream(camera, first) for camera in cameras]
        fps = float(self._info["fps"])
        for index in range(first, self.place.length):
            images = [next(stream, None) for stream in streams]
            if any(image is None for image in images):
                raise DatasetError(
                    f"{self.id}: {self.place.length} frames in the table, {index} in a video"
                )
            if index % every:
                continue
            stamp = round(index / fps * 1e9)
            yield Instant(
                index=index,
                frames=tuple(
                    Frame.of(image, camera=name, sequence=index, mono_ns=stamp, wall_ns=stamp)
                    for name, image in zip(cameras, images, strict=True)
                    if image is not None
                ),
                stamp_ns=stamp,
            )

    def truth(self) -> Truth:
        """``next.reward``, ``next.done`` and ``next.success`` where the dataset has them."""
        names = [n for n in ("next.reward", "next.done", "next.success") if n in self._columns]
        rows = read_rows(self.place, columns=names) if names else {}
        success = rows.get("next.success")
        return Truth(
            success=None if success is None else bool(np.any(np.asarray(success))),
            rewards=_flat(rows.get("next.reward"), np.float64),
            dones=_flat(rows.get("next.done"), np.bool_),
        )

    @cached_property
    def _columns(self) -> frozenset[str]:
        return frozenset(self._info.get("features", {}))

    def _stream(self, camera: str, first: int) -> Iterator[Image]:
        video = self.place.videos.get(camera)
        if video is None:
            return self._images(camera, first)
        start = self.place.starts_s.get(camera, 0.0) + first / float(self._info["fps"])
        return (image for _, image in read_frames(video, start_s=start))

    def _images(self, camera: str, first: int) -> Iterator[Image]:
        """Images that stand in the table itself, or in files that it names."""
        import io

        pil: Any = require("PIL.Image", extra="viz")
        for entry in read_rows(self.place, columns=[camera])[camera][first:]:
            data = entry["bytes"]
            source = io.BytesIO(data) if data else self.place.data.parent / entry["path"]
            try:
                yield np.asarray(pil.open(source).convert("RGB"))
            except OSError as error:
                raise DatasetError(f"{self.id}: an image of {camera}: {error}") from error


class LeRobotDataset(Dataset):
    """A folder with ``meta/info.json``.

    Raises:
        DatasetError: It is none, or of a version that is not read.
    """

    kind = "lerobot"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self.info: dict[str, Any] = json.loads((path / "meta" / "info.json").read_text())
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} is no LeRobot dataset: {error}") from error
        self.version = str(self.info.get("codebase_version"))
        if self.version not in VERSIONS:
            raise DatasetError(
                f"{path} is LeRobot {self.version}, read are {' and '.join(VERSIONS)}; "
                "LeRobot's own converter brings it there"
            )

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the episodes; only the tables of ``meta`` are read."""
        for index, place in enumerate(self.places):
            yield LeRobotEpisode(place, index=index, info=self.info)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.places)

    def files(self) -> Files:
        """All files."""
        return Files(self.path, sorted(p for p in self.path.rglob("*") if p.is_file()))

    @cached_property
    def places(self) -> list[Place]:
        """Where every episode stands, in the order of their numbers."""
        made = self._v3() if self.version == "v3.0" else self._v21()
        return sorted(made, key=lambda place: place.number)

    def _v21(self) -> Iterator[Place]:
        cameras = [key for key in camera_keys(self.info) if self._is_video(key)]
        size = int(self.info.get("chunks_size", 1000))
        for row in _json_lines(self.path / "meta" / "episodes.jsonl"):
            number = int(row["episode_index"])
            names = {"episode_chunk": number // size, "episode_index": number}
            yield Place(
                number=number,
                length=int(row["length"]),
                tasks=tuple(map(str, row.get("tasks", ()))),
                data=self.path / self.info["data_path"].format(**names),
                videos={
                    key: self.path / self.info["video_path"].format(video_key=key, **names)
                    for key in cameras
                },
            )

    def _v3(self) -> Iterator[Place]:
        parquet: Any = require("pyarrow.parquet", extra="data")
        cameras = [key for key in camera_keys(self.info) if self._is_video(key)]
        files = sorted((self.path / "meta" / "episodes").rglob("*.parquet"))
        if not files:
            raise DatasetError(f"{self.path} has no tables in meta/episodes")
        wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        for key in cameras:
            wanted += [
                f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")
            ]
        for file in files:
            for row in parquet.read_table(file, columns=wanted).to_pylist():
                yield self._place_v3(row, cameras)

    def _place_v3(self, row: dict[str, Any], cameras: Sequence[str]) -> Place:
        def path(template: str, prefix: str, **names: str) -> Path:
            chunk, number = row[f"{prefix}/chunk_index"], row[f"{prefix}/file_index"]
            filled = template.format(chunk_index=chunk, file_index=number, **names)
            return self.path / filled

        return Place(
            number=int(row["episode_index"]),
            length=int(row["length"]),
            tasks=tuple(map(str, row["tasks"] or ())),
            data=path(self.info["data_path"], "data"),
            videos={
                key: path(self.info["video_path"], f"videos/{key}", video_key=key)
                for key in cameras
            },
            starts_s={key: float(row[f"videos/{key}/from_timestamp"]) for key in cameras},
        )

    def _is_video(self, key: str) -> bool:
        return bool(self.info["features"][key]["dtype"] == "video")


def camera_keys(info: dict[str, Any]) -> list[str]:
    """Return the keys of the features that are images, in the order of the file."""
    features = info.get("features", {})
    return [key for key, what in features.items() if what.get("dtype") in ("image", "video")]


def read_rows(place: Place, *, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of one episode.

    Raises:
        DatasetError: The table is broken.
    """
    parquet: Any = require("pyarrow.parquet", extra="data")
    arrow: Any = require("pyarrow", extra="data")
    try:
        table = parquet.read_table(
            place.data, columns=list(columns), filters=[("episode_index", "=", place.number)]
        )
    except (OSError, arrow.ArrowException) as error:
        raise DatasetError(f"{place.data}: {error}") from error
    rows: dict[str, list[Any]] = table.to_pydict()
    return rows


def _flat(values: list[Any] | None, kind: type[Any]) -> Any:
    return None if values is None else np.asarray(values).reshape(len(values)).astype(kind)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
