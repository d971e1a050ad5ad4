"""Several processes that label one dataset, each with a model and a journal of its own.

A worker that dies is started again once; what stands in its journal is not scored again. The
labels are the same bytes for any number of workers.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from robo_reward.closing import Closing
from robo_reward.errors import RoboRewardError

from .engine import Share, Tally, label_episodes
from .journal import read_journals
from .judging import JudgeConfig, open_judge
from .options import RelabelOptions

LOOK_EVERY_S = 0.2
STOP_AFTER_S = 10.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told, as JSON on its standard input.

    Attributes:
        dataset: Path.
        options: How to label.
        judge: What answers.
        folder: Holds the journals.
        total: Number of episodes.
        readers: Threads that decode.
        worker: Number of this worker.
        workers: How many there are.
    """

    dataset: str
    options: RelabelOptions
    judge: JudgeConfig
    folder: str
    total: int
    readers: int = 2
    worker: int = 0
    workers: int = 1


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A line that a worker writes: its own work so far, or why it stopped.

    Attributes:
        episodes: Episodes it has finished.
        frames: Frames it has scored.
        skipped: Episode → why it could not be read.
        missing: Status other than ``ok`` → number of frames.
        error: Why it stopped; empty while it works.
        errno: Of the operating system; 0 for none.
        exit_code: What the command should end with.
    """

    episodes: int = 0
    frames: int = 0
    skipped: dict[str, str] = {}
    missing: dict[str, int] = {}
    error: str = ""
    errno: int = 0
    exit_code: int = 1


class WorkerError(RoboRewardError):
    """A worker stopped; ``exit_code`` is that of its error."""

    def __init__(self, text: str, *, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code  # type: ignore[misc]


def label_with_workers(
    job: Job, *, workers: int, on_progress: Callable[[Tally], None] | None = None
) -> Tally:
    """Label everything that the journals do not hold yet.

    Args:
        job: What to do; its ``worker`` and ``workers`` are set here.
        workers: Number of processes.
        on_progress: Called now and then.

    Raises:
        OSError: The disk is full; everything before that is kept.
        RoboRewardError: A worker stopped, or died twice; everything before that is kept.
    """
    before = read_journals(Path(job.folder))
    tally = Tally(total=job.total, kept=before.rows)
    running = [
        _Worker(msgspec.structs.replace(job, worker=number, workers=workers))
        for number in range(workers)
    ]
    try:
        while True:
            going = [worker for worker in running if worker.look()]
            _add_up(tally, [worker.known() for worker in running], before=len(before.ends))
            if on_progress is not None:
                on_progress(tally)
            if not going:
                return tally
            time.sleep(LOOK_EVERY_S)
    finally:
        for worker in running:
            worker.close()


def _add_up(tally: Tally, reports: list[Report], *, before: int) -> None:
    tally.episodes = before + sum(report.episodes for report in reports)
    tally.frames = sum(report.frames for report in reports)
    tally.skipped = {name: why for report in reports for name, why in report.skipped.items()}
    tally.missing = {}
    for report in reports:
        for status, count in report.missing.items():
            tally.missing[status] = tally.missing.get(status, 0) + count


class _Worker(Closing):
    """One worker process, and the thread that reads what it says."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._earlier: list[Report] = []
        self._start()

    def known(self) -> Report:
        """Return its work, that of a process that died among it."""
        reports = [*self._earlier, self._last]
        total = Tally(total=0)
        _add_up(total, reports, before=0)
        return Report(
            episodes=total.episodes,
            frames=total.frames,
            skipped=total.skipped,
            missing=total.missing,
        )

    def look(self) -> bool:
        """Return whether it is at work; start it again if it was killed.

        Raises:
            OSError: Its disk is full.
            RoboRewardError: It stopped with an error, or died a second time.
        """
        code = self._process.poll()
        if code is None:
            return True
        self._reader.join(timeout=STOP_AFTER_S)
        if code == 0:
            return False
        if self._last.errno:
            raise OSError(self._last.errno, os.strerror(self._last.errno))
        if self._last.error:
            raise WorkerError(self._last.error, exit_code=self._last.exit_code)
        if self._earlier:
            raise WorkerError(
                f"worker {self._job.worker} died twice (code {code}); what was scored is kept: "
                "run the same command again",
                exit_code=1,
            )
        self._earlier.append(self._last)
        self.close()
        self._start()
        return True

    def close(self) -> None:
        """Stop the process; may be called twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_AFTER_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=STOP_AFTER_S)
        self._reader.join(timeout=STOP_AFTER_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _start(self) -> None:
        self._last = Report()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robo_reward.relabel.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(self._job))
        self._process.stdin.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._last = msgspec.json.decode(line, type=Report)
            except msgspec.DecodeError:
                continue  # a library that prints


def main() -> int:
    """Do one share: the job on standard input, a report a line on standard output."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    said = 0.0

    def tell(now: Tally, *, already: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LOOK_EVERY_S:
            said = time.monotonic()
            _say(_report(now, already=already))

    already = len(read_journals(Path(job.folder)).ends)
    try:
        from robo_reward.datasets.formats import open_dataset

        with open_judge(job.judge) as judge:
            tally = label_episodes(
                open_dataset(Path(job.dataset)),
                judge,
                job.options,
                Path(job.folder),
                total=job.total,
                share=Share(worker=job.worker, workers=job.workers),
                readers=job.readers,
                on_progress=lambda now: tell(now, already=already),
            )
    except RoboRewardError as error:
        _say(Report(error=str(error), exit_code=error.exit_code))
        return 1
    except OSError as error:
        _say(Report(error=str(error), errno=error.errno or errno.EIO))
        return 1
    _say(_report(tally, already=already))
    return 0


def _report(tally: Tally, *, already: int) -> Report:
    return Report(
        episodes=max(0, tally.episodes - already),
        frames=tally.frames,
        skipped=tally.skipped,
        missing=tally.missing,
    )


def _say(report: Report) -> None:
    sys.stdout.write(json.dumps(msgspec.to_builtins(report)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
