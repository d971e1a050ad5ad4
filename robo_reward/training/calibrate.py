"""Fits a calibration: from what a model said of episodes to probability and operating point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.clips import clip_queries, episode_views
from robo_reward.datasets.episode import Episode
from robo_reward.errors import ConfigError, DatasetError
from robo_reward.gate_config import GateConfig
from robo_reward.models.base import RewardModel
from robo_reward.models.calibration import (
    Calibration,
    DoneCurve,
    Interval,
    TaskCalibration,
    log_odds,
    sigmoid,
)
from robo_reward.report.bootstrap import Estimate, Table, estimate
from robo_reward.shaping.outcome import (
    fire_frame,
    gate_false_dones,
    gate_outcome,
    gate_precision,
    gate_recall,
)
from robo_reward.shaping.reliability import ece, reliability
from robo_reward.task import Task

from .abstention import fit_abstention

Method = Literal["auto", "sigmoid", "isotonic"]
LEAST = 10
"""Episodes of each outcome below which a fit would be a guess."""
THRESHOLDS = 120
LOWEST = -3.0
"""Log-odds of the lowest threshold that is tried: 0.05."""
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """What is fitted.

    Attributes:
        precision: Share of the gate's decisions that must be right.
        abstain: Share of these episodes' frames that may get no score; 0 sets no limit.
        method: Form of the curve; ``auto`` takes the one with the better held-out likelihood.
        votes: Of the gate, see ``GateConfig``.
        window: Likewise.
        dwell: Likewise.
        resamples: Bootstrap resamples over episodes.
        seed: Of folds and bootstrap.

    Raises:
        ConfigError: A number is out of range.
    """

    precision: float = 0.98
    abstain: float = 0.01
    method: Method = "auto"
    votes: int = 3
    window: int = 4
    dwell: int = 2
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not 0.5 <= self.precision < 1.0:
            raise ConfigError(f"precision must be in [0.5, 1), got {self.precision}")
        if not 0.0 <= self.abstain < 0.5:
            raise ConfigError(f"abstain must be in [0, 0.5), got {self.abstain}")
        if self.resamples < 100:
            raise ConfigError(f"resamples must be >= 100 for an interval, got {self.resamples}")
        self.gate(0.5)

    def gate(self, enter: float) -> GateConfig:
        """Return the gate with a threshold."""
        return GateConfig(
            enter=enter,
            leave=max(enter / 2, enter - 0.2),
            votes=self.votes,
            window=self.window,
            dwell=self.dwell,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """One episode as the model saw it.

    Attributes:
        instruction: What was asked.
        done: ``(T,)`` the model's own ``done``.
        truth: ``(T,)`` 1 where the goal holds, 0 where it does not, NaN where nobody knows.
        uncertainty: ``(T,)`` the model's own; NaN or empty where it gives none.
    """

    instruction: str
    done: NDArray[np.float64]
    truth: NDArray[np.float64]
    uncertainty: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def reached(self) -> bool:
        """Whether the goal holds at the end."""
        return bool(self.truth[-1] == 1.0)


def play(
    model: RewardModel,
    episodes: Iterable[Episode],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[Played]:
    """Ask a model, as it is without a calibration, for ``done`` of every frame.

    Raises:
        DatasetError: An episode says nothing about its outcome.
        ConfigError: The model gives no ``done``, or is calibrated already.
    """
    if "done" not in model.capabilities.signals:
        raise ConfigError(f"{model.model_id} gives no done, so that there is nothing to calibrate")
    if model.calibration is not None or model.abstain_above is not None:
        raise ConfigError("calibrate the model itself, not its calibrated answers")
    found = []
    for number, episode in enumerate(episodes):
        views = episode_views(episode, limit=model.capabilities.max_views)
        task = Task(instruction=episode.instruction)
        queries = clip_queries(views, task, clip=number, history=model.capabilities.history)
        said = model.score(queries)
        found.append(
            Played(
                instruction=episode.instruction,
                done=said.done.astype(np.float64),
                truth=known_truth(episode),
                uncertainty=said.uncertainty,
            )
        )
        if on_progress is not None:
            on_progress(number + 1)
    return found


def known_truth(episode: Episode) -> NDArray[np.float64]:
    """Return what is known of every frame, ``(T,)``: 1, 0 or NaN.

    Where only the outcome was recorded, nothing of a failure is done, the last frame of a success
    is, its first half is not, and the rest is left open.

    Raises:
        DatasetError: Nothing is known.
    """
    if episode.done is not None:
        return episode.done.astype(np.float64)
    if episode.success is None:
        raise DatasetError(
            f"episode {episode.id} does not say whether it succeeded; calibration needs to know"
        )
    truth = np.zeros(len(episode))
    if episode.success:
        truth[len(episode) // 2 :] = np.nan
        truth[-1] = 1.0
    return truth


def fit(
    played: Sequence[Played], *, model: RewardModel, options: CalibrationOptions, data: str = ""
) -> Calibration:
    """Fit curve and gate over all episodes, and for each instruction that has enough of its own.

    The limit above which the model abstains is one for all instructions: it is about what is seen.

    Raises:
        DatasetError: Too few episodes, one outcome only, or no threshold is precise enough.
    """
    overall = fit_task(played, options=options)
    texts: dict[str, list[Played]] = {}
    for one in played:
        texts.setdefault(one.instruction, []).append(one)
    tasks = {}
    for text, own in texts.items():
        if len(texts) > 1 and enough(own):
            try:
                tasks[text] = fit_task(own, options=options)
            except DatasetError:
                continue  # enough to fit a curve, not enough for that precision
    return Calibration(
        model=model.model_id,
        prompt=model.prompt_id,
        overall=overall,
        tasks=tasks,
        asked_precision=options.precision,
        abstention=None
        if options.abstain == 0.0
        else fit_abstention(
            [one.uncertainty for one in played],
            asked=options.abstain,
            resamples=options.resamples,
            seed=options.seed,
        ),
        data=data,
    )


def enough(played: Sequence[Played]) -> bool:
    """Whether both outcomes are there often enough for a fit."""
    reached = sum(one.reached for one in played)
    return reached >= LEAST and len(played) - reached >= LEAST


def fit_task(played: Sequence[Played], *, options: CalibrationOptions) -> TaskCalibration:
    """Fit one curve and one operating point.

    Raises:
        DatasetError: Too few episodes, one outcome only, or no threshold is precise enough.
    """
    reached = sum(one.reached for one in played)
    if not enough(played):
        raise DatasetError(
            f"{reached} episodes end with the goal reached and {len(played) - reached} without; "
            f"{LEAST} of each are needed, or the fit would be a guess"
        )
    curve, held_out = fit_curve(played, options=options)
    own = np.concatenate([one.done for one in played])
    truth = np.concatenate([one.truth for one in played])
    gate, figures = operating_point(played, curve, options=options)
    return TaskCalibration(
        curve=curve,
        gate=gate,
        precision=_interval(figures["precision"]),
        recall=_interval(figures["recall"]),
        false_done_per_1000=_interval(figures["false"], most=1000.0),
        ece_before=ece(reliability(own, truth)),
        ece_after=ece(reliability(held_out, truth)),
        episodes=len(played),
        reached=reached,
    )


# -- the curve ---------------------------------------------------------------------------------


def fit_curve(
    played: Sequence[Played], *, options: CalibrationOptions
) -> tuple[DoneCurve, NDArray[np.float64]]:
    """Fit the curve; returns it and, per frame, what curves fitted without its episode say.

    Frames of one episode are alike, so that folds are of episodes.
    """
    methods = ("sigmoid", "isotonic") if options.method == "auto" else (options.method,)
    rng = np.random.default_rng(options.seed)
    folds = np.arange(len(played)) % FOLDS
    # Both outcomes in every fold: shuffled within each, dealt out in turn.
    order = sorted(rng.permutation(len(played)).tolist(), key=lambda i: played[i].reached)
    fold_of = np.empty(len(played), int)
    fold_of[order] = folds
    best: tuple[float, str, NDArray[np.float64]] | None = None
    truth = np.concatenate([one.truth for one in played])
    for method in methods:
        parts: list[NDArray[np.float64]] = [np.empty(0)] * len(played)
        for fold in range(FOLDS):
            rest = [one for one, number in zip(played, fold_of, strict=True) if number != fold]
            curve = FITS[method](*_frames(rest))
            for index in np.flatnonzero(fold_of == fold).tolist():
                parts[index] = curve(played[index].done).astype(np.float64)
        said = np.concatenate(parts)
        loss = _cross_entropy(said, truth)
        if best is None or loss < best[0]:
            best = (loss, method, said)
    assert best is not None
    return FITS[best[1]](*_frames(played)), best[2]


def fit_sigmoid(done: NDArray[np.float64], truth: NDArray[np.float64]) -> DoneCurve:
    """Fit slope and offset of the log-odds by maximum likelihood (Platt 1999)."""
    from scipy.optimize import minimize

    odds = log_odds(done)

    def loss(values: NDArray[np.float64]) -> float:
        said = np.exp(values[0]) * odds + values[1]
        # log(1 + e^x) - y x, without overflow; a whisper of a prior keeps separable data finite.
        likelihood = np.mean(np.logaddexp(0.0, said) - truth * said)
        return float(likelihood + 1e-4 * (values**2).sum())

    found = minimize(loss, np.zeros(2), method="L-BFGS-B").x
    return DoneCurve(kind="sigmoid", slope=float(np.exp(found[0])), offset=float(found[1]))


def fit_isotonic(done: NDArray[np.float64], truth: NDArray[np.float64]) -> DoneCurve:
    """Fit the rising step function nearest to the truth, joined by straight lines."""
    from scipy.optimize import isotonic_regression

    places, where, counts = np.unique(done, return_inverse=True, return_counts=True)
    shares = np.bincount(where, weights=truth) / counts
    fitted = isotonic_regression(shares, weights=counts).x
    # Of every flat piece its two ends say all.
    ends = np.flatnonzero(np.diff(fitted, prepend=-1.0) > 0)
    last = np.append(ends[1:] - 1, len(fitted) - 1)
    keep = np.unique(np.concatenate([ends, last]))
    x, y = places[keep], fitted[keep]
    if len(x) < 2:
        x, y = np.array([0.0, 1.0]), np.array([y[0], y[0]])
    return DoneCurve(kind="isotonic", x=tuple(x.tolist()), y=tuple(np.clip(y, 0, 1).tolist()))


FITS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], DoneCurve]] = {
    "sigmoid": fit_sigmoid,
    "isotonic": fit_isotonic,
}


def _frames(played: Sequence[Played]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    done = np.concatenate([one.done for one in played])
    truth = np.concatenate([one.truth for one in played])
    known = np.isfinite(done) & np.isfinite(truth)
    return done[known], truth[known]


def _cross_entropy(said: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    known = np.isfinite(said) & np.isfinite(truth)
    odds = log_odds(said[known])
    return float(np.mean(np.logaddexp(0.0, odds) - truth[known] * odds))


# -- the gate ----------------------------------------------------------------------------------


def operating_point(
    played: Sequence[Played], curve: DoneCurve, *, options: CalibrationOptions
) -> tuple[GateConfig, dict[str, Estimate]]:
    """Find the threshold with the highest recall among those that are precise enough.

    Raises:
        DatasetError: None is.
    """
    mapped = [curve(one.done).astype(np.float64) for one in played]
    seen = np.concatenate(mapped)
    top = float(log_odds(np.nanmax(seen, keepdims=True))[0])
    # Even in log-odds: where it matters, between sure and very sure, probabilities lie close.
    levels = np.minimum(sigmoid(np.linspace(LOWEST, max(top, LOWEST), THRESHOLDS)), np.nanmax(seen))
    best: tuple[float, float, Table] | None = None
    closest = (0.0, 0.0)
    for enter in levels:
        gate = options.gate(float(enter))
        table = _table(played, mapped, gate)
        precision, recall = gate_precision(table), gate_recall(table)
        if math.isnan(precision) or math.isnan(recall):
            continue
        closest = max(closest, (precision, recall))
        if precision >= options.precision and (best is None or recall >= best[0]):
            best = (recall, float(enter), table)  # of equals the higher threshold
    if best is None:
        raise DatasetError(
            f"no threshold reaches a precision of {options.precision:g} on {len(played)} episodes "
            f"(the best has {closest[0]:.3f} at recall {closest[1]:.2f}); ask for less with "
            "--precision, or train the model on such episodes"
        )
    figures = estimate(
        best[2],
        {"precision": gate_precision, "recall": gate_recall, "false": gate_false_dones},
        resamples=options.resamples,
        seed=options.seed,
    )
    return options.gate(best[1]), figures


def _table(
    played: Sequence[Played], mapped: Sequence[NDArray[np.float64]], gate: GateConfig
) -> Table:
    rows = []
    for one, done in zip(played, mapped, strict=True):
        # Where nobody knows, a decision is not held against the gate: the goal was near.
        truth = np.where(np.isnan(one.truth), 1.0, one.truth) == 1.0
        rows.append(gate_outcome(fire_frame(done, gate=gate), truth).counts)
    return {"gate": np.stack(rows)}


def _interval(figure: Estimate, *, most: float = 1.0) -> Interval:
    low = figure.low if math.isfinite(figure.low) else 0.0
    high = figure.high if math.isfinite(figure.high) else most
    return Interval(value=float(figure.value), low=low, high=high)
