"""Models that look back: what they are shown, in process, through a node, by query and by mark."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from robo_reward.client import RemoteSource, connect, local
from robo_reward.client.source import ModelInfo
from robo_reward.datasets.clips import clip_queries, episode_views
from robo_reward.envs.reward_wrapper import VisualReward
from robo_reward.errors import ModelError
from robo_reward.evaluate.scoring import Asker, EvalOptions
from robo_reward.frames import Frame
from robo_reward.history import History, looked_back
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.nodes.serve import RewardNode
from robo_reward.query import Mark, Query
from robo_reward.shaping import ShapingConfig
from robo_reward.transport.stream import FramePublisher

from .envs.pixel_world import INSTRUCTION, PixelEnv, PixelSource
from .evaluate.episodes import painted, ramp
from .nodes.serving_tools import FREE, TASK, RememberingModel, frame, until

WAIT_S = 20.0


def kept(limit: int, count: int) -> list[int]:
    clip = [(Frame.of(paint(0.0, 0.0, salt=t), sequence=t),) for t in range(count)]
    return [views[0].header.sequence for views in looked_back(clip, limit=limit)]


@pytest.mark.parametrize(
    ("count", "want"),
    [
        (0, []),
        (3, [0, 1, 2]),
        (4, [0, 1, 2, 3]),
        (5, [0, 2, 4]),
        (7, [0, 2, 4, 6]),
        (9, [0, 4, 8]),
        (100, [0, 32, 64, 96]),
    ],
)
def test_the_first_instant_and_evenly_spaced_others(count: int, want: list[int]) -> None:
    assert kept(4, count) == want


@pytest.mark.parametrize("limit", range(9))
def test_room_spacing_and_shared_beginnings(limit: int) -> None:
    before: list[int] = []
    changes = 0
    for count in range(200):
        now = kept(limit, count)
        assert len(now) <= limit
        assert now[:1] == [0][: min(limit, count)]
        assert len(set(np.diff(now))) <= 1
        assert not now or now[-1] < count
        changes += now[: len(before)] != before
        before = now
    assert changes <= 8  # otherwise only something is added at the end


def test_a_history_is_not_negative() -> None:
    with pytest.raises(ValueError, match="-1"):
        History(-1)


def queries(count: int, *, history: int) -> list[Query]:
    views = [(frame(0, step),) for step in range(count)]
    return clip_queries(views, TASK, clip=0, history=history)


def test_a_node_shows_the_model_what_this_process_would() -> None:
    asked = queries(30, history=4)
    with local(RememberingModel()) as here:
        wanted = here.submit(asked).result(timeout_s=WAIT_S)
    with RewardNode(RememberingModel(), address=FREE) as node, connect(node.address) as source:
        assert source.info().history == 4
        got = source.submit(asked).result(timeout_s=WAIT_S)
        stats = node.stats()
    assert [score.signals for score in got] == [score.signals for score in wanted]
    for one, score in zip(asked, got, strict=True):
        assert score.ok, score
        assert score.identity.history == tuple(view.id for (view,) in one.history)
    assert len({score.signals.progress for score in got}) > 20
    assert stats["encoded_frames"] == 30


def test_a_node_refuses_more_than_the_model_looks_at() -> None:
    model = RememberingModel(history=2)
    with RewardNode(model, address=FREE) as node, connect(node.address) as source:
        (score,) = source.submit(queries(9, history=4)[-1:]).result(timeout_s=WAIT_S)
    assert score.reason == "BAD_HEADER"
    assert "2 instants" in score.detail


def test_more_than_the_model_looks_at_is_an_error_here_too() -> None:
    with pytest.raises(ModelError, match=r"3 earlier instants.*2"):
        RememberingModel(history=2).score(queries(4, history=4)[-1:])


def test_a_model_that_does_not_look_back_encodes_nothing_of_it() -> None:
    model = OraclePixels()
    model.score(queries(6, history=4)[-1:])
    assert model.encoded_frames == 2  # newest and reference
    assert model.answer(queries(6, history=4)[-1:])[0].identity.history == ()


def test_value_and_compare_look_back_over_their_own_clip() -> None:
    model = RememberingModel(history=8)
    first = [Frame.of(paint(p, 0.0)) for p in (0.0, 0.2)]
    second = [Frame.of(paint(p, 0.0)) for p in (0.2, 0.4, 0.6)]
    assert model.value(second, TASK) == pytest.approx(0.4)
    assert model.compare(first, second, TASK) == pytest.approx(0.3)


class Looking(PixelSource):
    """A source whose model looks back."""

    def info(self) -> ModelInfo:
        return replace(super().info(), history=3)


def test_the_wrapper_sends_the_past_of_the_episode_and_of_the_task() -> None:
    source = Looking()
    raw = ShapingConfig(form="delta", kappa=1.0, sparse=False)
    env = VisualReward(PixelEnv(horizon=6), source, instruction=INSTRUCTION, shaping=raw)
    env.reset()
    action = env.action_space.sample()
    for _ in range(3):
        env.step(action)
    env.set_task("now pull the drawer")
    env.step(action)
    env.reset()
    env.step(action)
    asked = [one for one in source.asked if isinstance(one, Query)]
    newest = {(one.episode, one.step): one.newest[0].id for one in asked}
    past = [(one.episode, one.step, [view.id for (view,) in one.history]) for one in asked]
    wanted = [
        (0, 0, []),
        (0, 1, [newest[0, 0]]),
        (0, 2, [newest[0, 0], newest[0, 1]]),
        (0, 3, [newest[0, 0], newest[0, 1], newest[0, 2]]),
        (0, 3, []),  # the same state under the new task
        (0, 4, [newest[0, 3]]),
        (1, 0, []),
        (1, 1, [newest[1, 0]]),
    ]
    assert past == wanted


def test_the_harness_plays_clips_with_their_past() -> None:
    asker = Asker(RememberingModel(), options=EvalOptions())
    episode = painted(ramp(9))
    views = episode_views(episode)
    last = asker.play(views, TASK, clip=0)[-1]
    assert last.history == looked_back(views[:-1], limit=4)
    with local(RememberingModel()) as source:
        assert Asker(source, options=EvalOptions()).play(views, TASK, clip=0)[-1] == last


@pytest.fixture
def publisher() -> Iterator[FramePublisher]:
    made = FramePublisher("tcp://127.0.0.1:*", camera="front")
    yield made
    made.close()


def test_a_mark_is_shown_what_was_joined_before(publisher: FramePublisher) -> None:
    cameras = {"front": publisher.address}
    with (
        RewardNode(RememberingModel(), address=FREE, cameras=cameras, warm_up=False) as node,
        connect(node.address, deadline_s=WAIT_S) as source,
    ):
        source.info()
        assert publisher.wait_for_consumers(1, timeout_s=WAIT_S)
        shown: list[str] = []
        start = 0
        for step in range(3):
            start = look(publisher, source, node, shown, episode=0, step=step, start=start)
        look(publisher, source, node, shown, episode=0, step=2, start=start, new=False)
        shown.clear()
        look(publisher, source, node, shown, episode=1, step=0, start=0)


def look(
    publisher: FramePublisher,
    source: RemoteSource,
    node: RewardNode,
    shown: list[str],
    *,
    episode: int,
    step: int,
    start: int,
    new: bool = True,
) -> int:
    """Ask about one step and hold its history against what was shown before."""
    end = time.time_ns()
    image = paint(0.1 * step, 0.0, salt=1000 * episode + 10 * step + new)
    taken = Frame.of(image, camera="front", sequence=len(shown) + 1 + 100 * episode)
    publisher.publish(taken)
    until(lambda: node._marks is not None and _latest(node) == taken.id)
    mark = Mark(
        task=TASK, cameras=("front",), t_from_ns=start, t_to_ns=end, max_age_s=10.0,
        episode=episode, step=step,
    )  # fmt: skip
    (score,) = source.submit([mark], deadline_s=WAIT_S).result(timeout_s=WAIT_S)
    assert score.ok, score
    past = shown if new else shown[:-1]  # asked again, it gets what it got
    assert score.identity.history == tuple(past)
    if new:
        shown.extend(score.identity.frames)
    return end


def _latest(node: RewardNode) -> str:
    assert node._marks is not None
    latest = node._marks.joiner.latest("front")
    return "" if latest is None else latest.frame.id
