"""Every metric against an independent implementation or an example worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from robo_reward.evaluate import metrics, ranks
from robo_reward.shaping import outcome, reliability
from robo_reward.shaping.audit import AUDIT, audit

RNG = np.random.default_rng(7)
NAN = math.nan


def _series(case: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(case)
    x, y = rng.normal(size=40), rng.normal(size=40)
    # Every other case is coarse, so that there are many ties.
    return (np.round(x), np.round(y)) if case % 2 else (x + y, y)


@pytest.mark.parametrize("case", range(6))
def test_ranks_and_correlations_agree_with_scipy(case: int) -> None:
    x, y = _series(case)
    assert ranks.ranks(x) == pytest.approx(stats.rankdata(x))
    assert ranks.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert ranks.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize("case", range(6))
def test_tau_a_is_scipys_tau_b_without_its_tie_correction(case: int) -> None:
    x, y = _series(case)
    pairs = len(x) * (len(x) - 1) / 2
    untied = [
        pairs - sum(n * (n - 1) / 2 for n in np.unique(v, return_counts=True)[1]) for v in (x, y)
    ]
    tau_b = stats.kendalltau(x, y).statistic
    assert ranks.kendall_tau_a(x, y) == pytest.approx(
        tau_b * math.sqrt(untied[0] * untied[1]) / pairs
    )
    assert ranks.tau_a_ceiling(y) == pytest.approx(untied[1] / pairs)


@pytest.mark.parametrize("case", range(6))
def test_roc_agrees_with_scikit_learn(case: int) -> None:
    score, other = _series(case)
    truth = other > 0
    assert ranks.roc_auc(score, truth) == pytest.approx(sklearn_metrics.roc_auc_score(truth, score))
    false, true = ranks.roc_curve(score, truth)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(ranks.roc_auc(score, truth))


def test_nan_pairs_are_left_out() -> None:
    x, y = [1.0, NAN, 2.0, 4.0], [1.0, 5.0, 3.0, NAN]
    assert ranks.spearman(x, y) == 1.0
    assert ranks.pearson(x, y) == pytest.approx(1.0)
    assert ranks.kendall_tau_a(x, y) == 1.0
    assert ranks.roc_auc([0.1, 0.9, NAN], [0, 1, 0]) == 1.0


def test_constants_and_short_series_follow_the_written_rules() -> None:
    assert ranks.spearman([0.5, 0.5, 0.5], [1, 2, 3]) == 0.0
    assert ranks.pearson([0.5, 0.5, 0.5], [1, 2, 3]) == 0.0
    assert math.isnan(ranks.spearman([1, 2, 3], [4, 4, 4]))
    assert math.isnan(ranks.pearson([1.0], [1.0]))
    assert math.isnan(ranks.kendall_tau_a([1.0], [1.0]))
    assert math.isnan(ranks.roc_auc([0.1, 0.2], [1, 1]))
    assert ranks.roc_auc([0.5, 0.5], [0, 1]) == 0.5
    assert len(ranks.roc_curve([0.1, 0.2], [1, 1])[0]) == 0


def test_rounding_noise_is_constant() -> None:
    noise = 0.5 + RNG.normal(size=50) * 1e-8
    assert metrics.voc(noise) == 0.0


def test_series_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        ranks.pearson([1, 2], [1, 2, 3])


def test_voc_and_vroc() -> None:
    assert metrics.voc([0.0, 0.1, 0.5, 0.9]) == 1.0
    assert metrics.vroc([0.9, 0.5, 0.1, 0.0]) == 1.0
    assert metrics.vroc([0.0, 0.1, 0.5, 0.9]) == -1.0
    assert math.copysign(1, metrics.vroc([0.5, 0.5])) == 1.0
    # By hand: ranks 1, 2.5, 2.5, 4 against 1..4.
    assert metrics.voc([0, 1, 1, 2]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(metrics.voc([0.5]))
    assert math.isnan(metrics.voc([]))


def test_voc_f1_clamps_at_zero() -> None:
    assert metrics.voc_f1(0.8, 0.4) == pytest.approx(2 * 0.32 / 1.2)
    assert metrics.voc_f1(0.9, -0.9) == 0.0
    assert metrics.voc_f1(0.0, 0.0) == 0.0
    assert math.isnan(metrics.voc_f1(NAN, 1.0))


def test_mismatch_drop() -> None:
    assert metrics.mismatch_drop(0.9, [0.1, 0.3, NAN]) == pytest.approx(0.7)
    assert math.isnan(metrics.mismatch_drop(0.9, []))
    assert math.isnan(metrics.mismatch_drop(NAN, [0.1]))


def test_pairwise_ties_are_wrong() -> None:
    assert metrics.pairwise_counts([0.9, 0.5, 0.5, 0.1, NAN], [1, 1, 0, 0, 1]) == (3, 4)
    assert metrics.pairwise_counts([0.9], [1]) == (0, 0)


def test_direction_counts_zero_as_half_and_skips_small_changes() -> None:
    right, judged = metrics.direction_counts([0.5, -0.5, 0.0, 1.0, NAN], [0.2, 0.2, -0.3, 0.01, 1])
    assert (right, judged) == (1.5, 3)


def test_trend_f1_agrees_with_scikit_learn() -> None:
    truth = RNG.choice([-0.3, 0.3], 200)
    delta = truth + RNG.normal(size=200) * 0.4
    counts = metrics.trend_counts(delta, truth)
    for sign, three in ((1, counts[:3]), (-1, counts[3:])):
        want = sklearn_metrics.f1_score(np.sign(truth) == sign, np.sign(delta) == sign)
        assert metrics.f1(*three) == pytest.approx(want)


def test_trend_zero_delta_is_a_miss_of_both() -> None:
    assert metrics.trend_counts([0.0, 0.0], [0.5, -0.5]) == (0, 0, 1, 0, 0, 1)
    assert math.isnan(metrics.f1(0, 0, 0))


@pytest.mark.parametrize(
    ("fired", "truth", "want"),
    [
        (None, [0, 0, 1], (False, False, True, 3, NAN)),
        (None, [0, 1, 0], (False, False, False, 3, NAN)),
        (2, [0, 1, 1, 1], (True, False, False, 3, 1.0)),
        (1, [0, 0, 1, 1], (False, True, False, 2, NAN)),
        # Two frames beyond the end: the scene stands still, the delay counts on.
        (5, [0, 0, 1, 1], (True, False, False, 4, 3.0)),
    ],
)
def test_gate_outcome(
    fired: int | None, truth: list[int], want: tuple[bool, bool, bool, int, float]
) -> None:
    out = outcome.gate_outcome(fired, np.array(truth, bool))
    assert (out.true_done, out.false_done, out.missed, out.steps) == want[:4]
    assert out.delay == pytest.approx(want[4], nan_ok=True)


def test_done_precision_and_recall() -> None:
    assert outcome.done_precision((8, 2, 4)) == pytest.approx(0.8)
    assert outcome.done_recall((8, 2, 4)) == pytest.approx(8 / 12)
    assert math.isnan(outcome.done_precision((0, 0, 3)))
    assert math.isnan(outcome.done_recall((0, 3, 0)))


def test_reliability_agrees_with_scikit_learn() -> None:
    probability = RNG.random(2000)
    truth = RNG.random(2000) < probability**2
    counts = reliability.reliability(probability, truth, bins=10)
    share, confidence = calibration_curve(truth, probability, n_bins=10)
    assert counts[:, 2] / counts[:, 0] == pytest.approx(share)
    assert counts[:, 1] / counts[:, 0] == pytest.approx(confidence)
    weights = counts[:, 0] / counts[:, 0].sum()
    assert reliability.ece(counts) == pytest.approx(float(weights @ np.abs(share - confidence)))


def test_reliability_edges_and_nan() -> None:
    counts = reliability.reliability([0.0, 1.0, 0.5, NAN], [0, 1, 1, 1], bins=2)
    assert counts.tolist() == [[2, 0.5, 1], [1, 1, 1]]
    assert math.isnan(reliability.ece(np.zeros((2, 3))))


@pytest.mark.parametrize("case", range(6))
def test_average_precision_agrees_with_scikit_learn(case: int) -> None:
    score, other = _series(case)
    truth = other > 0
    want = sklearn_metrics.average_precision_score(truth, score)
    assert ranks.average_precision(score, truth) == pytest.approx(want)
    with_nan = np.append(score, NAN), np.append(truth.astype(float), 1.0)
    assert metrics.success_auprc(*with_nan) == pytest.approx(want)


def test_average_precision_of_one_class_and_of_constants() -> None:
    assert math.isnan(ranks.average_precision([0.1, 0.2], [1, 1]))
    assert math.isnan(ranks.average_precision([0.1, 0.2], [0, 0]))
    assert ranks.average_precision([0.5] * 8, [1, 0, 0, 0] * 2) == pytest.approx(0.25)


def test_success_f1_agrees_with_scikit_learn() -> None:
    done, truth = RNG.random(200), RNG.random(200) > 0.6
    enter = np.where(np.arange(200) % 2, 0.5, 0.8)
    want = sklearn_metrics.f1_score(truth, done >= enter)
    assert metrics.f1(*metrics.claim_counts(done, truth, enter)) == pytest.approx(want)


def test_success_claims_at_the_threshold_count_and_nan_does_not() -> None:
    assert metrics.claim_counts([0.9, 0.89, 0.95, NAN, 0.9], [1, 1, 0, 1, NAN], [0.9] * 5) == (
        1,
        1,
        1,
    )


@pytest.mark.parametrize("case", range(6))
def test_preferences_are_the_concordant_pairs_of_scipys_tau(case: int) -> None:
    score, other = _series(case)
    quality = np.clip(np.round(other), -1, 1)
    right, asked = metrics.preference_counts(score, quality)
    # Goodman and Kruskal count ties in neither; the crosstab gives concordant pairs directly.
    table = stats.contingency.crosstab(score, quality).count
    concordant = sum(
        table[i, j] * table[i + 1 :, j + 1 :].sum()
        for i in range(table.shape[0])
        for j in range(table.shape[1])
    )
    assert right == concordant
    pairs = len(quality) * (len(quality) - 1) / 2
    assert asked == pairs - sum(n * (n - 1) / 2 for n in np.unique(quality, return_counts=True)[1])


def test_preference_ties_are_wrong_and_nan_is_not_asked() -> None:
    assert metrics.preference_counts([0.9, 0.5, 0.5, NAN, 0.1], [2, 1, 0, 0, NAN]) == (2, 3)
    assert metrics.preference_counts([0.9, 0.8], [1, 1]) == (0, 0)


@pytest.mark.parametrize(
    ("progress", "score"),
    [
        (0.0, 1),
        (0.12, 1),
        (0.125, 2),
        (0.25, 2),
        (0.5, 3),
        (0.62, 3),
        (0.87, 4),
        (0.875, 5),
        (1, 5),
    ],
)
def test_rubric_bins(progress: float, score: int) -> None:
    assert metrics.rubric(progress) == score
    assert metrics.rubric(progress, success=False) == min(score, 4)
    assert metrics.rubric(progress, success=True) == score


def test_rubric_of_nan_is_nan() -> None:
    assert math.isnan(metrics.rubric(NAN))
    assert math.isnan(metrics.rubric(NAN, success=False))


def test_diagonal_margin_by_hand() -> None:
    assert metrics.diagonal_margin(0.9, {"a": 0.1, "b": NAN, "c": 0.3}) == pytest.approx(0.7)
    assert math.isnan(metrics.diagonal_margin(0.9, {}))
    assert math.isnan(metrics.diagonal_margin(NAN, {"a": 0.1}))


def test_wording_spread_is_the_population_standard_deviation() -> None:
    finals = RNG.random(9)
    assert metrics.wording_spread(finals) == pytest.approx(stats.tstd(finals) * math.sqrt(8 / 9))
    assert metrics.wording_spread([0.2, NAN, 0.4]) == pytest.approx(0.1)
    assert metrics.wording_spread([0.7] * 5) == pytest.approx(0.0)
    assert math.isnan(metrics.wording_spread([0.4, NAN]))
    assert math.isnan(metrics.wording_spread([]))


def test_audit_by_hand() -> None:
    # Up to 0.8, down to 0.4, standing still, up to 0.6; P0 = 0 stands before the first frame.
    figures = dict(zip(AUDIT, audit([0.2, 0.8, 0.4, 0.402, 0.6]), strict=True))
    assert figures["max_progress"] == pytest.approx(0.8)
    length = 0.2 + 0.6 + 0.4 + 0.002 + 0.198
    assert figures["path_efficiency"] == pytest.approx(0.6**2 / length)
    assert figures["regret"] == pytest.approx((0 + 0 + 0.4 + 0.398 + 0.2) / 5)
    assert figures["stagnation"] == pytest.approx(1 / 4)


def test_audit_of_constants_gaps_and_nothing() -> None:
    assert audit([0.0, 0.0, 0.0]).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert audit([0.5, 0.5]).tolist() == pytest.approx([0.5, 0.5, 0.0, 1.0])
    assert audit([0.1, NAN, 0.6]).tolist() == pytest.approx(audit([0.1, 0.6]).tolist())
    assert np.isnan(audit([NAN, NAN])).all()
    assert np.isnan(audit([])).all()
    assert audit([0.4])[:3].tolist() == pytest.approx([0.4, 0.4, 0.0])
    assert math.isnan(audit([0.4])[3])


curves = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30)
gappy = st.lists(st.one_of(st.floats(0, 1, width=32), st.just(NAN)), min_size=1, max_size=30)


@given(curves)
def test_audit_stays_in_its_range_and_rewards_a_straight_way(curve: list[float]) -> None:
    figures = audit(curve)
    assert np.all((figures >= 0) & (figures <= 1) | np.isnan(figures))
    straight = audit(np.sort(curve))
    assert straight[2] == 0.0
    if straight[1] > 0:
        # Sorted, the path goes nowhere twice: its efficiency is where it ends.
        assert straight[1] == pytest.approx(max(curve), abs=1e-6)


@given(gappy, st.integers(0, 5))
def test_rules_for_ties_nan_and_constants_hold_for_any_scores(
    score: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, len(score)).astype(float)
    for figure in (
        metrics.success_auc(score, truth),
        metrics.success_auprc(score, truth),
        metrics.f1(*metrics.claim_counts(score, truth, np.full(len(score), 0.5))),
    ):
        assert math.isnan(figure) or -1e-9 <= figure <= 1 + 1e-9
    known = np.isfinite(score)
    right, asked = metrics.preference_counts(score, truth)
    assert 0 <= right <= asked == truth[known].sum() * (1 - truth[known]).sum()
    # Order of the episodes and NaN beside them change nothing.
    order = rng.permutation(len(score))
    shuffled = np.append(np.array(score)[order], NAN), np.append(truth[order], 1.0)
    assert metrics.preference_counts(*shuffled) == (right, asked)
    again, before = metrics.success_auprc(*shuffled), metrics.success_auprc(score, truth)
    assert again == pytest.approx(before, nan_ok=True)
    spread = metrics.wording_spread(score)
    assert math.isnan(spread) == (known.sum() < 2)
    assert math.isnan(spread) or 0 <= spread <= 0.5


@given(st.floats(0, 1, width=32), st.integers(2, 20))
def test_a_constant_model_earns_the_floor(value: float, count: int) -> None:
    truth = [float(i % 2) for i in range(count)]
    assert metrics.success_auprc([value] * count, truth) == pytest.approx(np.mean(truth))
    assert metrics.preference_counts([value] * count, truth)[0] == 0
    assert metrics.diagonal_margin(value, {"a": value}) == 0.0
    assert metrics.wording_spread([value] * count) == pytest.approx(0.0, abs=1e-7)


def test_an_earlier_success_is_worth_more_and_a_lost_one_less() -> None:
    curves = [
        [0.0, 0.5, 1.0],  # direct
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],  # slow
        [0.0, 0.5, 1.0, 0.5, 0.0],  # lost
        [0.0, 0.0],  # never
    ]
    value = metrics.trajectory_value([metrics.curve_summary(curve) for curve in curves])
    # Held to six frames: (0.5 + 4 x 1) / 6, 3 / 6, 2 / 6 and 0.
    assert value == pytest.approx([0.75, 0.5, 2 / 6, 0.0])
    assert ranks.kendall_tau_a(value, [2.0, 1.0, 0.0, 0.0]) == pytest.approx(5 / 6)


def test_a_trajectory_without_a_last_score_has_no_value() -> None:
    value = metrics.trajectory_value(
        [metrics.curve_summary([0.0, math.nan]), metrics.curve_summary([math.nan, 1.0])]
    )
    assert math.isnan(value[0])
    assert value[1] == 1.0
    assert not len(metrics.trajectory_value(np.empty((0, 3))))
