"""``robo-reward calibrate``: make ``done`` a probability and say where the gate should stand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from robo_reward.errors import ConfigError, require

from .common import Result, Saving
from .output import environment

if TYPE_CHECKING:
    from robo_reward.datasets.episode import Episode
    from robo_reward.models.calibration import Calibration
    from robo_reward.training.calibrate import CalibrationOptions, Played


@dataclass(frozen=True, kw_only=True)
class Calibrate(Saving):
    """Fit a model's done to episodes whose outcome is known, and choose the gate's threshold.

    Also chooses the uncertainty above which there is no score, so that of these frames --abstain
    have none. Writes calibration.json, good for this model and prompt, and a report. serve, score,
    eval-reward and load_model take the file; its id then stands in every score, and the wrappers
    use its gate.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward calibrate compact recordings --precision 0.95",
        "robo-reward calibrate compact tabletop --split seen --episodes 300 --out outputs/cal",
        "robo-reward serve --calibration outputs/cal/calibration.json",
    )

    model: Annotated[str, tyro.conf.Positional]
    """Name, folder or hub id of the model."""
    dataset: Annotated[str, tyro.conf.Positional]
    """Folder of recordings that say whether they succeeded (robo-reward record), or a suite."""
    precision: float = 0.98
    """Share of the gate's decisions that must be right."""
    abstain: float = 0.01
    """Share of these frames that may be too uncertain for a score; 0 sets no limit."""
    method: Literal["auto", "sigmoid", "isotonic"] = "auto"
    """Form of the curve; auto takes the one that foretells held-out episodes better."""
    votes: int = 3
    """Votes that open the gate."""
    window: int = 4
    """Queries that vote."""
    dwell: int = 2
    """Queries in a row for which the vote must stand."""
    split: str = "seen"
    """Of a suite: which episodes."""
    episodes: int = 200
    """Of a suite: how many."""
    seed: int = 0
    """Of a suite: number of the set; also of folds and bootstrap."""
    resamples: int = 1000
    """Bootstrap resamples over episodes."""
    device: str = "auto"
    """Where the model runs: auto, cpu, cuda or mps."""

    def run(self) -> Result:
        """Score, fit, write."""
        require("scipy", extra="train")
        from robo_reward.models import load_model
        from robo_reward.training.calibrate import CalibrationOptions, fit, play

        options = CalibrationOptions(
            precision=self.precision,
            abstain=self.abstain,
            method=self.method,
            votes=self.votes,
            window=self.window,
            dwell=self.dwell,
            resamples=self.resamples,
            seed=self.seed,
        )
        episodes, total = self._episodes()
        model = load_model(self.model, device=self.device)
        try:
            with self.console().bar("calibrate", total=total, unit="ep") as bar:
                played = play(model, episodes, on_progress=bar.update_to)
            calibration = fit(played, model=model, options=options, data=self._data())
        finally:
            model.close()
        with self.open_output() as out:
            path = out.path / "calibration.json"
            calibration.save(path)
            report = self._report(out.path, calibration, played, options)
            result = {**_figures(calibration), "path": str(path), "report": str(report)}
            out.write_json("metrics.json", result)
        return result

    def show(self, result: Result) -> str:
        """Return the path of the calibration, for the next command."""
        return str(result["path"]) if isinstance(result, dict) else super().show(result)

    def _episodes(self) -> tuple[Iterable[Episode], int]:
        from robo_reward.datasets.log_reader import LogReader
        from robo_reward.evaluate.suites import SUITES, open_suite

        folder = Path(self.dataset)
        if folder.is_dir():
            found = LogReader(folder)
            return found, len(found)
        if self.dataset not in SUITES:
            raise ConfigError(
                f"{self.dataset!r} is neither a folder of recordings nor a suite "
                f"({', '.join(SUITES)})"
            )
        drawn = open_suite(self.dataset, split=self.split, episodes=self.episodes, seed=self.seed)
        return drawn, self.episodes

    def _data(self) -> str:
        if Path(self.dataset).is_dir():
            return Path(self.dataset).name
        return f"{self.dataset} {self.split}, {self.episodes} episodes, set {self.seed}"

    def _report(
        self,
        folder: Path,
        calibration: Calibration,
        played: list[Played],
        options: CalibrationOptions,
    ) -> Path:
        import numpy as np

        from robo_reward.report.charts import reliability_chart
        from robo_reward.report.html_page import Report, Section, figure, table, write_report
        from robo_reward.shaping.reliability import reliability

        truth = np.concatenate([one.truth for one in played])
        own = np.concatenate([one.done for one in played])
        mapped = calibration.apply(own, [one.instruction for one in played for _ in one.done])
        drawn = figure(
            reliability_chart(
                {"before": reliability(own, truth), "after": reliability(mapped, truth)}
            ),
            title="Is done a probability?",
            caption="all frames, before and after; a calibrated model lies on the dashed line",
        )
        return write_report(
            folder / "report.html",
            Report(
                title=f"Calibration {calibration.id} of {calibration.model}",
                subtitle=f"{calibration.data}; precision {options.precision:g} was asked for",
                sections=(
                    Section(title="Operating point", body=table(COLUMNS, _rows(calibration))),
                    Section(title="Curve", body=drawn, note="The frames it was fitted on."),
                    Section(title="When it abstains", body=_abstention(calibration)),
                ),
                command=self._command(),
                config=asdict(options),
                environment=environment(),
            ),
        )

    def _command(self) -> str:
        words = ["robo-reward", "calibrate", self.model, self.dataset]
        words += ["--precision", str(self.precision), "--abstain", str(self.abstain)]
        words += ["--method", self.method]
        words += ["--split", self.split, "--episodes", str(self.episodes), "--seed", str(self.seed)]
        return shlex.join(words)


