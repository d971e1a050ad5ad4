"""``robo-reward adapt``: teach a model a new task from a few demonstrations."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from robo_reward.errors import require

from .common import Result, Saving
from .output import environment

if TYPE_CHECKING:
    from robo_reward.training.adapt import Adapted, AdaptOptions
    from robo_reward.training.shards import Shard


@dataclass(frozen=True, kw_only=True)
class Adapt(Saving):
    """Fine-tune a compact model on 1 to 50 demonstrations of a new task, in minutes on a CPU.

    Episodes that are not trained on decide when to stop; where nothing gets better, the weights
    stay as they are. Writes a model folder, its card, and a report with curves before and after.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward adapt compact recordings --out outputs/mine",
        'robo-reward adapt compact demos/ --instruction "fold the towel" --every 3',
        "robo-reward eval-reward --model compact outputs/mine/model",
    )

    model: Annotated[str, tyro.conf.Positional]
    """Name, folder or hub id of the model."""
    dataset: Annotated[Path, tyro.conf.Positional]
    """Recordings (robo-reward record), a video, a folder of images, or a folder of videos."""
    instruction: str = ""
    """What the demonstrations show, where they do not say so themselves."""
    every: int = 1
    """Of videos and images, take each n-th frame only."""
    cameras: tuple[str, ...] = ()
    """Cameras to learn from; all of them when not given."""
    steps: int = 400
    """Optimiser steps at most."""
    minutes: float = 8.0
    """Time for them at most."""
    rate: float = 3e-4
    """Peak learning rate."""
    text_rate: float = 0.1
    """Rate of the text encoder as a share of it; 0 freezes it."""
    without: tuple[str, ...] = ()
    """Negatives to leave out, for an ablation: rewind, cut, mismatched, …."""
    rehearse: Path | None = None
    """Folder of table-top rollouts (train-reward --data) to mix in, so that they stay known."""
    seed: int = 0
    """Decides what is held out, batches and augmentation."""
    threads: int = 2
    """Threads of torch."""

    def run(self) -> Result:
        """Read, train, write."""
        torch = require("torch", extra="train")
        from robo_reward.datasets.sources import open_episodes
        from robo_reward.models import load_model
        from robo_reward.training.adapt import adapt, adaptable
        from robo_reward.training.adapt_page import write_adapt_card, write_adapt_report

        torch.set_num_threads(self.threads)
        options = self._options()
        model = adaptable(load_model(self.model, device="cpu"))
        episodes = open_episodes(self.dataset, instruction=self.instruction, every=self.every)
        rehearsal = self._rehearsal()
        command = "robo-reward " + shlex.join(sys.argv[1:])
        with self.open_output(self.dataset.name) as out:
            with self.console().bar("adapt", total=self.steps, unit="step") as bar:
                result = adapt(
                    model,
                    episodes,
                    folder=out.path / "model",
                    options=options,
                    rehearsal=rehearsal,
                    on_check=lambda step, row: bar.update_to(
                        step, note=f"held-out error {row['total']:.3f}"
                    ),
                )
            card = write_adapt_card(out.path / "model", result, command=command)
            report = write_adapt_report(
                out.path / "report.html",
                result,
                command=command,
                config=self._asked(options),
                environment=environment(),
            )
            figures = _figures(result)
            out.write_json("metrics.json", {**figures, "checks": result.checks})
        if not result.improved:
            self.console().say("no step was better on what was held out: the weights were kept")
        return {**figures, "card": str(card), "report": str(report),
                "path": str(out.path / "model")}  # fmt: skip

    def show(self, result: Result) -> str:
        """Return the folder of the model, for the next command."""
        return str(result["path"]) if isinstance(result, dict) else super().show(result)

    def _options(self) -> AdaptOptions:
        from robo_reward.training.adapt import AdaptOptions

        options = AdaptOptions(
            steps=self.steps,
            minutes=self.minutes,
            rate=self.rate,
            text_rate=self.text_rate,
            cameras=self.cameras,
            seed=self.seed,
        )
        return replace(options, negatives=options.negatives.without(self.without))

    def _rehearsal(self) -> list[Shard]:
        if self.rehearse is None:
            return []
        from robo_reward.training.shards import read_folder

        return read_folder(self.rehearse)

    def _asked(self, options: AdaptOptions) -> dict[str, Any]:
        return {"model": self.model, "dataset": str(self.dataset), **asdict(options)}


def _figures(result: Adapted) -> dict[str, Any]:
    return {
        "model": result.model,
        "base": result.base,
        "improved": result.improved,
        "step": result.step,
        "steps": result.steps,
        "seconds": result.seconds,
        "episodes": result.episodes,
        "frames": result.frames,
        "held_out": result.held_out,
        "before": result.before,
        "after": result.after,
        "data": result.data,
    }
