"""The suites metaworld and fetch for real: experts succeed, truth and labels agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.datasets.log_reader import LogReader
from robo_reward.evaluate import EvalOptions, evaluate
from robo_reward.evaluate.metrics import voc
from robo_reward.evaluate.suites import open_suite
from robo_reward.models.oracle_pixels import OraclePixels

pytestmark = [
    pytest.mark.external,
    pytest.mark.filterwarnings("ignore"),  # theirs, of every kind
]

pytest.importorskip("metaworld")
pytest.importorskip("gymnasium_robotics")


@pytest.mark.parametrize(
    ("suite", "families"),
    [
        ("metaworld", ("soccer", "window-close", "door-lock", "plate-slide-back")),
        ("fetch", ("fetch-reach", "fetch-push", "fetch-pick-place")),
    ],
)
def test_experts_succeed_and_true_progress_rises(suite: str, families: tuple[str, ...]) -> None:
    found = list(
        open_suite(suite, episodes=len(families), families=families, kinds=("expert",), seed=70)
    )
    assert [episode.meta["family"] for episode in found] == list(families)
    for episode in found:
        assert episode.success, episode.id
        assert episode.quality == "success"
        assert episode.progress is not None
        assert episode.progress[0] < 0.05
        assert episode.progress[-1] == 1.0
        assert voc(episode.progress) > 0.85, episode.id
        (images,) = episode.images.values()
        assert images.shape[1:] == (96, 96, 3)
        # Something is seen, and it moves.
        assert images.std() > 20
        assert np.abs(images[0].astype(int) - images[-1]).mean() > 1


def test_failures_are_labelled_by_the_simulators_check_not_by_their_intent() -> None:
    kinds = ("idle", "wrong_task")
    for episode in open_suite(
        "metaworld", episodes=4, families=("soccer", "door-lock"), kinds=kinds
    ):
        assert episode.done is not None
        assert episode.success == episode.done[-1]
        assert episode.quality == ("success" if episode.success else "failure")
        assert not (episode.success and episode.meta["kind"] == "idle")
        assert episode.instruction not in episode.meta["alternatives"]
        # A lock that was never turned is an open one.
        assert episode.success or "unlock the door" not in episode.meta["alternatives"]


def test_a_seed_gives_the_same_episode_again() -> None:
    for suite in ("metaworld", "fetch"):
        first, again = (
            next(open_suite(suite, episodes=1, seed=3, kinds=("halfway",))) for _ in range(2)
        )
        assert first.id == again.id
        np.testing.assert_array_equal(first.progress, again.progress)
        (a,), (b,) = first.images.values(), again.images.values()
        np.testing.assert_array_equal(a, b)
        other = next(open_suite(suite, episodes=1, seed=4, kinds=("halfway",)))
        assert len(other) != len(first) or not np.array_equal(other.actions, first.actions)


def test_one_command_records_and_another_scores(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    asked = ("--suite", "fetch", "--families", "fetch-reach", "--episodes", "2", "--json")
    ran = command("record", *asked, "--out", str(tmp_path / "data"))
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[-1])["episodes"] == 2
    again = command("record", *asked, "--out", str(tmp_path / "data"))
    assert json.loads(again.out.splitlines()[-1])["episodes"] == 0
    result = evaluate(
        {"m": OraclePixels()}, LogReader(tmp_path / "data"), options=EvalOptions(resamples=0)
    ).models[0]
    assert result.counts["episodes"] == 2
    assert result.overall["voc_of_truth"].value > 0.9
