"""Embedding models, small heads and composites behind a warmed-up node: the scores of here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from robo_reward.client import connect, local  # noqa: E402
from robo_reward.frames import Frame  # noqa: E402
from robo_reward.models import RewardModel, load_model  # noqa: E402
from robo_reward.models.frame_encoder import FrameEncoder  # noqa: E402
from robo_reward.models.frozen_features import FrozenFeatures  # noqa: E402
from robo_reward.models.heads import Heads, HeadsConfig  # noqa: E402
from robo_reward.nodes.serving.node import RewardNode  # noqa: E402
from robo_reward.query import Query  # noqa: E402
from robo_reward.signals import SIGNALS, Status  # noqa: E402
from robo_reward.task import Task  # noqa: E402
from tests.models.tiny_towers import tiny_clip  # noqa: E402

NAMES = ("clip", "goal-embedding", "classifier", "rl-vlm-f", "composite", "goal-distance")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RewardModel]:
    towers = tiny_clip(tmp_path_factory.mktemp("clip"))
    pair = tmp_path_factory.mktemp("pair") / "pair.yaml"
    pair.write_text(f"members: [compact, 'clip={towers}', goal-distance]\n")

    def heads(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        features = FrozenFeatures(FrameEncoder(str(towers), device="cpu"), "map")
        torch.manual_seed(0)
        sizes = HeadsConfig(reward_model=name, features="map", width=features.width)
        Heads(sizes).save(folder)
        features.save(folder)
        return folder

    named = {
        "clip": f"clip={towers},alpha=0.8",
        "goal-embedding": f"goal-embedding={towers},pooled=false",
        "classifier": f"classifier={heads('classifier')}",
        "rl-vlm-f": str(heads("rl-vlm-f")),
        "composite": str(pair),
        "goal-distance": "goal-distance",
    }
    return lambda name: load_model(named[name], device="cpu")


def episode(model: RewardModel) -> list[Query]:
    chance = np.random.default_rng(0)
    frames = [Frame.of(chance.integers(0, 256, (60, 80, 3), np.uint8)) for _ in range(5)]
    goal = Frame.of(chance.integers(0, 256, (60, 80, 3), np.uint8))
    able = model.capabilities
    task = Task(instruction="lift the red cube", goal=goal if able.goal_image else None)
    past = ((frames[0],),) if able.history else ()
    first = Query(task=task, newest=(frames[0],))
    rest = [
        Query(task=task, newest=(frames[t],), reference=(frames[t - 1],), history=past, step=t)
        for t in range(1, 5)
    ]
    return [first, *rest]


@pytest.mark.parametrize("name", NAMES)
def test_a_node_gives_the_same_scores(name: str, load: Callable[[str], Any]) -> None:
    with local(load(name)) as here:
        queries = episode(here.model)
        wanted = here.submit(queries).result(timeout_s=120.0)
    node = RewardNode(load(name), address="tcp://127.0.0.1:*", max_batch=2)
    with node, connect(node.address, deadline_s=120.0) as source:
        assert source.info().signals == here.info().signals
        got = source.submit(queries).result(timeout_s=120.0)
    for there, ours in zip(got, wanted, strict=True):
        assert there.status is ours.status is Status.OK, (there, ours)
        assert replace(there.identity, age_s=0.0).model == ours.identity.model
        for signal in SIGNALS:
            want = getattr(ours.signals, signal)
            assert getattr(there.signals, signal) == pytest.approx(want, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("name", ["goal-embedding", "composite"])
def test_it_is_measured(name: str, load: Callable[[str], Any]) -> None:
    from robo_reward.cli.models import _measure

    assert _measure(load(name)) > 0.0
