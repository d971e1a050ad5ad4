"""Puts an episode that is already in memory on the disk, as a recording like any other.

So the episodes of a simulator that cannot share an environment with the model are recorded in the
one and scored in the other. Times are made up: states are ``PERIOD_NS`` apart from ``BEGIN_NS`` on,
so that the same episode gives the same file.
"""

from __future__ import annotations

from pathlib import Path

from robo_reward.frames import Frame
from robo_reward.protocol.stream import EndEvent, StartEvent, Tag

from .episode import Episode
from .log import LogWriter, TruthRecord

Plain = str | int | float | bool | None
BEGIN_NS = 1_000_000_000_000
PERIOD_NS = 100_000_000
OWN = frozenset({"frames", "wall_ns", "scores"})
"""What the reader adds to ``meta``; a copy of a recording does not carry that of the original."""
NO_CLOCK = "0" * 16
"""Name of a clock that no machine has."""


def log_episode(folder: Path, episode: Episode, *, jpeg_quality: int | None = None) -> Path:
    """Write an episode with its truth; ``LogReader`` gives it back.

    Args:
        folder: Made if need be. The file is called after the episode's id.
        episode: Of ``meta``, plain values, lists and mappings are kept.
        jpeg_quality: 1–100 stores frames as JPEG 4:2:0; ``None`` keeps their pixels.

    Returns:
        The file.

    Raises:
        DatasetError: The folder cannot be written to.
        OSError: The disk is full.
    """
    writer = LogWriter(folder, name=episode.id)
    try:
        _write(writer, episode, jpeg_quality)
    except BaseException:
        writer.abandon()
        raise
    return writer.close()


def _write(writer: LogWriter, episode: Episode, jpeg_quality: int | None) -> None:
    plain: dict[str, Plain] = {
        key: value for key, value in episode.meta.items() if isinstance(value, (str, int, float))
    }
    start = StartEvent(
        tag=Tag(),
        instruction=episode.instruction,
        meta=plain,
        mono_ns=BEGIN_NS,
        wall_ns=BEGIN_NS,
        clock=NO_CLOCK,
    )
    writer.start(start, local_ns=BEGIN_NS)
    writer.truth(_truth(episode), local_ns=BEGIN_NS)
    for step in range(len(episode)):
        at = BEGIN_NS + step * PERIOD_NS
        if step and episode.actions is not None:
            writer.action(episode.actions[step - 1], step=step, local_ns=at - PERIOD_NS // 2)
        for camera, images in episode.images.items():
            frame = Frame.of(
                images[step],
                camera=camera,
                sequence=step,
                mono_ns=at,
                wall_ns=at,
                jpeg_quality=jpeg_quality,
            )
            writer.frame(frame, local_ns=at, tag=Tag(step=step))
    end = EndEvent(
        tag=Tag(step=len(episode) - 1),
        success=episode.success,
        reason="recorded",
        mono_ns=at,
        wall_ns=at,
        clock=NO_CLOCK,
    )
    writer.end(end, local_ns=at)


def _truth(episode: Episode) -> TruthRecord:
    return TruthRecord(
        progress=None if episode.progress is None else [float(p) for p in episode.progress],
        done=None if episode.done is None else [bool(d) for d in episode.done],
        quality=episode.quality,
        meta={
            key: value
            for key, value in episode.meta.items()
            if isinstance(value, (list, tuple, dict)) and key not in OWN
        },
    )
