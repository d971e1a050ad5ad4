"""The harness on painted episodes: right figures, one encoding per frame, honest NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robo_reward.client.source import ModelInfo
from robo_reward.datasets.clips import spread_places
from robo_reward.datasets.episode import Episode
from robo_reward.errors import DatasetError
from robo_reward.evaluate import METRICS, EvalOptions, EvalResult, evaluate
from robo_reward.evaluate.scoring import STRIP, pair_places
from robo_reward.models.base import RewardModel, ScoreArrays
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.query import Query
from robo_reward.report.bootstrap import estimate
from robo_reward.shaping import GateConfig
from robo_reward.shaping.outcome import fire_frame
from robo_reward.signals import SIGNALS, Score

from .episodes import Clock, Listener, painted, ramp

OPTIONS = EvalOptions(resamples=40, batch_size=7)


def _episodes() -> list[Episode]:
    good = [painted(ramp(20 + n), number=n) for n in range(4)]
    half = [painted(ramp(20, end=0.5), number=10 + n) for n in range(3)]
    undone = ramp(12, end=0.9) + ramp(12, end=0.9)[::-1]
    return [*good, *half, painted(undone, number=20, kind="undoes")]


def _figures(model: RewardModel, episodes: Sequence[Episode]) -> dict[str, float]:
    result = evaluate({"m": model}, episodes, options=OPTIONS)
    return {name: figure.value for name, figure in result.models[0].overall.items()}


def test_a_model_that_sees_and_listens_gets_full_marks() -> None:
    figures = _figures(Listener(), _episodes())
    for name in ("voc", "vroc", "voc_f1", "success_auc", "pairwise_accuracy", "done_precision"):
        assert figures[name] == pytest.approx(1.0), name
    for name in (
        "direction_accuracy",
        "falling_f1",
        "rising_f1",
        "tau_a_of_ceiling",
        "done_recall",
    ):
        assert figures[name] == pytest.approx(1.0), name
    for name in ("success_auprc", "success_f1", "preference_accuracy", "mismatch_rejection"):
        assert figures[name] == pytest.approx(1.0), name
    for name in ("paraphrase_spread", "paraphrase_spread_held_out", "rubric_mae"):
        assert figures[name] == pytest.approx(0.0), name
    for name in ("max_progress", "path_efficiency", "regret", "stagnation"):
        assert figures[f"{name}_error"] == pytest.approx(0.0, abs=0.01), name
    assert figures["diagonal_margin"] == pytest.approx(0.9)
    assert figures["mismatch_drop"] == pytest.approx(0.9)
    assert figures["pearson"] == pytest.approx(1.0, abs=1e-3)
    assert figures["false_done_per_1000"] == 0.0
    assert figures["ece"] == pytest.approx(0.0)
    assert figures["antisymmetry_error"] == 0.0
    assert figures["done_delay"] == 3.0


def test_a_clock_is_found_out() -> None:
    figures = _figures(Clock(), _episodes())
    assert figures["voc"] == pytest.approx(1.0)
    assert figures["vroc"] == pytest.approx(-1.0)
    assert figures["voc_f1"] == 0.0
    assert figures["direction_accuracy"] == pytest.approx(0.5)
    assert figures["falling_f1"] == 0.0
    assert figures["antisymmetry_error"] == pytest.approx(2.0)
    assert figures["mismatch_drop"] == 0.0


def test_ignoring_language_drops_nothing() -> None:
    assert _figures(OraclePixels(), _episodes())["mismatch_drop"] == 0.0


def test_every_frame_is_encoded_once() -> None:
    model = OraclePixels()
    episodes = _episodes()
    # Sanity clips paint new pictures, which are new frames.
    result = evaluate({"m": model}, episodes, options=replace(OPTIONS, sanity=0)).models[0]
    assert model.encoded_frames == sum(map(len, episodes)) == result.counts["frames"]
    queries = result.counts["queries"]
    assert isinstance(queries, int)
    assert queries > 2 * model.encoded_frames


def test_constant_curves_score_zero_and_are_counted() -> None:
    flat = painted([0.5] * 10, success=True, truth=ramp(10))
    result = evaluate({"m": OraclePixels()}, [flat], options=OPTIONS).models[0]
    assert result.overall["voc"].value == 0.0
    assert result.overall["vroc"].value == 0.0
    assert result.overall["voc_of_truth"].value == 1.0
    assert result.counts["constant_curves_of_successes"] == 1


def test_without_truth_the_figures_are_nan_not_zero() -> None:
    bare = Episode(
        id="x", instruction="push the red cube", images={"cam": np.zeros((5, 8, 8, 3), np.uint8)}
    )
    result = evaluate({"m": OraclePixels()}, [bare], options=OPTIONS).models[0]
    assert {n for n, f in result.overall.items() if not math.isnan(f.value)} == {
        "antisymmetry_error"
    }


def test_false_dones_are_counted_per_thousand_steps() -> None:
    liar = painted(ramp(50, end=0.4), done=[0.0] * 20 + [1.0] * 30, number=1)
    result = evaluate({"m": OraclePixels()}, [liar], options=OPTIONS).models[0]
    # Votes at frames 20, 21, 22 open the gate, the dwell ends at 23: 24 frames were played.
    assert result.episodes[0].fired == 23
    assert result.overall["false_done_per_1000"].value == pytest.approx(1000 / 24)
    assert result.overall["done_precision"].value == 0.0


def test_gate_holds_the_last_score_where_the_recording_stops_at_success() -> None:
    done = np.array([0.1, 0.2, 0.95], np.float32)
    assert fire_frame(done, gate=GateConfig()) == 5
    assert fire_frame(done, gate=GateConfig(enter=0.96)) is None
    assert fire_frame(np.array([0.95, np.nan], np.float32), gate=GateConfig()) is None


def test_a_false_instruction_is_rejected_only_where_the_gate_stays_closed() -> None:
    """The deaf model says done under both; a sentence that was true once is not asked about."""
    won = painted(ramp(30), number=1)
    won.meta["alternatives"] = [*won.meta["alternatives"], "reach the red cube"]
    deaf = evaluate({"m": OraclePixels()}, [won], options=OPTIONS).models[0]
    assert deaf.counts["false_instructions_judged"] == 2
    assert deaf.overall["mismatch_rejection"].value == 0.0
    hears = evaluate({"m": Listener()}, [won], options=OPTIONS).models[0]
    assert hears.overall["mismatch_rejection"].value == 1.0


def test_the_matrix_counts_what_is_known_and_nothing_else() -> None:
    won = [painted(ramp(20), number=1), painted(ramp(20), number=2, family="lift")]
    won[1].meta["other_tasks"] = {"stack": "stack the green can on the red ball"}
    lost = painted(ramp(20, end=0.4), number=3)
    model = evaluate({"m": Listener()}, [*won, lost], options=OPTIONS).models[0]
    assert model.matrix.tasks == ("lift", "push", "stack")
    assert model.matrix.videos == ("lift", "push")
    want = [[1.0, 0.1], [math.nan, 1.0], [0.1, math.nan]]
    np.testing.assert_allclose(model.matrix.progress, want, atol=1e-6)
    np.testing.assert_allclose(model.matrix.other_things, [math.nan, 0.1], atol=1e-6)
    assert model.matrix.counts.tolist() == [1, 1]
    assert model.overall["diagonal_margin"].value == pytest.approx(0.9)


def test_wordings_are_compared_with_the_episodes_own() -> None:
    class Literal(Listener):
        """Knows the sentences of training only."""

        def _score(self, queries, newest, reference, history):  # type: ignore[no-untyped-def]
            arrays = super()._score(queries, newest, reference, history)  # type: ignore[no-untyped-call]
            known = [0.5 if q.task.text == "red cube: push!" else 1.0 for q in queries]
            return replace(arrays, progress=arrays.progress * np.array(known, np.float32))

    model = evaluate({"m": Literal()}, [painted(ramp(20))], options=OPTIONS).models[0]
    assert model.overall["paraphrase_spread"].value == pytest.approx(0.0)
    # 1 and a half: they lie a quarter from their mean.
    assert model.overall["paraphrase_spread_held_out"].value == pytest.approx(0.25)


def test_families_and_kinds_have_their_own_rows() -> None:
    episodes = [painted(ramp(10), number=1), painted(ramp(10, end=0.3), number=2, family="lift")]
    result = evaluate({"m": OraclePixels()}, episodes, options=OPTIONS).models[0]
    assert list(result.families) == ["lift", "push"]
    assert math.isnan(result.families["lift"]["voc"].value)
    assert result.families["push"]["voc"].value == 1.0
    assert result.kinds["half-way"]["final_progress"] == pytest.approx(0.3, abs=0.01)


class FlakySource:
    """A node that refuses every third question."""

    def __init__(self) -> None:
        self.model = OraclePixels()
        self.sizes: list[int] = []

    def info(self) -> ModelInfo:
        return ModelInfo(
            model="node@1",
            prompt="",
            calibration="none",
            signals=SIGNALS,
            max_views=1,
            goal_image=False,
        )

    def submit(self, queries: Sequence[Query], *, deadline_s: float | None = None) -> Answered:
        self.sizes.append(len(queries))
        scores = self.model.answer(queries)
        refused = [
            Score.missing("BUSY", identity=s.identity) if i % 3 == 2 else s
            for i, s in enumerate(scores)
        ]
        return Answered(refused)

    def close(self) -> None:
        pass


class Answered:
    def __init__(self, scores: list[Score]) -> None:
        self.scores = scores

    def done(self) -> bool:
        return True

    def result(self, *, timeout_s: float) -> list[Score]:
        return self.scores

    def cancel(self) -> None:
        pass


def test_a_source_is_asked_in_batches_and_its_gaps_are_counted() -> None:
    source = FlakySource()
    result = evaluate({"node": source}, [painted(ramp(20))], options=OPTIONS).models[0]  # type: ignore[dict-item]
    assert max(source.sizes) == OPTIONS.batch_size
    missing = result.counts["queries_missing"]
    assert isinstance(missing, dict)
    assert missing["overloaded"] == sum(size // 3 for size in source.sizes)
    assert np.isnan(result.episodes[0].scores.forward.progress[2])
    assert result.overall["voc"].value == pytest.approx(1.0)
    assert result.model == "node@1"


class Doubtful(OraclePixels):
    """Uncertain of frames that are nearly done."""

    def _score(self, *arguments: Any) -> ScoreArrays:
        said = super()._score(*arguments)
        return replace(said, uncertainty=said.progress)


def test_what_a_model_abstains_from_is_counted_and_masked() -> None:
    model = Doubtful()
    model.limit(0.75)
    episodes = [painted(ramp(21), number=1), painted(ramp(21, end=0.5), number=2)]
    result = evaluate({"m": model}, episodes, options=OPTIONS).models[0]
    first, second = (one.scores for one in result.episodes)
    assert np.isnan(first.forward.progress[16:]).all()
    assert np.isfinite(first.forward.progress[:15]).all()
    assert first.missing["abstained"] > 5
    assert not second.missing
    counted = result.counts["queries_missing"]
    assert isinstance(counted, dict)
    assert set(counted) == {"abstained"}
    assert counted["abstained"] >= first.missing["abstained"]
    assert math.isfinite(result.overall["pearson"].value)
    # Abstaining from everything is an answer, not an outage.
    model.limit(0.0)
    result = evaluate({"m": model}, [painted([0.5] * 9)], options=OPTIONS).models[0]
    assert result.counts["queries_missing"] == {"abstained": result.counts["queries"]}
    assert math.isnan(result.overall["pearson"].value)


def test_models_stand_side_by_side_and_progress_is_told() -> None:
    told: list[int] = []
    result = evaluate(
        {"a": Listener(), "b": Clock()}, _episodes(), options=OPTIONS, on_progress=told.append
    )
    assert told == list(range(1, 9))
    plain = result.as_dict()
    assert set(plain["models"]) == {"a", "b"}  # type: ignore[call-overload]
    assert {m.name for m in METRICS} <= set(plain)
    json.dumps(plain)


def test_same_seed_same_intervals() -> None:
    def intervals(result: EvalResult) -> list[tuple[float, float]]:
        return [(f.low, f.high) for f in result.models[0].overall.values()]

    runs = [evaluate({"m": Clock()}, _episodes(), options=OPTIONS) for _ in range(2)]
    np.testing.assert_array_equal(intervals(runs[0]), intervals(runs[1]))
    figure = runs[0].models[0].overall["progress_mae"]
    assert figure.low < figure.value < figure.high


def test_bootstrap_interval_of_a_mean_is_that_of_the_normal() -> None:
    values = np.random.default_rng(0).normal(size=400)
    figure = estimate({"x": values}, {"mean": lambda t: float(t["x"].mean())}, resamples=2000)[
        "mean"
    ]
    half = 1.96 * values.std() / math.sqrt(400)
    assert (figure.high - figure.low) / 2 == pytest.approx(half, rel=0.1)


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(DatasetError, match="no episodes"):
        evaluate({"m": OraclePixels()}, [])
    with pytest.raises(ValueError, match="at least one model"):
        evaluate({}, _episodes())
    with pytest.raises(DatasetError, match="known: front"):
        evaluate({"m": OraclePixels()}, _episodes(), options=EvalOptions(cameras=("wrist",)))
    with pytest.raises(ValueError, match="batch_size must be >= 1"):
        EvalOptions(batch_size=0)


def test_single_frames_and_places() -> None:
    assert spread_places(1, count=STRIP).tolist() == [0]
    assert spread_places(3, count=STRIP).tolist() == [0, 1, 2]
    assert pair_places(1, count=16)[0].tolist() == []
    starts, ends = pair_places(41, count=16)
    assert (ends - starts == 5).all()
    assert ends[-1] == 40
    evaluate({"m": OraclePixels()}, [painted([1.0])], options=OPTIONS)
