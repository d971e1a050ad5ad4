"""Distance to a goal image: 1 at the goal, less elsewhere, and nothing without one."""

from __future__ import annotations

import numpy as np
import pytest

from robo_reward.datasets.episode import Episode
from robo_reward.errors import ConfigError, DatasetError
from robo_reward.evaluate import EvalOptions, evaluate
from robo_reward.frames import Frame
from robo_reward.models import load_model
from robo_reward.models.goal_distance import FILTERS, KERNEL, GoalDistance, _cells, _convolved
from robo_reward.query import Query
from robo_reward.task import Task


def _dot(column: int, *, size: int = 96) -> np.ndarray:
    image = np.full((size, size, 3), 90, np.uint8)
    image[40:56, column : column + 16] = (220, 30, 30)
    return image


def _query(at: int, goal: Frame, reference: int | None = None) -> Query:
    before = () if reference is None else (Frame.of(_dot(reference)),)
    task = Task(instruction="move it", goal=goal)
    return Query(task=task, newest=(Frame.of(_dot(at)),), reference=before)


@pytest.mark.parametrize("name", ["goal-distance", "random-features"])
def test_progress_is_one_at_the_goal_and_rises_towards_it(name: str) -> None:
    model = load_model(name, device="cpu")
    goal = Frame.of(_dot(72))
    said = model.score([_query(at, goal, reference=max(at - 4, 56)) for at in (56, 60, 64, 72)])
    assert said.progress[-1] == 1.0
    assert (np.diff(said.progress) > 0).all()
    assert said.contrastive.tolist() == [0.0, 1.0, 1.0, 1.0]
    there, back = model.score([_query(72, goal, 60), _query(60, goal, 72)]).progress_delta
    assert there == pytest.approx(-back)
    assert model.encoded_frames == 5


def test_no_goal_image_no_answer() -> None:
    query = Query(task=Task(instruction="move it"), newest=(Frame.of(_dot(0)),))
    with pytest.raises(ConfigError, match="needs a goal image"):
        GoalDistance().score([query])
    episode = Episode(id="x", instruction="move it", images={"front": np.stack([_dot(0)] * 3)})
    options = EvalOptions(resamples=0)
    with pytest.raises(DatasetError, match="needs a success of all"):
        evaluate({"m": GoalDistance()}, [episode], options=options)
    demos = {"all": (Frame.of(_dot(72)), Frame.of(_dot(0)))}
    result = evaluate({"m": GoalDistance()}, [episode], options=options, demos=demos)
    assert result.models[0].episodes[0].scores.forward.progress == pytest.approx(1.0)


def test_cells_are_means_and_the_convolution_is_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    cells = _cells(image)
    want = image.reshape(24, 4, 24, 4, 3).mean((1, 3)) / 255.0
    np.testing.assert_allclose(cells, want, atol=1e-5)
    assert _cells(image[:10, :13]).shape == (24, 24, 3)
    filters = np.random.default_rng(1).normal(size=(KERNEL**2 * 3, FILTERS)).astype(np.float32)
    made = _convolved(cells, filters).reshape(10, 10, FILTERS)
    window = cells[6 : 6 + KERNEL, 2 : 2 + KERNEL].transpose(2, 0, 1).ravel()
    np.testing.assert_allclose(made[3, 1], np.maximum(window @ filters, 0), rtol=1e-4, atol=1e-5)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="features must be"):
        GoalDistance(features="clip")
    with pytest.raises(ConfigError, match="scale must be > 0"):
        GoalDistance(scale=0.0)
