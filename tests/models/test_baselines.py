"""Baselines: they answer like any model, and each takes exactly its own shortcut."""

from __future__ import annotations

import numpy as np
import pytest

from robo_reward.frames import Frame
from robo_reward.models import load_model
from robo_reward.models.baselines import Constant, LanguageBlind, TimeCounter
from robo_reward.models.oracle_pixels import paint
from robo_reward.query import Query
from robo_reward.signals import SIGNALS
from robo_reward.task import Task

TASK = Task(instruction="open the green drawer")


def _queries(count: int) -> list[Query]:
    frames = [Frame.of(paint(t / 10, 0.0, salt=t), sequence=t) for t in range(count)]
    return [
        Query(task=TASK, newest=(frame,), reference=(frames[t - 1],) if t else (), step=t)
        for t, frame in enumerate(frames)
    ]


def test_time_counter_counts_steps_up_to_its_horizon() -> None:
    said = TimeCounter(horizon=4).score(_queries(7))
    assert said.progress.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert said.done.tolist() == [0.0] * 4 + [1.0] * 3
    assert said.contrastive.tolist() == [0.0] + [1.0] * 6
    assert said.progress_delta[1:] == pytest.approx(0.25)


def test_constant_is_constant() -> None:
    said = Constant(value=0.3).score(_queries(3))
    assert said.progress == pytest.approx(0.3)
    assert said.done == pytest.approx(0.3)
    assert not said.progress_delta.any()
    assert not said.contrastive.any()
    assert said.uncertainty.tolist() == [1.0] * 3


def test_language_blind_is_the_other_model_with_one_sentence() -> None:
    heard: list[str] = []
    blind = LanguageBlind(model="oracle-pixels", device="cpu", instruction="do it")
    score = blind.inner._score

    def listen(queries, newest, reference, history):  # type: ignore[no-untyped-def]
        heard.extend(query.task.text for query in queries)
        return score(queries, newest, reference, history)

    blind.inner._score = listen  # type: ignore[method-assign]
    said = blind.score(_queries(4))
    np.testing.assert_allclose(said.progress, [0.0, 0.1, 0.2, 0.3], atol=0.01)
    assert heard == ["do it"] * 4
    staged = Query(task=Task(instruction="a", stage="b"), newest=_queries(1)[0].newest)
    blind.score([staged])
    assert heard[-1] == "do it"
    assert blind.encoded_frames == 4
    blind.close()


def test_each_is_found_by_name_and_gives_every_signal() -> None:
    for name in ("time-counter", "constant"):
        model = load_model(name, device="cpu")
        assert model.model_id.startswith(f"{name}@")
        scores = model.answer(_queries(3))
        assert all(score.ok for score in scores)
        assert model.capabilities.signals == SIGNALS


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon must be >= 1"):
        TimeCounter(horizon=0)
    with pytest.raises(ValueError, match=r"value must be in \[0, 1\]"):
        Constant(value=1.5)
