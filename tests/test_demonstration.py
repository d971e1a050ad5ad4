"""One demonstration in context: in process, through a node, in wrapper, harness and ``score``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.client import connect, local
from robo_reward.envs.reward_wrapper import VisualReward
from robo_reward.errors import ConfigError, DatasetError
from robo_reward.evaluate import EvalOptions, evaluate
from robo_reward.frames import Frame
from robo_reward.models.base import Feature, Instants, ScoreArrays
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.nodes.serve import RewardNode
from robo_reward.query import Query
from robo_reward.shaping import ShapingConfig
from robo_reward.task import Task

from .envs.pixel_world import PixelEnv
from .evaluate.episodes import painted

RAW = ShapingConfig(form="delta", kappa=1.0, sparse=False)


class Shown(OraclePixels):
    """Reads a demonstration: progress is relative to that of its last frame."""

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__(device=device)
        self.capabilities = replace(self.capabilities, demo=True)

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        said = super()._score(queries, newest, reference, history)
        ends = [
            self.encode(query.task.demo)[-1][0] if query.task.demo else 1.0 for query in queries
        ]
        return replace(said, progress=(said.progress / np.array(ends, np.float32)).clip(0, 1))


DEMO = (Frame.of(paint(0.0, 0.0)), Frame.of(paint(0.5, 1.0)))
TASK = Task(instruction="push it", demo=DEMO)


def test_a_node_passes_the_demonstration_on() -> None:
    query = Query(task=TASK, newest=(Frame.of(paint(0.25, 0.0)),))
    with local(Shown()) as here:
        (wanted,) = here.submit([query]).result(timeout_s=10.0)
        assert here.info().demo
    with RewardNode(Shown(), address="tcp://127.0.0.1:0") as node, connect(node.address) as source:
        assert source.info().demo
        (score,) = source.submit([query]).result(timeout_s=10.0)
    assert score.signals == wanted.signals
    assert score.signals.progress == pytest.approx(0.5, abs=0.01)


def test_the_wrapper_shows_it_and_asks_whether_it_is_read() -> None:
    images = [frame.image for frame in DEMO]
    with local(Shown()) as source:
        env = VisualReward(PixelEnv(), source, instruction="push it", demo=images, shaping=RAW)
        bare = VisualReward(PixelEnv(), source, instruction="push it", shaping=RAW)
        shown, plain = _first(env), _first(bare)
        assert 0 < plain < 0.5
        assert shown == pytest.approx(plain / (128 / 255), rel=0.01)
        env.set_task("push it")  # without one
        assert env.session.task_of(0).demo == ()
    with local(OraclePixels()) as source:
        env = VisualReward(PixelEnv(), source, instruction="push it", demo=images, shaping=RAW)
        with pytest.raises(ConfigError, match="reads no demonstration"):
            env.reset()
        env = VisualReward(PixelEnv(), source, instruction="push it", shaping=RAW)
        env.reset()
        with pytest.raises(ConfigError, match="reads no demonstration"):
            env.set_task("push it", demo=images)


def _first(env: VisualReward) -> float:
    """Progress after the first step."""
    env.reset()
    info = env.step(np.zeros(1, np.float32))[-1]
    value: float = info["score"]["signals"]["progress"]
    return value


def test_the_harness_gives_it_where_it_is_asked_to() -> None:
    episode = painted([0.0, 0.2, 0.4])
    none = EvalOptions(resamples=0, sanity=0)
    once = replace(none, one_shot=True)
    demos = {"push": DEMO}

    def final(options: EvalOptions, **more: Any) -> float:
        result = evaluate({"m": Shown()}, [episode], options=options, **more)
        return float(result.models[0].episodes[0].scores.forward.progress[-1])

    assert final(none, demos=demos) == pytest.approx(0.4)
    assert final(once, demos=demos) == pytest.approx(0.8, abs=0.01)
    with pytest.raises(DatasetError, match="success of push"):
        final(once)


def test_score_takes_a_demonstration_and_a_goal(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2 = pytest.importorskip("cv2")
    from robo_reward.models import registry

    monkeypatch.setitem(registry.BUILT_IN, "shown", "tests.test_demonstration:Shown")
    for name, values in (("run", (0.0, 0.25)), ("shown", (0.0, 0.25, 0.5))):
        (tmp_path / name).mkdir()
        for number, value in enumerate(values):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), paint(value, 0.0)[..., ::-1])
    flags = ("score", str(tmp_path / "run"), "--instruction", "push it", "--json")
    demo = ("--demo", str(tmp_path / "shown"))
    said = json.loads(command(*flags, *demo, "--model", "shown").out.splitlines()[-1])
    assert said["frames"][-1]["progress"] == pytest.approx(0.5, abs=0.01)
    refused = command(*flags, *demo, "--model", "oracle-pixels")
    assert refused.code == 2
    assert "leave --demo out" in refused.err
    goal = ("--goal", str(tmp_path / "run" / "0.png"))
    assert "leave --goal out" in command(*flags, *goal, "--model", "shown").err
    assert command(*flags, "--goal", "nowhere.png", "--model", "shown").code == 6
