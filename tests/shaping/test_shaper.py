from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robo_reward.errors import ConfigError
from robo_reward.shaping import PRESETS, EpisodeShaping, Shaper, ShapingConfig, TaskScale, preset
from robo_reward.shaping.shaper import Form
from robo_reward.signals import Identity, Score, Signals

progresses = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=30)
LOST = Score.missing("DEADLINE", identity=Identity())


def scored(progress: float, before: float | None = None, *, done: float = 0.0) -> Score:
    change = 0.0 if before is None else progress - before
    return Score(
        signals=Signals(
            progress=progress,
            progress_delta=change,
            done=done,
            contrastive=max(-1.0, min(1.0, 2 * change)),
            uncertainty=0.0,
        )
    )


def run(config: ShapingConfig, values: list[float], *, done_last: bool = False) -> list[float]:
    """Dense terms of an episode through these states."""
    shaping = Shaper(config).begin()
    shaping.rebase(scored(values[0]))
    dense = []
    for index in range(1, len(values)):
        done = done_last and index == len(values) - 1
        score = scored(values[index], values[index - 1])
        dense.append(shaping.settle([0.0], score, done=done)[0].dense)
    return dense


@given(progresses)
def test_undiscounted_sum_is_end_minus_start(values: list[float]) -> None:
    config = ShapingConfig(gamma=1.0, kappa=1.0)
    assert sum(run(config, values)) == pytest.approx(values[-1] - values[0], abs=1e-9)


@given(progresses, st.floats(0.5, 0.999))
def test_discounted_sum_is_what_potentials_leave(values: list[float], gamma: float) -> None:
    dense = run(ShapingConfig(gamma=gamma), values)
    total = sum(gamma**t * value for t, value in enumerate(dense))
    assert total == pytest.approx(gamma ** len(dense) * values[-1] - values[0], abs=1e-9)


@given(progresses, st.floats(0.5, 0.999))
def test_a_true_terminal_leaves_only_the_start(values: list[float], gamma: float) -> None:
    dense = run(ShapingConfig(gamma=gamma), values, done_last=True)
    total = sum(gamma**t * value for t, value in enumerate(dense))
    assert total == pytest.approx(-values[0], abs=1e-9)


@given(progresses, st.floats(0.0, 0.9), st.floats(0.0, 0.3))
def test_smoothed_and_held_potentials_telescope_too(
    values: list[float], ema: float, band: float
) -> None:
    config = ShapingConfig(gamma=1.0, kappa=1.0, ema=ema, dead_band=band)
    shaping = Shaper(config).begin()
    shaping.rebase(scored(values[0]))
    total, end = 0.0, values[0]
    for value in values[1:]:
        terms = shaping.settle([0.0], scored(value), done=False)[0]
        total, end = total + terms.dense, terms.potential
    assert total == pytest.approx(end - values[0], abs=1e-9)
    if ema == 0.0:
        assert abs(end - values[-1]) <= band


@given(progresses)
def test_delta_form_sums_to_end_minus_start(values: list[float]) -> None:
    dense = run(ShapingConfig(form="delta"), values)
    assert sum(dense) == pytest.approx(values[-1] - values[0], abs=1e-9)


def test_slow_progress_below_the_dead_band_is_paid_late_and_not_lost() -> None:
    values = [0.01 * index for index in range(11)]
    config = ShapingConfig(gamma=1.0, kappa=1.0, dead_band=0.035)
    dense = run(config, values)
    assert dense[:3] == [0.0, 0.0, 0.0]
    assert sum(dense) == pytest.approx(0.08)


def test_formula_of_the_design() -> None:
    shaping = Shaper(ShapingConfig(env_weight=0.5, gamma=0.9, kappa=2.0)).begin()
    shaping.rebase(scored(0.2))
    terms = shaping.settle([4.0], scored(0.5), done=False)[0]
    assert terms.total == pytest.approx(0.5 * 4 - 1 + 2 * (0.9 * 0.5 - 0.2))
    terms = shaping.settle([4.0], scored(0.9), done=True)[0]
    assert terms.total == pytest.approx(0.5 * 4 + 0 + 2 * (0.0 - 0.5))
    assert terms.potential == 0.0


def test_only_the_potential_form_has_no_potential_at_a_terminal() -> None:
    shaping = Shaper(ShapingConfig(form="delta", kappa=1.0)).begin()
    shaping.rebase(scored(0.2))
    terms = shaping.settle([0.0], scored(0.9, 0.2), done=True)[0]
    assert terms.total == pytest.approx(0.7)
    assert terms.potential == pytest.approx(0.9)


def test_stride_discounts_by_the_steps_in_between() -> None:
    shaping = Shaper(ShapingConfig(gamma=0.9, kappa=1.0, sparse=False)).begin()
    shaping.rebase(scored(0.2))
    steps = [shaping.between(0.0).total for _ in range(3)]
    steps.append(shaping.settle([0.0], scored(0.6), done=False, span=4)[0].total)
    assert steps == [0.0, 0.0, 0.0, pytest.approx(0.9**4 * 0.6 - 0.2)]


def test_spread_divides_one_delta_and_repeats_nothing() -> None:
    config = ShapingConfig(gamma=1.0, kappa=1.0, spread=True, sparse=False, env_weight=1.0)
    shaping = Shaper(config).begin()
    shaping.rebase(scored(0.2))
    rows = shaping.settle([10.0, 20.0, 30.0, 40.0], scored(0.6), done=False, span=4)
    assert [row.dense for row in rows] == pytest.approx([0.1] * 4)
    assert [row.env for row in rows] == [10.0, 20.0, 30.0, 40.0]


