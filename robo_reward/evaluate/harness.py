"""The harness: models and episodes in, tables with intervals out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from robo_reward.client.source import Source
from robo_reward.datasets.clips import spread_places
from robo_reward.datasets.episode import Episode
from robo_reward.errors import DatasetError, RewardLost
from robo_reward.frames import Frame
from robo_reward.gate_config import GateConfig
from robo_reward.models.base import RewardModel
from robo_reward.report.bootstrap import Estimate, Table, estimate, take
from robo_reward.shaping.audit import AUDIT
from robo_reward.shaping.outcome import fire_frame
from robo_reward.signals import Status

from .columns import episode_row, stack
from .matrix import TaskMatrix, task_matrix
from .metrics import mean_finite
from .sanity import ClipResult, SanityRun
from .scoring import STRIP, Asker, EpisodeScores, EvalOptions, score_episode
from .summary import METRICS, Metric
from .verdicts import Evidence, verdicts

THUMBNAIL = 128
"""Film-strip pictures are thinned to at most this many pixels a side."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpisodeResult:
    """One episode as one model saw it, small enough to keep a thousand of them.

    Attributes:
        id: Id of the episode.
        instruction: What was asked.
        family: Task family.
        kind: ``"expert"`` or the kind of failure.
        success: Truth, or ``None``.
        progress: True progress ``(T,)``, or ``None``.
        done: True done ``(T,) bool``, or ``None``.
        scores: What the model said.
        fired: Frame of the gate's decision, or ``None``.
        places: ``(n,) int`` frames of the film strip.
        strip: ``(n, h, w, 3) uint8`` its pictures, first camera.
        fault: How wrong the model was: mean |progress error| (0 without truth) plus
            |final done - success|; sorts best and worst.
    """

    id: str
    instruction: str
    family: str
    kind: str
    success: bool | None
    progress: NDArray[np.float32] | None
    done: NDArray[np.bool_] | None
    scores: EpisodeScores
    fired: int | None
    places: NDArray[np.int64]
    strip: NDArray[np.uint8]
    fault: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelResult:
    """Everything about one model.

    Attributes:
        name: Name it was asked by.
        model: Model name and weight hash.
        calibration: Id of its calibration.
        gate: Operating point where an instruction has none of its own.
        overall: Metric → figure over all episodes.
        families: Task family → the same.
        kinds: Kind of episode → plain means, which say where it fails; the trajectory audit of
            the model's curves and, with ``_true``, of the true ones among them.
        matrix: Final progress by task that was asked and task that was carried out.
        sanity: Sanity clip → how it was answered; empty where none could be made.
        verdicts: Shortcut that the model takes → why it is said.
        counts: Episodes, successes, constant curves, queries, missing ones by status, ….
        episodes: Curves and strips.
        table: The columns that the figures were computed from.
    """

    name: str
    model: str
    calibration: str
    gate: GateConfig
    overall: dict[str, Estimate]
    families: dict[str, dict[str, Estimate]]
    kinds: dict[str, dict[str, float]]
    matrix: TaskMatrix
    sanity: dict[str, ClipResult]
    verdicts: dict[str, str]
    counts: dict[str, int | float | dict[str, int]]
    episodes: tuple[EpisodeResult, ...]
    table: Table = field(repr=False)

    def as_dict(self) -> dict[str, object]:
        """Return plain nested values: figures flat, intervals and families beside them."""
        return {
            **{name: figure.value for name, figure in self.overall.items()},
            "intervals": {name: [f.low, f.high] for name, f in self.overall.items()},
            "families": {
                family: {name: figure.value for name, figure in figures.items()}
                for family, figures in self.families.items()
            },
            "kinds": self.kinds,
            "matrix": self.matrix.as_dict(),
            "sanity": {name: clip.as_dict() for name, clip in self.sanity.items()},
            "verdicts": list(self.verdicts),
            "reasons": self.verdicts,
            "counts": self.counts,
            "model": self.model,
            "calibration": self.calibration,
            "gate": asdict(self.gate),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvalResult:
    """Models side by side on the same episodes.

    Attributes:
        models: In the order in which they were given.
        options: What was asked.
    """

    models: tuple[ModelResult, ...]
    options: EvalOptions

    def as_dict(self) -> dict[str, object]:
        """Return the first model's figures flat, and all of them under ``models`` if several."""
        first = self.models[0].as_dict()
        if len(self.models) == 1:
            return first
        return {**first, "models": {model.name: model.as_dict() for model in self.models}}


def evaluate(
    models: Mapping[str, RewardModel | Source],
    episodes: Iterable[Episode],
    *,
    options: EvalOptions | None = None,
    demos: Mapping[str, Sequence[Frame]] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> EvalResult:
    """Score episodes with every model and compute all the metrics with 95 % intervals.

    Episodes are taken one at a time and may come from a generator; of their pictures only film
    strips stay in memory.

    Args:
        models: Name → model in this process, or a source such as a node's client.
        episodes: Recordings with as much truth as there is; metrics that lack theirs are NaN.
        options: What to ask; the defaults when not given.
        demos: Task family → frames of a success, of which the last one is the goal image
            (``suites.demonstrations``), for models that read either.
        on_progress: Called with the number of episodes done.

    Raises:
        ValueError: No model was given.
        DatasetError: There are no episodes, or one lacks a camera or a demonstration.
        RewardLost: A source answered nothing about a whole episode.
    """
    if not models:
        raise ValueError("models must hold at least one model")
    options = options or EvalOptions()
    runs = [_Run(name, model, options=options, demos=demos) for name, model in models.items()]
    for number, episode in enumerate(episodes):
        for run in runs:
            run.add(episode, number=number)
        if on_progress is not None:
            on_progress(number + 1)
    if not runs[0].results:
        raise DatasetError("there are no episodes to evaluate; check the suite, split and count")
    return EvalResult(models=tuple(run.finish() for run in runs), options=options)


class _Run:
    """One model on its way through the episodes."""

    def __init__(
        self,
        name: str,
        model: RewardModel | Source,
        *,
        options: EvalOptions,
        demos: Mapping[str, Sequence[Frame]] | None,
    ) -> None:
        self.name = name
        self.asker = Asker(model, options=options, demos=demos)
        self.options = options
        self.seconds = 0.0
        self.frames = 0
        self.results: list[EpisodeResult] = []
        self.rows: list[dict[str, NDArray[np.float64]]] = []
        self.groups: dict[str, int] = {}
        self.sanity = SanityRun(self.asker, limit=options.sanity, seed=options.seed)

    def add(self, episode: Episode, *, number: int) -> None:
        """Score one episode and keep what is needed of it."""
        start = time.perf_counter()
        scores = score_episode(self.asker, episode, number=number)
        self.sanity.add(episode, scores.forward.progress, number=number)
        self.seconds += time.perf_counter() - start
        lost = {name: n for name, n in scores.missing.items() if name != Status.ABSTAINED.value}
        if sum(lost.values()) == scores.queries:
            # Going on would only wait out one time-out after the other.
            raise RewardLost(
                f"{self.name} answered none of {scores.queries} queries ({scores.missing}); "
                "is the node alive? a slower model needs a longer time-out"
            )
        self.frames += len(episode)
        family = str(episode.meta.get("family", "all"))
        group = self.groups.setdefault(family, len(self.groups))
        fired = fire_frame(scores.forward.done, gate=self.asker.gate(episode.instruction))
        self.rows.append(
            episode_row(
                episode,
                scores,
                gate=self.asker.gate,
                fired=fired,
                group=float(group),
                gives_done="done" in self.asker.signals,
            )
        )
        self.results.append(_keep(episode, scores, family=family, fired=fired))

    def finish(self) -> ModelResult:
        """Compute the tables."""
        table = stack(self.rows)
        overall = _figures(table, METRICS, self.options)
        sanity = self.sanity.finish()
        evidence = Evidence(
            figures={name: figure.value for name, figure in overall.items()},
            clips=sanity,
            constant=mean_finite(table["constant"]),
        )
        return ModelResult(
            name=self.name,
            model=self.asker.model_id,
            calibration=self.asker.calibration_id,
            gate=self.asker.gate(""),
            overall=overall,
            families={
                family: _figures(take(table, table["group"] == group), METRICS, self.options)
                for family, group in sorted(self.groups.items())
            },
            kinds=_kinds(self.results, table),
            matrix=task_matrix([(r.family, r.scores) for r in self.results if r.success]),
            sanity=sanity,
            verdicts=verdicts(evidence),
            counts=self._counts(table),
            episodes=tuple(self.results),
            table=table,
        )

    def _counts(self, table: Table) -> dict[str, int | float | dict[str, int]]:
        won = table["success"] == 1.0
        true, false, missed, steps = table["gate"].sum(axis=0)
        return {
            "episodes": len(self.rows),
            "successes": int(won.sum()),
            "failures": int((table["success"] == 0.0).sum()),
            "frames": self.frames,
            "constant_curves": int(np.nansum(table["constant"])),
            "constant_curves_of_successes": int(np.nansum(table["constant"][won])),
            "successes_without_false_instruction": int(np.isnan(table["drop"][won]).sum()),
            "successes_without_other_tasks": int(np.isnan(table["margin"][won]).sum()),
            "episodes_without_paraphrases": int(np.isnan(table["spread"]).sum()),
            "false_instructions_judged": int(table["rejected"][:, 1].sum()),
            "true_dones": int(true),
            "false_dones": int(false),
            "missed_dones": int(missed),
            "steps_to_done": int(steps),
            "queries": self.asker.queries,
            "queries_missing": dict(self.asker.missing),
            "seconds": round(self.seconds, 3),
        }


def _figures(table: Table, wanted: tuple[Metric, ...], options: EvalOptions) -> dict[str, Estimate]:
    statistics = {metric.name: metric.compute for metric in wanted}
    return estimate(table, statistics, resamples=options.resamples, seed=options.seed)


def _keep(
    episode: Episode, scores: EpisodeScores, *, family: str, fired: int | None
) -> EpisodeResult:
    images = next(iter(episode.images.values()))
    places = spread_places(len(episode), count=STRIP)
    thin = max(1, -(-max(images.shape[1:3]) // THUMBNAIL))
    return EpisodeResult(
        id=episode.id,
        instruction=episode.instruction,
        family=family,
        kind=str(episode.meta.get("kind", "expert" if episode.success else "failure")),
        success=episode.success,
        progress=episode.progress,
        done=episode.done,
        scores=scores,
        fired=fired,
        places=places,
        strip=np.ascontiguousarray(images[places, ::thin, ::thin]),
        fault=_fault(episode, scores),
    )


def _fault(episode: Episode, scores: EpisodeScores) -> float:
    fault = 0.0
    if episode.progress is not None:
        fault += float(np.mean(np.abs(scores.forward.progress - episode.progress)))
    if episode.success is not None:
        fault += abs(float(scores.forward.done[-1]) - float(episode.success))
    return fault


def _kinds(results: list[EpisodeResult], table: Table) -> dict[str, dict[str, float]]:
    kinds = Counter(result.kind for result in results)
    columns = {
        "final_progress": table["final_progress"],
        "final_done": table["final_done"],
        "true_success": table["success"],
        "gate_fired": table["fired"],
        **{name: table["audit"][:, place] for place, name in enumerate(AUDIT)},
        **{f"{name}_true": table["audit_truth"][:, place] for place, name in enumerate(AUDIT)},
    }
    found = {}
    for kind, count in sorted(kinds.items()):
        rows = np.array([result.kind == kind for result in results])
        means = {name: mean_finite(column[rows]) for name, column in columns.items()}
        found[kind] = {"episodes": float(count), **means}
    return found
