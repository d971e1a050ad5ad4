from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robo_reward.errors import ConfigError
from robo_reward.shaping import DoneGate, GateConfig

probabilities = st.lists(st.floats(0.0, 1.0), max_size=40)


def decide(values: list[float], config: GateConfig | None = None) -> list[bool]:
    gate = DoneGate(config)
    return [gate.update(value) for value in values]


def test_one_lucky_frame_does_not_end_an_episode() -> None:
    assert not any(decide([0.1, 0.2, 1.0, 0.1, 0.2, 1.0, 1.0, 0.3, 0.2]))


def test_default_opens_at_the_fourth_sure_frame() -> None:
    # 3 votes stand at the third query, and must stand for two.
    assert decide([0.95] * 5) == [False, False, False, True, True]


def test_one_unlucky_frame_in_between_is_forgiven() -> None:
    assert decide([0.95, 0.95, 0.1, 0.95, 0.95])[-1]


def test_one_sure_frame_and_doubtful_ones_after_it_do_not_open() -> None:
    assert not any(decide([0.95, 0.8, 0.85, 0.8, 0.89, 0.8]))


def test_between_the_thresholds_the_gate_stays_as_it_is() -> None:
    config = GateConfig(votes=1, window=1, dwell=1)
    assert decide([0.8, 0.9, 0.8, 0.69, 0.8], config) == [False, True, True, False, False]


def test_the_camera_that_sees_it_undone_counts() -> None:
    gate = DoneGate(GateConfig(votes=1, window=1, dwell=1))
    assert not gate.update([0.99, 0.99, 0.5])
    assert gate.update([0.99, 0.95, 0.91])


def test_veto_is_a_no_vote() -> None:
    gate = DoneGate(GateConfig(votes=1, window=1, dwell=1))
    assert not gate.update(1.0, vetoed=True)
    assert gate.update(1.0)
    assert not gate.update(1.0, vetoed=True)


@pytest.mark.parametrize("nothing", [math.nan, [math.nan, 0.99], []])
def test_missing_score_votes_neither_way(nothing: float | list[float]) -> None:
    gate = DoneGate(GateConfig(votes=2, window=2, dwell=1))
    gate.update(0.95)
    assert not gate.update(nothing)
    assert gate.update(0.95)
    assert gate.update(nothing)


@given(probabilities)
def test_never_open_without_the_votes(values: list[float]) -> None:
    config = GateConfig()
    gate = DoneGate(config)
    sure = 0
    for value in values:
        opened = gate.is_done
        sure += value >= config.enter
        if gate.update(value) and not opened:
            assert sure >= config.votes


@given(probabilities, st.integers(0, 40))
def test_state_goes_through_a_checkpoint(values: list[float], cut: int) -> None:
    whole, first, second = DoneGate(), DoneGate(), DoneGate()
    expected = [whole.update(value) for value in values]
    got = [first.update(value) for value in values[:cut]]
    second.load_state_dict(first.state_dict())
    got += [second.update(value) for value in values[cut:]]
    assert got == expected


def test_reset_forgets() -> None:
    gate = DoneGate()
    for _ in range(6):
        gate.update(1.0)
    gate.reset()
    assert [gate.update(1.0) for _ in range(3)] == [False, False, False]


def test_impossible_gates_are_refused_with_all_their_faults() -> None:
    with pytest.raises(ConfigError, match=r"leave.*votes.*dwell"):
        GateConfig(leave=0.95, votes=5, window=4, dwell=0)
    with pytest.raises(ConfigError, match="cannot be read"):
        DoneGate().load_state_dict({"is_done": True})
