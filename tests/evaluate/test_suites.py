"""Suites by name: refusals before anything is recorded, and the real one through the harness."""

from __future__ import annotations

import pytest

from robo_reward.datasets.clips import DEMO_FRAMES
from robo_reward.errors import ConfigError
from robo_reward.evaluate import EvalOptions, evaluate
from robo_reward.evaluate.suites import SUITES, Suite, demonstrations, open_suite
from robo_reward.models.oracle_pixels import OraclePixels

from . import episodes


def test_what_does_not_exist_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean tabletop"):
        open_suite("tabeltop")
    with pytest.raises(ConfigError, match="did you mean unseen"):
        open_suite("tabletop", split="unsen")
    with pytest.raises(ConfigError, match=r"episodes must be >= 1.*did you mean push"):
        open_suite("tabletop", episodes=0, families=("pusch",))


def test_splits_are_those_of_the_suite() -> None:
    pytest.importorskip("mujoco")
    from robo_reward.envs.tabletop.randomise import SPLITS

    assert set(SUITES["tabletop"].splits) == set(SPLITS)


def test_the_tabletop_suite_goes_through_the_harness() -> None:
    pytest.importorskip("mujoco")
    episodes = open_suite("tabletop", episodes=2, families=("reach", "push"), renderer="rays")
    result = evaluate({"m": OraclePixels()}, episodes, options=EvalOptions(resamples=0)).models[0]
    assert set(result.families) == {"reach", "push"}
    assert result.counts["episodes"] == 2
    assert all(episode.scores.wrong for episode in result.episodes)


def test_a_demonstration_is_a_success_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    painted = Suite(
        recorder="tests.evaluate.episodes:record",
        splits=("train", "unseen"),
        families="tests.evaluate.episodes:FAMILIES",
    )
    monkeypatch.setitem(SUITES, "painted", painted)
    demos = demonstrations("painted")
    assert set(demos) == {"push", "lift"}
    # The painted done of a success; half-way episodes end without it.
    assert all(frames[-1].image[0, 1, 0] == 255 for frames in demos.values())
    assert all(frames[0].image[0, 1, 0] == 0 for frames in demos.values())
    assert all(1 < len(frames) <= DEMO_FRAMES for frames in demos.values())
    monkeypatch.setitem(episodes.FAMILIES, "stack", None)
    with pytest.raises(ConfigError, match="demonstrate stack"):
        demonstrations("painted")
