"""``robo-reward relabel``: dense labels for a dataset, whatever it is recorded in."""

from __future__ import annotations

import errno
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from robo_reward.errors import ConfigError, RoboRewardError

from .common import Result, Saving
from .console import Bar

if TYPE_CHECKING:
    from robo_reward.datasets.recorded import Dataset
    from robo_reward.relabel import Judge, JudgeConfig, RelabelOptions, Run, Tally
    from robo_reward.shaping import ShapingConfig

Target = Literal["report", "ranking", "jsonl", "overlay", "progress", "copy", "in-place"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_log = logging.getLogger("robo_reward.relabel")
MUCH_SPREAD = 0.2
"""Spread over wordings above which the log says so."""
PRICED_S = 5.0
"""How long --dry-run scores to know the rate."""


@dataclass(frozen=True, kw_only=True)
class Relabel(Saving):
    """Score every frame of a dataset into a table beside it; the dataset stays as it is.

    Reads recordings of robo-reward record, LeRobot, HDF5 (robomimic, LIBERO, ALOHA), Minari,
    RLDS, rosbag2, MCAP, videos and images. The same command goes on where a killed one was.
    """

    examples: ClassVar[tuple[str, ...]] = (
        'robo-reward relabel runs/ --instruction "put the red cube on the blue pad"',
        "robo-reward relabel data/ --instructions sentences.yaml --every 5 --dry-run",
        "robo-reward relabel demos.hdf5 --node tcp://gpu:5601 --write copy overlay",
    )

    dataset: Annotated[Path, tyro.conf.Positional]
    """A file or folder of recordings."""
    model: str = "compact"
    """Name, folder or hub id of the reward model; not used with --node."""
    instruction: str = ""
    """What the robot was asked to do, for episodes that bring no sentence of their own."""
    instructions: Path | None = None
    """File (YAML or JSON) of episode: sentence, or of sentences for parts of an episode."""
    allow_generic: bool = False
    """Score sentences that say nothing about the goal, such as "perform the task", after all."""
    node: str | None = None
    """Ask the reward node at this address instead of loading a model, e.g. tcp://host:5601."""
    keys: Path | None = None
    """Folder of keys (robo-reward keys), where --node asks for them."""
    every: int = 1
    """Label each n-th frame only."""
    cameras: tuple[str, ...] = ()
    """Cameras to use; the first ones, as many as the model has views, when not given."""
    goal: Literal["none", "last"] = "none"
    """last: give the model the episode's last frame as goal image; such labels saw the future."""
    batch: int = 32
    """Frames that are scored together."""
    limit: int | None = None
    """Label the first so many episodes only."""
    calibration: Path | None = None
    """File of robo-reward calibrate for --model."""
    abstain_above: float | None = None
    """Uncertainty above which --model gives no score; not given: the calibration's limit."""
    device: str = "auto"
    """Where the model runs: auto, cpu, cuda or mps."""
    workers: int = 1
    """Processes, each with a model of its own; the labels are the same bytes for any number."""
    readers: int = 2
    """Threads of a process that decode ahead of its model."""
    timeout: float = 60.0
    """With --node: give up after this many seconds without an answer."""
    write: tuple[Target, ...] = ()
    """Besides the table: report (a page to look at), ranking (episodes by quality), jsonl, overlay
    (films), progress (for LeRobot's RA-BC), copy (the dataset with rewards in it), in-place
    (rewards added to the HDF5 files themselves)."""
    reward: str = "potential"
    """How a copy's rewards are made from the signals: a shaping preset, e.g. dense or sparse."""
    replace_rewards: bool = False
    """In a copy: rewards that are there already make way, and are kept under another name."""
    resume: bool = True
    """Go on with the run that was begun with the same settings; --no-resume begins anew."""
    dry_run: bool = False
    """Look at everything, score for a few seconds, and say how long the whole would take."""

    def run(self) -> Result:
        """Open, label, and write the table."""
        from robo_reward.datasets.formats import open_dataset
        from robo_reward.relabel import open_judge, open_run, plan_episodes, record_of

        if self.timeout <= 0:
            raise ConfigError(f"--timeout must be > 0 seconds, got {self.timeout:g}")
        if self.workers < 1:
            raise ConfigError(f"--workers must be >= 1, got {self.workers}")
        from robo_reward.relabel.export import check_target
        from robo_reward.shaping import preset

        options, shaping = self._options(), preset(self.reward)
        dataset = open_dataset(self.dataset)
        for target in self.write:
            check_target(target, dataset.kind)
        ids = plan_episodes(dataset, options)
        with open_judge(self._judge()) as judge:
            if self.dry_run:
                return self._price(dataset, judge, options, total=len(ids))
            record = record_of(dataset, judge.info(), options)
            folder = self.out or Path("outputs", "relabel", f"{self.dataset.name}_{record.key[:8]}")
            run = open_run(folder, record, resume=self.resume, overwrite=self.yes)
            from .output import open_output

            with open_output(self, name="", folder=folder, overwrite=True) as output:
                result = self._label(dataset, judge, options, run, total=len(ids))
                result["wording_spread"] = self._wordings(dataset, judge, options, run.folder)
                result |= self._write(dataset, run.folder, shaping)
                output.write_json("result.json", result)
        return result

    def exit_code(self, result: Result) -> int:
        """Return 1 where episodes were skipped or frames have no score, else 0."""
        return int(isinstance(result, dict) and bool(result.get("failed")))

    def _options(self) -> RelabelOptions:
        from robo_reward.relabel import Instructions, RelabelOptions, read_instructions

        known = read_instructions(self.instructions) if self.instructions is not None else {}
        return RelabelOptions(
            instructions=Instructions(
                fallback=self.instruction, by_episode=known, allow_generic=self.allow_generic
            ),
            every=self.every,
            cameras=self.cameras,
            batch=self.batch,
            goal=self.goal,
            limit=self.limit,
        )

    def _judge(self) -> JudgeConfig:
        from robo_reward.relabel import JudgeConfig

        return JudgeConfig(
            model=self.model,
            device=self.device,
            calibration=None if self.calibration is None else str(self.calibration),
            abstain_above=self.abstain_above,
            node=self.node,
            timeout_s=self.timeout,
            keys=None if self.keys is None else str(self.keys),
        )

    def _label(
        self, dataset: Dataset, judge: Judge, options: RelabelOptions, run: Run, *, total: int
    ) -> dict[str, Any]:
        from robo_reward.datasets.labels import FILE, LabelTable
        from robo_reward.relabel import Tally, finish

        tally = Tally(total=total)
        if run.state != "finished":
            try:
                with self.console().bar("relabel", total=total, unit="ep") as bar:
                    tally = self._score(dataset, judge, options, run.folder, bar)
                finish(dataset, judge, options, run.folder, fingerprint=run.record.fingerprint)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                raise RoboRewardError(
                    f"the disk is full ({run.folder}): {error.strerror}; what was scored is kept, "
                    "make room and run the same command again"
                ) from error
        head = LabelTable(run.folder / FILE).head
        return {
            "path": str(run.folder / FILE),
            "dataset": str(self.dataset),
            "kind": head.kind,
            "model": head.model,
            "prompt": head.prompt,
            "calibration": head.calibration,
            "episodes": total,
            "frames": tally.frames + tally.kept,
            "scored_now": tally.frames,
            "kept_from_before": tally.kept,
            "missing": dict(sorted(tally.missing.items())),
            "skipped": dict(head.skipped),
            "failed": len(head.skipped)
            + sum(count for status, count in tally.missing.items() if status != "abstained"),
        }

    def _score(
        self, dataset: Dataset, judge: Judge, options: RelabelOptions, folder: Path, bar: Bar
    ) -> Tally:
        def show(now: Tally) -> None:
            _show(bar, now)

        if self.workers == 1:
            from robo_reward.relabel import label_episodes

            return label_episodes(
                dataset,
                judge,
                options,
                folder,
                total=bar.total,
                readers=self.readers,
                on_progress=show,
            )
        from robo_reward.relabel.workers import Job, label_with_workers

        job = Job(
            dataset=str(self.dataset),
            options=options,
            judge=self._judge(),
            folder=str(folder),
            total=bar.total,
            readers=self.readers,
        )
        return label_with_workers(job, workers=self.workers, on_progress=show)

    def _wordings(
        self, dataset: Dataset, judge: Judge, options: RelabelOptions, folder: Path
    ) -> dict[str, Any]:
        from robo_reward.datasets.labels import LabelTable
        from robo_reward.relabel.wordings import wording_spread

        found = wording_spread(dataset, LabelTable(folder), judge, options)
        if found and found["largest"] > MUCH_SPREAD:
            _log.warning(
                "other words for the same thing change progress by up to %.2f (episode %s)",
                found["largest"],
                found["worst"],
            )
        return found

    def _write(self, dataset: Dataset, folder: Path, shaping: ShapingConfig) -> dict[str, Any]:
        from robo_reward.datasets.labels import LabelTable
        from robo_reward.relabel.export import export
        from robo_reward.relabel.truth import compare_with_truth

        table = LabelTable(folder)
        found: dict[str, Any] = {"truth": compare_with_truth(dataset, table)}
        if wrong := found["truth"].get("done_but_recorded_as_failure"):
            _log.warning("the gate says done in %d episodes recorded as failures", wrong)
        for target in self.write:
            made = export(
                target, dataset, table, folder, shaping=shaping, replace=self.replace_rewards
            )
            found.setdefault("written", []).extend(map(str, made))
        return found

    def _price(
        self, dataset: Dataset, judge: Judge, options: RelabelOptions, *, total: int
    ) -> dict[str, Any]:
        from robo_reward.relabel.pricing import price

        return price(dataset, judge, options, episodes=total, readers=self.readers, for_s=PRICED_S)


def _show(bar: Bar, now: Tally) -> None:
    elapsed = time.monotonic() - now.started_s
    rate = now.frames / elapsed if elapsed > 0 else 0.0
    parts = [f"{rate:.0f} frames/s", f"{memory_mb():.0f} MB", f"skipped {len(now.skipped)}"]
    bar.update_to(now.episodes, note="  ".join(parts))


def memory_mb() -> float:
    """Return how much memory this process has had at most, MiB."""
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10
