from __future__ import annotations

import random
from dataclasses import replace

import pytest

from robo_reward.envs.score_desk import match, merge_views
from robo_reward.errors import TransportError
from robo_reward.frames import Frame
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.query import Query
from robo_reward.signals import Identity, Score, Signals
from robo_reward.task import Task

TASK = Task(instruction="push the red cube")
MODEL = OraclePixels()


def query(step: int, *, progress: float = 0.0, camera: str = "a", salt: int = 0) -> Query:
    frame = Frame.of(paint(progress, 0.0, salt=salt), camera=camera)
    return Query(task=TASK, newest=(frame,), step=step)


def test_scores_go_to_the_query_they_name_in_whatever_order_they_come() -> None:
    queries = [query(step, progress=step / 255) for step in range(50)]
    scores = MODEL.answer(queries)
    random.Random(1).shuffle(scores)
    found = match(queries, scores)
    assert [score.identity.step for score in found] == list(range(50))


def test_cameras_of_one_step_are_told_apart_by_their_frames() -> None:
    queries = [query(3, progress=0.2, camera="a"), query(3, progress=0.8, camera="b")]
    found = match(queries, MODEL.answer(queries)[::-1])
    assert [round(score.signals.progress, 2) for score in found] == [0.2, 0.8]


def test_an_answer_that_never_came_is_missing_and_not_a_neighbour_s() -> None:
    queries = [query(1), query(2), query(3)]
    scores = MODEL.answer([queries[0], queries[2]])
    found = match(queries, scores)
    assert [score.ok for score in found] == [True, False, True]
    assert (found[1].reason, found[1].identity.step) == ("PEER_LOST", 2)


def test_answers_that_nobody_asked_for_are_an_error() -> None:
    score = MODEL.answer([query(1)])[0]
    with pytest.raises(TransportError, match=r"\(0, 0, 1\)"):
        match([query(1)], [score, score])
    foreign = replace(score, identity=replace(score.identity, env=4))
    with pytest.raises(TransportError, match=r"\(4, 0, 1\)"):
        match([query(1)], [foreign])


def test_views_merge_to_the_least_done_and_the_most_unsure() -> None:
    def view(progress: float, done: float, uncertainty: float, frame: str) -> Score:
        signals = Signals(
            progress=progress,
            progress_delta=progress - 0.2,
            done=done,
            contrastive=0.5,
            uncertainty=uncertainty,
        )
        return Score(signals=signals, identity=Identity(step=3, frames=(frame,)))

    merged = merge_views([view(0.4, 0.9, 0.1, "x"), view(0.6, 0.3, 0.7, "y")])
    assert merged.signals.progress == pytest.approx(0.5)
    assert merged.signals.progress_delta == pytest.approx(0.3)
    assert (merged.signals.done, merged.signals.uncertainty) == (0.3, 0.7)
    assert merged.identity.frames == ("x", "y")


def test_one_view_without_a_score_leaves_the_whole_without_one() -> None:
    there = MODEL.answer([query(3)])[0]
    lost = Score.missing("DEADLINE", identity=replace(there.identity, frames=("z",)))
    merged = merge_views([there, lost])
    assert not merged.ok
    assert merged.reason == "DEADLINE"
    assert merged.identity.frames[-1] == "z"
