"""Whether a node keeps up: tried with models of a known cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from robo_reward.client import connect
from robo_reward.errors import ConfigError
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.nodes.keep_up import Load, Robot, Trial, _allowed, find_stride
from robo_reward.nodes.serve import RewardNode

from .serving_tools import FREE, RememberingModel

ROOMY = Load(rate_hz=4.0, seconds=1.0, side=64)


def tried(model: Any, load: Load) -> list[Trial]:
    with RewardNode(model, address=FREE, warm_up=False) as node:
        return find_stride(lambda: connect(node.address), load)


def test_a_quick_model_keeps_up_with_every_step() -> None:
    trial = tried(OraclePixels(), ROOMY)[-1]
    assert trial.keeps_up
    assert trial.asked == trial.answered
    assert 0 < trial.p50_s <= trial.p95_s <= trial.p99_s
    assert trial.reasons == {}


@pytest.mark.timeout(120)
def test_a_model_slower_than_the_step_wants_a_stride() -> None:
    load = Load(rate_hz=5.0, seconds=2.0, side=64)  # 0.2 s a step, and 0.3 s a frame
    trials = tried(OraclePixels(each_s=0.3), load)
    assert not trials[0].keeps_up
    assert trials[-1].stride > 1
    assert [trial.stride for trial in trials] == sorted({trial.stride for trial in trials})


def test_several_clients_and_more_cameras_than_views() -> None:
    model = OraclePixels()
    load = Load(clients=2, cameras=10, rate_hz=4.0, seconds=1.0, side=32)  # the model takes 8
    trials = tried(model, load)
    steps = [trial.asked // 4 for trial in trials]  # two clients, two questions each
    assert all(
        trial.asked == trial.answered == 4 * n for trial, n in zip(trials, steps, strict=True)
    )
    assert model.encoded_frames == 2 * 10 * sum(n + 1 for n in steps)  # no frame came twice


def test_jpeg_frames_differ_and_the_past_is_sent() -> None:
    model = RememberingModel(history=4)
    trials = tried(model, Load(rate_hz=8.0, seconds=1.0, side=64, jpeg_quality=50))
    assert model.encoded_frames == sum(trial.answered + 1 for trial in trials)
    with (
        RewardNode(RememberingModel(), address=FREE, warm_up=False) as node,
        connect(node.address) as source,
    ):
        robot = Robot(0, source.info(), ROOMY)
        for _ in range(3):
            robot.look()
        assert len(robot.look()[0].history) == 3


def test_the_next_stride_follows_from_the_throughput() -> None:
    def failed(**changes: Any) -> Trial:
        values: dict[str, Any] = {
            "stride": 1, "period_s": 0.1, "asked": 100, "answered": 50, "in_time": 0, "p50_s": 1.0,
            "p95_s": 1.0, "p99_s": 1.0, "answers_hz": 10.0, "wanted_hz": 40.0, "late_start_s": 0.0,
            **changes,
        }  # fmt: skip
        return Trial(**values)

    assert _allowed(failed()) == 5  # 40 a second are wanted, 8 of 10 may be used
    assert _allowed(failed(answered=0, answers_hz=0.0, stride=3)) == 6


@pytest.mark.parametrize("wrong", [{"clients": 0}, {"cameras": 0}, {"rate_hz": 0}, {"side": 1}])
def test_a_load_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Load(**wrong)


@pytest.mark.timeout(180)
def test_the_command_with_a_node_of_its_own(command: Callable[..., Any]) -> None:
    flags = ("--rate", "2", "--seconds", "1", "--size", "64")
    ran = command("bench", "--model", "oracle-pixels", *flags, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out.splitlines()[-1])
    assert found["keeps_up"]
    assert found["stride"] == found["trials"][-1]["stride"]
    assert found["model"] == "oracle-pixels@1"
    missing = command("bench", "--model", "compakt", *flags)
    assert missing.code == 2
    assert "compact" in missing.err


def test_the_command_asks_a_node_that_is_there(command: Callable[..., Any]) -> None:
    with RewardNode(OraclePixels(each_s=0.2), address=FREE, warm_up=False) as node:
        ran = command("bench", "--node", node.address, "--rate", "50", "--seconds", "0.2")
    assert "stride" in ran.out
    assert ran.code in (0, 1)
    assert ("keeps up with" in ran.out) == (ran.code == 0)