COLUMNS = ("instruction", "enter", "precision", "recall", "false per 1,000 steps", "ECE before",
           "ECE after", "episodes", "reached")  # fmt: skip


def _rows(calibration: Calibration) -> list[list[Any]]:
    from robo_reward.report.html_page import Figure

    rows: list[list[Any]] = []
    for text, fit in (("all others", calibration.overall), *calibration.tasks.items()):
        three = [
            Figure(value=one.value, low=one.low, high=one.high)
            for one in (fit.precision, fit.recall, fit.false_done_per_1000)
        ]
        rows.append(
            [text, fit.gate.enter, *three, fit.ece_before, fit.ece_after, fit.episodes, fit.reached]
        )
    return rows


def _figures(calibration: Calibration) -> dict[str, Any]:
    fit, limit = calibration.overall, calibration.abstention
    return {
        "calibration": calibration.id,
        "model": calibration.model,
        "method": fit.curve.kind,
        "enter": fit.gate.enter,
        "leave": fit.gate.leave,
        "precision": fit.precision.value,
        "precision_interval": [fit.precision.low, fit.precision.high],
        "recall": fit.recall.value,
        "recall_interval": [fit.recall.low, fit.recall.high],
        "false_done_per_1000": fit.false_done_per_1000.value,
        "ece_before": fit.ece_before,
        "ece_after": fit.ece_after,
        "episodes": fit.episodes,
        "reached": fit.reached,
        "tasks": len(calibration.tasks),
        "abstain_above": None if limit is None else limit.limit,
        "abstain_rate": None if limit is None else limit.rate.value,
        "abstain_rate_interval": None if limit is None else [limit.rate.low, limit.rate.high],
    }


def _abstention(calibration: Calibration) -> str:
    from robo_reward.report.html_page import Figure, table

    limit = calibration.abstention
    if limit is None:
        return "<p>No limit: none was asked for, or the frames do not support one.</p>"
    rate = Figure(value=limit.rate.value, low=limit.rate.low, high=limit.rate.high)
    return table(
        ("uncertainty above", "share asked for", "share on held-out episodes", "frames"),
        [[limit.limit, limit.asked, rate, limit.frames]],
    )