def test_contrastive_is_a_sign() -> None:
    dense = run(ShapingConfig(form="contrastive", dead_band=0.05), [0.1, 0.4, 0.41, 0.2])
    assert dense == [1.0, 0.0, -1.0]


def test_mean_is_that_of_large_reward_models() -> None:
    shaping = Shaper(preset("lrm")).begin()
    shaping.rebase(scored(0.2))
    signals = Signals(progress=0.5, done=0.25, contrastive=-0.5, progress_delta=0.3)
    terms = shaping.settle([0.0], Score(signals=signals), done=False)[0]
    assert terms.total == pytest.approx((0.5 + 0.25 + 0.25) / 3)


def test_clip_comes_before_kappa() -> None:
    config = ShapingConfig(form="delta", clip=0.1, kappa=5.0, sparse=False)
    shaping = Shaper(config).begin()
    shaping.rebase(scored(0.1))
    assert shaping.settle([0.0], scored(0.9, 0.1), done=False)[0].total == pytest.approx(0.5)
    assert shaping.settle([0.0], scored(0.1, 0.9), done=False)[0].total == pytest.approx(-0.5)


@pytest.mark.parametrize("form", get_args(Form))
def test_missing_score_is_never_a_number(form: Form) -> None:
    shaping = Shaper(ShapingConfig(form=form, kappa=1.0)).begin()
    shaping.rebase(scored(0.2))
    assert math.isnan(shaping.settle([0.0], LOST, done=None)[0].total)
    after = shaping.settle([0.0], scored(0.5, 0.4), done=False)[0].total
    # Both transitions use the missing potential; a model's own delta does not.
    assert math.isnan(after) == (form == "potential")
    assert math.isfinite(shaping.settle([0.0], scored(0.6, 0.5), done=False)[0].total)


def test_missing_score_of_the_reset_takes_the_first_transition_with_it() -> None:
    shaping = Shaper().begin()
    shaping.rebase(LOST)
    assert math.isnan(shaping.settle([0.0], scored(0.5), done=False)[0].total)


def test_a_terminal_that_someone_else_knows_needs_no_score_of_its_own() -> None:
    shaping = Shaper(ShapingConfig(kappa=1.0)).begin()
    shaping.rebase(scored(0.25))
    assert shaping.settle([0.0], LOST, done=True)[0].total == pytest.approx(-0.25)


def test_sparse_alone_needs_no_signal_but_the_owner_s_word() -> None:
    shaping = Shaper(preset("sparse")).begin()
    shaping.rebase(LOST)
    assert shaping.settle([0.0], LOST, done=False)[0].total == -1.0
    assert shaping.settle([0.0], LOST, done=True)[0].total == 0.0
    assert math.isnan(shaping.settle([0.0], LOST, done=None)[0].total)
    assert preset("sparse").needs == ()


def test_odd_rewards_of_the_environment_do_not_pass_a_weight_of_zero() -> None:
    shaping = Shaper().begin()
    shaping.rebase(scored(0.2))
    for odd in (math.nan, math.inf):
        assert math.isfinite(shaping.settle([odd], scored(0.2), done=False)[0].total)


def test_another_task_starts_its_own_differences() -> None:
    shaping = Shaper(ShapingConfig(gamma=1.0, kappa=1.0)).begin(task="a")
    shaping.rebase(scored(0.9))
    shaping.rebase(scored(0.1), task="b")
    assert shaping.settle([0.0], scored(0.3), done=False)[0].dense == pytest.approx(0.2)


def test_default_weight_is_the_value_of_never_finishing() -> None:
    assert ShapingConfig().weight == pytest.approx(100.0)
    assert ShapingConfig(gamma=0.9).weight == pytest.approx(10.0)
    assert ShapingConfig(form="contrastive").weight == 1.0


def test_scale_is_per_task_constant_within_an_episode_and_in_checkpoints() -> None:
    def episode(shaper: Shaper, task: str) -> list[float]:
        shaping: EpisodeShaping = shaper.begin(task=task)
        shaping.rebase(scored(0.0))
        values = [0.1 * index for index in range(1, 11)]
        return [shaping.settle([0.0], scored(value), done=False)[0].dense for value in values]

    config = ShapingConfig(gamma=1.0, kappa=1.0, normalise=True)
    shaper = Shaper(config)
    shaper.scale = TaskScale(min_count=5)
    assert episode(shaper, "a") == pytest.approx([0.1] * 10)
    assert episode(shaper, "a") == pytest.approx([1.0] * 10)
    assert episode(shaper, "b") == pytest.approx([0.1] * 10)
    again = Shaper(config)
    again.scale = TaskScale(min_count=5)
    again.load_state_dict(shaper.state_dict())
    assert episode(again, "a") == pytest.approx([1.0] * 10)


def test_scale_leaves_out_what_is_missing_and_never_divides_by_nothing() -> None:
    scale = TaskScale(min_count=2, floor=0.5)
    for value in (0.0, math.nan, 0.0):
        scale.add("still", value)
    assert scale.of("still") == 0.5
    with pytest.raises(ConfigError, match="cannot be read"):
        scale.load_state_dict({"still": "broken"})


def test_settings_without_meaning_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"gamma.*dead_band.*clip.*ema"):
        ShapingConfig(gamma=1.5, kappa=1.0, dead_band=-1.0, clip=0.0, ema=1.0)
    with pytest.raises(ConfigError, match="set kappa"):
        ShapingConfig(gamma=1.0)
    with pytest.raises(ConfigError, match="did you mean delta"):
        preset("detla")
    with pytest.raises(ConfigError, match="did you mean gamma"):
        preset("delta", gama=0.9)


def test_presets_fix_kappa() -> None:
    assert all(config.kappa is not None for config in PRESETS.values())
