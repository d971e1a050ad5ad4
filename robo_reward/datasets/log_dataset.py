"""Recordings of the recorder node as a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from robo_reward.errors import ConfigError, DatasetError
from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.payload import check_frame

from .episode import Episode
from .log_reader import (
    LogReader,
    Recording,
    Rows,
    instruction_of,
    read_recording,
    states_of,
    to_episode,
)
from .recorded import Dataset, Files, Instant, Recorded, Truth


class LogEpisode(Recorded):
    """One recording; the file is read, its frames not decoded, when something is asked of it.

    The frames keep the names that they had when they were recorded.
    """

    def __init__(self, path: Path, *, id: str, index: int) -> None:
        self.path = path
        super().__init__(id=id, index=index)

    @property
    def instruction(self) -> str:
        """What was asked; only the begin of the file is read for it."""
        return instruction_of(self.path)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names, in the order in which they appear in the file."""
        return tuple(self._states)

    def instants(
        self, cameras: Sequence[str], *, every: int = 1, start: int = 0
    ) -> Iterator[Instant]:
        """Decode one frame per state and camera."""
        chosen = [self._states[name] for name in cameras]
        for index in range(0, min(map(len, chosen)), every):
            if index < start:
                continue
            rows = [states[index] for states in chosen]
            try:
                for _, frame in rows:
                    check_frame(frame.header.shape, frame.header.encoding, frame.data)
            except (ConfigError, Refusal) as error:
                raise DatasetError(f"{self.path}: {error}") from error
            yield Instant(
                index=index,
                frames=tuple(frame for _, frame in rows),
                stamp_ns=rows[0][0].local_ns,
            )

    def truth(self) -> Truth:
        """The flag of the operator, and what a simulator knew."""
        recording = self._recording
        known = recording.truth
        dones = None if known is None or known.done is None else np.asarray(known.done, bool)
        end = recording.end
        return Truth(success=end.success if end is not None else None, dones=dones)

    def load(self, *, every: int = 1) -> Episode:
        """Read it whole, with its actions and scores; a stride is refused by those."""
        return to_episode(self._recording) if every == 1 else super().load(every=every)

    @cached_property
    def _recording(self) -> Recording:
        return read_recording(self.path)

    @cached_property
    def _states(self) -> dict[str, Rows]:
        if not self._recording.frames:
            raise DatasetError(f"{self.path} holds no frames")
        states = states_of(self._recording)
        length = min(len(rows) for rows in states.values())
        if not length:
            raise DatasetError(f"{self.path}: a camera has no frame for the first state")
        return {camera: rows[:length] for camera, rows in states.items()}


class LogDataset(Dataset):
    """A folder of recordings and its sub-folders, or one file.

    Raises:
        DatasetError: There is nothing of the kind.
    """

    kind = "log"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._paths = LogReader(path).paths
        self._root = path if path.is_dir() else path.parent

    def __iter__(self) -> Iterator[Recorded]:
        """Yield the recordings without reading them."""
        for index, path in enumerate(self._paths):
            name = path.relative_to(self._root).as_posix()
            yield LogEpisode(path, id=name.split(".mcap")[0], index=index)

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self._paths)

    def files(self) -> Files:
        """The recordings."""
        return Files(self._root, self._paths)
