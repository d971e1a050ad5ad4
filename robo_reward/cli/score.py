"""``robo-reward score``: the signals of one video."""

from __future__ import annotations

import csv
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from robo_reward.errors import ConfigError, DatasetError, RewardLost

from .common import Common, Result
from .console import table
from .output import write_atomically

if TYPE_CHECKING:
    from robo_reward.client import Source
    from robo_reward.client.source import ModelInfo
    from robo_reward.datasets.video import VideoFrame
    from robo_reward.frames import Frame
    from robo_reward.signals import Score as Answer
    from robo_reward.task import Task

BATCH = 16
SHOWN_ROWS = 40

_log = logging.getLogger("robo_reward.score")


@dataclass(frozen=True, kw_only=True)
class Score(Common):
    """Score one video: progress, progress_delta, done, contrastive, uncertainty of every frame.

    Delta and contrastive compare each scored frame with the one scored before it.
    """

    examples: ClassVar[tuple[str, ...]] = (
        'robo-reward score run.mp4 --instruction "put the red cube on the blue pad"',
        'robo-reward score frames/ --instruction "open the drawer" --every 5 --csv signals.csv',
        'robo-reward score run.mp4 --instruction "push the cube" --overlay signals.mp4',
        'robo-reward score run.mp4 --instruction "push the cube" --node tcp://gpu:5601 --json',
    )

    video: Annotated[Path, tyro.conf.Positional]
    """A video file, or a folder of images in the order of their names."""
    instruction: str
    """What the robot was asked to do, in one sentence."""
    model: str = "compact"
    """Name, folder or hub id of the reward model; not used with --node."""
    goal: Path | None = None
    """Image of the goal, for a model that reads one."""
    demo: Path | None = None
    """Video or folder of images of a success, for a model that reads a demonstration."""
    node: str | None = None
    """Ask the reward node at this address instead of loading a model, e.g. tcp://host:5601."""
    keys: Path | None = None
    """Folder of keys (robo-reward keys), where --node asks for them."""
    every: int = 1
    """Score each n-th frame only."""
    calibration: Path | None = None
    """File of robo-reward calibrate for --model."""
    abstain_above: float | None = None
    """Uncertainty above which --model gives no score; not given: the calibration's limit."""
    device: str = "auto"
    """Where the model runs: auto, cpu, cuda or mps."""
    timeout: float = 60.0
    """Give up after this many seconds without an answer."""
    csv: Path | None = None
    """Also write one line a frame to this file."""
    overlay: Path | None = None
    """Also write a film of the video beside its growing curves: a .mp4 or a .gif."""
    yes: bool = False
    """Write over a file that is there."""

    def run(self) -> Result:
        """Read, score and tabulate the video."""
        from robo_reward.datasets.video import count_frames, read_video
        from robo_reward.task import Task

        if self.timeout <= 0:
            raise ConfigError(f"--timeout must be > 0 seconds, got {self.timeout:g}")
        _check_target(self.csv, overwrite=self.yes)
        _check_target(self.overlay, overwrite=self.yes, suffixes=(".mp4", ".gif"))
        task = Task(instruction=self.instruction, goal=self._goal(), demo=self._demo())
        frames = read_video(self.video, every=self.every)
        total = -(-count_frames(self.video) // self.every)
        with (
            self._open_source() as source,
            self.console().bar("score", total=total, unit="frames") as bar,
        ):
            info = source.info()
            _check_shown(info, task)
            rows = []
            film = Film()
            for read, row in self._score(source, task, frames):
                rows.append(row)
                if self.overlay is not None:
                    film.add(read, row)
                bar.update()
        result = {
            "video": str(self.video),
            "instruction": task.instruction,
            "model": info.model,
            "prompt": info.prompt,
            "calibration": info.calibration,
            "scored": sum(row["status"] == "ok" for row in rows),
            "failed": sum(row["status"] != "ok" for row in rows),
            "frames": rows,
        }
        if self.csv is not None:
            _write_csv(self.csv, rows)
            result["csv"] = str(self.csv)
        if self.overlay is not None:
            film.write(self.overlay, instruction=task.instruction)
            result["overlay"] = str(self.overlay)
        return result

    def show(self, result: Result) -> str:
        """Return a table; of a long video evenly spread rows only."""
        rows = result["frames"] if isinstance(result, dict) else result
        step = -(-len(rows) // SHOWN_ROWS)
        if step > 1:
            _log.info("showing each %d. of %d rows; --csv or --json give all", step, len(rows))
        return table([*rows[:-1:step], rows[-1]])

    def _goal(self) -> Frame | None:
        from robo_reward.datasets.video import read_image
        from robo_reward.frames import Frame

        return None if self.goal is None else Frame.of(read_image(self.goal), camera="goal")

    def _demo(self) -> tuple[Frame, ...]:
        from robo_reward.datasets.clips import DEMO_FRAMES, spread_places
        from robo_reward.datasets.video import read_video
        from robo_reward.frames import Frame

        if self.demo is None:
            return ()
        images = [read.image for read in read_video(self.demo)]
        places = spread_places(len(images), count=DEMO_FRAMES)
        return tuple(Frame.of(images[place], camera="demo") for place in places)

    def _open_source(self) -> Any:
        if self.node is not None:
            from robo_reward.client import connect

            return connect(
                self.node,
                deadline_s=self.timeout,
                connect_timeout_s=min(self.timeout, 10.0),
                priority="offline",
                keys=self.keys,
            )
        from robo_reward.client import local
        from robo_reward.models import load_model

        return local(
            load_model(
                self.model,
                device=self.device,
                calibration=self.calibration,
                abstain_above=self.abstain_above,
            )
        )

    def _score(
        self, source: Source, task: Task, frames: Iterator[VideoFrame]
    ) -> Iterator[tuple[VideoFrame, dict[str, Any]]]:
        from robo_reward.datasets.clips import ClipPlayer
        from robo_reward.frames import Frame
        from robo_reward.shaping import DoneGate

        gate = DoneGate(source.info().gate(task.instruction))
        player = ClipPlayer(history=source.info().history)
        while batch := list(itertools.islice(frames, BATCH)):
            queries = []
            for read in batch:
                stamp = int(read.time_s * 1e9) if read.time_s == read.time_s else read.index
                frame = Frame.of(read.image, sequence=read.index, mono_ns=stamp, wall_ns=stamp)
                queries.append(player.ask((frame,), task))
            answers = source.submit(queries).result(timeout_s=self.timeout)
            if all(answer.status.value == "timeout" for answer in answers):
                why = answers[0].detail or answers[0].reason
                raise RewardLost(
                    f"no score within {self.timeout:g} s ({why}); is the node alive? "
                    "a slower model needs a longer --timeout"
                )
            for read, answer in zip(batch, answers, strict=True):
                yield read, _row(read, answer, is_done=gate.update(answer.signals.done))


def _check_shown(info: ModelInfo, task: Task) -> None:
    if task.goal is not None and not info.goal_image:
        raise ConfigError(f"{info.model} reads no goal image; leave --goal out")
    if task.demo and not info.demo:
        raise ConfigError(f"{info.model} reads no demonstration; leave --demo out")


def _row(read: VideoFrame, answer: Answer, *, is_done: bool) -> dict[str, Any]:
    from robo_reward.signals import SIGNALS

    signals = {name: getattr(answer.signals, name) for name in SIGNALS}
    return {
        "frame": read.index,
        "time_s": read.time_s,
        **signals,
        "is_done": is_done,
        "status": answer.status.value,
    }


class Film:
    """Collects what the overlay shows; of a long video every second, fourth … frame."""

    def __init__(self) -> None:
        self.every = 1
        self._seen = 0
        self._reads: list[VideoFrame] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, read: VideoFrame, row: dict[str, Any]) -> None:
        """Keep a scored frame, made smaller, if it is one of those shown."""
        from robo_reward.report import FILM_FRAMES, shrunk

        self._seen += 1
        if (self._seen - 1) % self.every:
            return
        if len(self._reads) == FILM_FRAMES:
            self.every *= 2
            del self._reads[1::2], self._rows[1::2]
        self._reads.append(replace(read, image=shrunk(read.image)))
        self._rows.append(row)

    def write(self, path: Path, *, instruction: str) -> None:
        """Draw and write the film."""
        import numpy as np

        from robo_reward.report import OverlayScores, overlay
        from robo_reward.signals import SIGNALS

        shapes = {read.image.shape for read in self._reads}
        if len(shapes) > 1:
            raise DatasetError(f"--overlay needs frames of one size, got {sorted(shapes)}")
        signals = {
            name: np.array([row[name] for row in self._rows], np.float32) for name in SIGNALS
        }
        scores = OverlayScores(
            **signals, is_done=np.array([row["is_done"] for row in self._rows], bool)
        )
        images = np.stack([read.image for read in self._reads])
        overlay(images, scores, path, instruction=instruction, rate_hz=self._rate_hz())

    def _rate_hz(self) -> float:
        if len(self._reads) < 2:
            return 1.0
        gap = self._reads[1].time_s - self._reads[0].time_s
        return min(30.0, max(1.0, 1.0 / gap)) if gap > 0 else 12.0


def _check_target(path: Path | None, *, overwrite: bool, suffixes: tuple[str, ...] = ()) -> None:
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise ConfigError(f"{path} must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to write {path.name} into")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there already; choose another name or add --yes")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    import io

    if not rows:
        raise DatasetError("there is nothing to write: no frame was scored")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
