"""Every metric against an independent implementation or an example worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from robo_reward.evaluate import metrics, ranks
from robo_reward.shaping import outcome, reliability

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
