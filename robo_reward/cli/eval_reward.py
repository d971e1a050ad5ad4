"""``robo-reward eval-reward``: the figures of a reward model on episodes with truth."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from robo_reward.errors import ConfigError

from .common import Result, Saving
from .console import table
from .output import environment

if TYPE_CHECKING:
    from robo_reward.client import Source
    from robo_reward.datasets.episode import Episode
    from robo_reward.evaluate import EvalOptions, EvalResult
    from robo_reward.frames import Frame
    from robo_reward.models import RewardModel

FILE_ONLY = ("families", "kinds", "matrix", "reasons")
"""Parts of the result that stand in metrics.json but not in the line on stdout."""


@dataclass(frozen=True, kw_only=True)
class EvalReward(Saving):
    """Score episodes whose truth is known with one or more reward models.

    Writes metrics.json and report.html: order and reversal of progress, success, false
    instructions, other words, direction, ranking, the done gate and its calibration, each with a
    95 % interval; and sanity clips, after which shortcuts are called by name.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward eval-reward --model compact --suite tabletop --split unseen --json",
        "robo-reward eval-reward --model compact outputs/train-reward/mine --episodes 400",
        "robo-reward eval-reward --node tcp://gpu:5601 --families push lift --episodes 50",
        "robo-reward eval-reward --dataset data/unseen --model compact",
    )

    model: tuple[str, ...] = ("compact",)
    """Names, folders or hub ids of the models, side by side; not used with --node."""
    calibration: Path | None = None
    """File of robo-reward calibrate; done is then calibrated and the gate stands where it says."""
    abstain_above: float | None = None
    """Uncertainty above which --model gives no score; not given: the calibration's limit."""
    node: str | None = None
    """Ask the reward node at this address instead of loading a model, e.g. tcp://host:5601."""
    keys: Path | None = None
    """Folder of keys (robo-reward keys), where --node asks for them."""
    suite: str = "tabletop"
    """Where the episodes come from: tabletop, metaworld or fetch."""
    dataset: Path | None = None
    """Folder of recorded episodes (robo-reward record), all of which are taken, not a suite."""
    demos: Path | None = None
    """Recorded successes: their last frames are the goal images of models that read one."""
    one_shot: bool = False
    """Give models that read a demonstration one success of each task."""
    split: str = "unseen"
    """Which of them: unseen, seen, train or paraphrase."""
    families: tuple[str, ...] = ()
    """Task families to take; all of them when not given."""
    episodes: int = 200
    """Of a suite: how many episodes, families in turn."""
    seed: int = 0
    """Number of the set within the split; also seeds the bootstrap."""
    renderer: Literal["gl", "rays"] = "gl"
    """How the suite draws its images; rays needs no OpenGL."""
    mismatches: int = 3
    """False instructions asked about per episode."""
    sanity: int = 40
    """Successes that the sanity clips are made from; 0 for none."""
    resamples: int = 1000
    """Bootstrap resamples over episodes; 0 gives no intervals."""
    batch_size: int = 64
    """Queries per call of the model."""
    device: str = "auto"
    """Where the models run: auto, cpu, cuda or mps."""
    timeout: float = 60.0
    """Give up on a batch after this many seconds without an answer."""

    def run(self) -> Result:
        """Record, score, compute and write."""
        from robo_reward.evaluate import evaluate
        from robo_reward.evaluate.page import write_eval_report

        options = self._options()
        episodes, total = self._episodes()
        with contextlib.ExitStack() as stack:
            models = self._open_models(stack)
            out = stack.enter_context(self.open_output("_".join([*models, self._source()[-1]])))
            with self.console().bar("eval-reward", total=total, unit="ep") as bar:
                result = evaluate(
                    models,
                    episodes,
                    options=options,
                    demos=self._demos(models),
                    on_progress=bar.update_to,
                )
            figures = {**self._asked(), **result.as_dict()}
            out.write_json("metrics.json", figures)
            machine = environment()
            count = len(result.models[0].episodes)
            report = write_eval_report(
                out.path / "report.html",
                result,
                title=f"{' · '.join(models)} on {', '.join(self._source())}",
                subtitle=f"{count} episodes, seed {self.seed}, {machine['time']}",
                command=self._command(),
                config=self._asked(),
                environment=machine,
            )
        short = {key: value for key, value in figures.items() if key not in FILE_ONLY}
        short.pop("models", None)
        if len(result.models) > 1:
            short["models"] = {name: _flat(result, name) for name in models}
        return {**short, "path": str(out.path), "report": str(report)}

    def show(self, result: Result) -> str:
        """Return the table of figures, and the path of the report below it."""
        from robo_reward.evaluate import METRICS

        if not isinstance(result, dict):
            return super().show(result)
        columns = result.get("models") or {"value": result}
        rows = [
            {"metric": metric.name, **{n: figures[metric.name] for n, figures in columns.items()}}
            for metric in METRICS
        ]
        return f"{table(rows)}\n{result['report']}"

    def _options(self) -> EvalOptions:
        from robo_reward.evaluate import EvalOptions

        if self.timeout <= 0:
            raise ConfigError(f"--timeout must be > 0 seconds, got {self.timeout:g}")
        try:
            return EvalOptions(
                batch_size=self.batch_size,
                mismatches=self.mismatches,
                one_shot=self.one_shot,
                sanity=self.sanity,
                resamples=self.resamples,
                seed=self.seed,
                timeout_s=self.timeout,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _episodes(self) -> tuple[Iterable[Episode], int]:
        if self.dataset is not None:
            from robo_reward.datasets.log_reader import LogReader

            found = LogReader(self.dataset)
            return (one for one in found if self._wants(one)), len(found)
        from robo_reward.evaluate.suites import open_suite

        found_in_suite = open_suite(
            self.suite,
            split=self.split,
            episodes=self.episodes,
            seed=self.seed,
            families=self.families,
            renderer=self.renderer,
        )
        return found_in_suite, self.episodes

    def _wants(self, episode: Episode) -> bool:
        return not self.families or episode.meta.get("family") in self.families

    def _source(self) -> tuple[str, ...]:
        """Words for where the episodes come from."""
        return (self.suite, self.split) if self.dataset is None else (self.dataset.name,)

    def _open_models(self, stack: contextlib.ExitStack) -> Mapping[str, RewardModel | Source]:
        if self.node is not None:
            from robo_reward.client import connect

            source = connect(self.node, deadline_s=self.timeout, priority="offline", keys=self.keys)
            stack.callback(source.close)
            return {"node": source}
        from robo_reward.models import load_model

        if not self.model:
            raise ConfigError("--model needs at least one name")
        models = {}
        for name in dict.fromkeys(self.model):
            models[name] = load_model(
                name,
                device=self.device,
                calibration=self.calibration,
                abstain_above=self.abstain_above,
            )
            stack.callback(models[name].close)
        return models

    def _demos(self, models: Mapping[str, RewardModel | Source]) -> dict[str, tuple[Frame, ...]]:
        from robo_reward.client.local import describe
        from robo_reward.evaluate.suites import demonstrations
        from robo_reward.models import RewardModel

        infos = [describe(m) if isinstance(m, RewardModel) else m.info() for m in models.values()]
        if not any(info.goal_image or (self.one_shot and info.demo) for info in infos):
            return {}
        if self.demos is not None:
            from robo_reward.datasets.log_reader import LogReader
            from robo_reward.evaluate.suites import demos_of

            return demos_of(LogReader(self.demos))
        if self.dataset is not None:
            raise ConfigError(
                "a model here is shown how it is done; name recordings of successes with "
                "--demos FOLDER"
            )
        return demonstrations(
            self.suite, families=self.families, seed=self.seed, renderer=self.renderer
        )

    def _asked(self) -> dict[str, Any]:
        return {
            "suite": self.suite if self.dataset is None else None,
            "split": self.split if self.dataset is None else None,
            "dataset": None if self.dataset is None else str(self.dataset),
            "families_asked": list(self.families),
            "seed": self.seed,
            "calibration_file": str(self.calibration) if self.calibration else None,
            "abstain_above": self.abstain_above,
            "renderer": self.renderer,
            "one_shot": self.one_shot,
            "mismatches": self.mismatches,
            "sanity_episodes": self.sanity,
            "resamples": self.resamples,
        }

    def _command(self) -> str:
        source = ["--node", self.node] if self.node else ["--model", *self.model]
        words = ["robo-reward", "eval-reward", *source]
        if self.dataset is not None:
            words += ["--dataset", str(self.dataset), "--seed", str(self.seed)]
            words += ["--demos", str(self.demos)] if self.demos else []
        else:
            words += ["--suite", self.suite, "--split", self.split]
            words += ["--episodes", str(self.episodes), "--seed", str(self.seed)]
            words += ["--renderer", self.renderer]
        words += ["--calibration", str(self.calibration)] if self.calibration else []
        if self.abstain_above is not None:
            words += ["--abstain-above", str(self.abstain_above)]
        words += ["--one-shot"] if self.one_shot else []
        words += ["--families", *self.families] if self.families else []
        return shlex.join(words)


def _flat(result: EvalResult, name: str) -> dict[str, Any]:
    model = next(model for model in result.models if model.name == name)
    return {key: value for key, value in model.as_dict().items() if key not in FILE_ONLY}
