"""MCAP and rosbag2 with ROS 2 images as a dataset: each bag is one episode.

Frames are those of the first camera; of every other camera, and of states and actions, the newest
message at or before that time stands beside them, so that nothing of the future gets in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError
from robo_reward.frames import Frame

from .bags import Topic, open_bag
from .episode import Episode
from .recorded import Dataset, Files, Instant, Recorded
from .ros_messages import COMPRESSED, IMAGES, VECTORS, frame_of, row_of, stamp_of

_SENTENCE = "std_msgs/msg/String"
_SENTENCE_WORDS = ("instruction", "language", "prompt", "task")


class RosEpisode(Recorded):
    """One bag: a folder of rosbag2, or an MCAP file."""

    def __init__(self, path: Path, *, id: str, index: int) -> None:
        self.path = path
        super().__init__(id=id, index=index)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Image topics without depth, and without the compressed twin of a raw one."""
        names = {topic.name for topic in self._topics if topic.kind in IMAGES}
        return tuple(
            topic.name
            for topic in self._topics
            if topic.name in names
            and "depth" not in topic.name.lower()
            and not (topic.kind == COMPRESSED and _raw_twin(topic.name) in names)
        )

    @property
    def instruction(self) -> str:
        """The first message of a string topic that is called instruction, task or the like."""
        names = [
            topic.name
            for topic in self._topics
            if topic.kind == _SENTENCE and any(w in topic.name.lower() for w in _SENTENCE_WORDS)
        ]
        if not names:
            return ""
        with open_bag(self.path) as bag:
            for _, _, message in bag.messages(names[:1]):
                return str(message.data)
        return ""

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Decode the frames of the first camera and the newest of the others beside them."""
        waiting: dict[str, tuple[Topic, int, Any]] = {}
        newest: dict[str, Frame] = {}
        counts = dict.fromkeys(cameras, 0)
        index = -1
        with open_bag(self.path) as bag:
            for topic, log_ns, message in bag.messages(cameras):
                name = topic.name
                counts[name] += 1
                waiting[name] = topic, log_ns, message
                # Until every camera has shown something there is no instant.
                if name != cameras[0] or not waiting.keys() | newest.keys() >= counts.keys():
                    continue
                index += 1
                if index < start or index % every:
                    continue
                for each, (kind, at_ns, what) in waiting.items():
                    newest[each] = frame_of(
                        what,
                        kind.kind,
                        camera=each,
                        sequence=counts[each] - 1,
                        stamp_ns=stamp_of(what, log_ns=at_ns),
                    )
                waiting.clear()
                frames = tuple(newest[each] for each in cameras)
                yield Instant(index=index, frames=frames, stamp_ns=log_ns)

    def aligned(self, stamps_ns: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        """Return topic → ``(n, d)``: the newest state or action at or before each time; NaN before.

        Raises:
            DatasetError: A topic changes the length of its messages.
        """
        names = [topic.name for topic in self._topics if topic.kind in VECTORS]
        times: dict[str, list[int]] = {name: [] for name in names}
        rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
        with open_bag(self.path) as bag:
            for topic, log_ns, message in bag.messages(names):
                times[topic.name].append(log_ns)
                rows[topic.name].append(row_of(message, topic.kind))
        found = {}
        for name in names:
            if not rows[name]:
                continue
            if len({len(row) for row in rows[name]}) > 1:
                raise DatasetError(f"{self.path}: {name} changes its length")
            place = np.searchsorted(np.array(times[name]), stamps_ns, side="right") - 1
            table = np.stack(rows[name])[place]
            table[place < 0] = np.nan
            found[name] = table
        return found

    def load(self, *, every: int = 1) -> Episode:
        """Read it whole; a topic with "action" in its name becomes the actions."""
        episode = super().load(every=every)
        stamps = [i.stamp_ns or 0 for i in self.instants(self.cameras, every=every)]
        vectors = self.aligned(stamps)
        action = next((rows for name, rows in vectors.items() if "action" in name.lower()), None)
        return Episode(
            id=episode.id,
            instruction=self.instruction,
            images=episode.images,
            # What was sent between two frames is what stands at the later one.
            actions=None if action is None else action[1:].astype(np.float32),
            meta={"wall_ns": stamps, "aligned": vectors},
        )

    @cached_property
    def _topics(self) -> tuple[Topic, ...]:
        with open_bag(self.path) as bag:
            return bag.topics


class RosDataset(Dataset):
    """A bag, or a folder of bags.

    Raises:
        DatasetError: There is none.
    """

    kind = "mcap"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.is_file() or is_rosbag2(path):
            self.paths = [path]
        else:
            self.paths = sorted(p for p in path.iterdir() if p.suffix == ".mcap" or is_rosbag2(p))
        if not self.paths:
            raise DatasetError(f"{path} holds no bags")
        self.kind = "rosbag2" if self.paths[0].is_dir() else "mcap"

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the bags without reading them."""
        for index, path in enumerate(self.paths):
            yield RosEpisode(path, id=path.name.removesuffix(".mcap"), index=index)

    def __len__(self) -> int:
        """Number of bags."""
        return len(self.paths)

    def files(self) -> Files:
        """All files of the bags."""
        root = self.path if self.path.is_dir() else self.path.parent
        found: list[Path] = []
        for path in self.paths:
            found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return Files(root, found)


def _raw_twin(name: str) -> str:
    twin = name.removesuffix("/compressed")
    return twin if twin != name else ""


def is_rosbag2(path: Path) -> bool:
    """Whether this is a folder as ``ros2 bag record`` leaves it."""
    return (path / "metadata.yaml").is_file()
