"""The suites of other simulators, as far as they need none: lists, sentences, behaviours, truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from robo_reward.envs.external import fetch_tasks, metaworld, metaworld_tasks
from robo_reward.envs.external.actors import (
    FAILURES,
    KINDS,
    Moment,
    Policy,
    Vector,
    actor,
    kind_in_turn,
)
from robo_reward.envs.external.recording import HOLD, Source, play, record, staged
from robo_reward.envs.external.wording import Wording, false_instructions, instruct, sentences
from robo_reward.errors import ConfigError
from robo_reward.evaluate.suites import SUITES, open_suite

TASKS = metaworld_tasks.TASKS


def test_the_split_is_the_published_one() -> None:
    assert (len(metaworld_tasks.TRAIN), len(metaworld_tasks.UNSEEN)) == (20, 17)
    assert not set(metaworld_tasks.TRAIN) & set(metaworld_tasks.UNSEEN)
    assert set(TASKS) == {*metaworld_tasks.TRAIN, *metaworld_tasks.UNSEEN}
    # A few that are easily mixed up.
    assert {"button-press", "door-open", "push", "hand-insert"} <= set(metaworld_tasks.TRAIN)
    assert {"button-press-wall", "door-close", "push-back", "soccer"} <= set(metaworld_tasks.UNSEEN)
    trained = {task for name in ("train", "seen", "paraphrase") for task in metaworld.SPLITS[name]}
    assert not trained & set(metaworld.SPLITS["unseen"])


@pytest.mark.parametrize("name", ["metaworld", "fetch"])
def test_splits_are_those_of_the_suite(name: str) -> None:
    from robo_reward.envs.external import fetch

    splits = {"metaworld": metaworld.SPLITS, "fetch": fetch.SPLITS}[name]
    assert set(SUITES[name].splits) == set(splits)


@pytest.mark.parametrize("tasks", [TASKS, fetch_tasks.TASKS])
def test_every_task_has_sentences_of_both_sorts_and_none_is_shared(
    tasks: dict[str, Wording],
) -> None:
    for name, wording in tasks.items():
        assert len(wording.said) >= 3, name
        assert len(wording.held_out) >= 2, name
    everything = [text for one in tasks.values() for text in (*one.said, *one.held_out)]
    assert [text for text, count in Counter(everything).items() if count > 1] == []
    assert all(text == text.strip().lower() and len(text) <= 60 for text in everything)


def test_held_out_sentences_are_said_when_asked_for_and_never_else() -> None:
    rng = np.random.default_rng(0)
    door = TASKS["door-open"]
    assert {instruct(door, rng=rng, held_out=False) for _ in range(50)} == set(door.said)
    assert {instruct(door, rng=rng, held_out=True) for _ in range(50)} == set(door.held_out)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_false_sentences_are_about_other_things(task: str) -> None:
    here = TASKS[task]
    for number in range(20):
        rng = np.random.default_rng(number)
        found = false_instructions(task, TASKS, rng=rng, success=bool(number % 2))
        assert len(found) == len(set(found)) == 4
        assert not set(found) & {*here.said, *here.held_out}
        # A task that was not done may leave the scene as its opposite wants it.
        assert (number % 2 == 1) or not set(found) & set(here.undone)
        assert set(here.undone) <= set(found) or number % 2 == 0
        for name, other in TASKS.items():
            if set(other.about) & set(here.about) or not other.about:
                assert not set(found) & set(other.said) - set(here.undone), (task, name)


def test_what_is_said_of_sentences_is_what_the_harness_asks_for() -> None:
    unseen = {name: TASKS[name] for name in metaworld_tasks.UNSEEN}
    found = sentences("door-close", unseen, rng=np.random.default_rng(1), success=True)
    assert found["alternatives"][:2] == ["open the door", "pull the door open by its handle"]
    assert found["never_true"] == found["alternatives"][2:]
    assert found["paraphrases"]["held_out"] == list(TASKS["door-close"].held_out)
    # A locked door is a closed one, and a vague target may be anywhere.
    assert set(unseen) - set(found["other_tasks"]) == {"door-close", "door-lock", "reach-wall"}
    assert all(text in TASKS[name].said for name, text in found["other_tasks"].items())


def test_truth_is_made_of_stages() -> None:
    assert staged(approach=0.0, moved=0.0, done=False) == 0.0
    assert staged(approach=1.0, moved=0.0, done=False) == pytest.approx(0.3)
    assert staged(approach=0.0, moved=0.5, done=False) == pytest.approx(0.625)
    assert staged(approach=-2.0, moved=-1.0, done=False) == 0.0
    assert staged(approach=9.0, moved=9.0, done=False) == pytest.approx(0.95)
    assert staged(approach=0.0, moved=0.0, done=True) == 1.0


def test_five_episodes_of_a_task_can_be_ranked() -> None:
    for task in range(17):
        kinds = [kind_in_turn(task, turn) for turn in range(5)]
        assert (kinds.count("expert"), kinds.count("suboptimal")) == (2, 1)
        assert len(set(kinds) & set(FAILURES)) == 2
    assert {kind_in_turn(task, turn) for task in range(17) for turn in range(5)} == set(KINDS)


class Line:
    """A point that has to go from 0 to a goal at 1 on a line; done within 0.1."""

    stride = 2
    limit = 200

    def __init__(self, goal: float = 1.0) -> None:
        self.goal, self.at, self.steps = goal, 0.0, 0

    def begin(self) -> Moment:
        return self._moment()

    def step(self, action: Vector) -> Moment:
        self.at += 0.04 * float(action[0])
        self.steps += 1
        return self._moment()

    def image(self) -> NDArray[np.uint8]:
        return np.full((4, 4, 3), self.steps % 256, np.uint8)

    def expert(self) -> Policy:
        return lambda seen: np.array([np.clip(10 * (seen[1] - seen[0]), -1, 1), 0.0, 0.0, 0.5])

    def other_expert(self, rng: np.random.Generator) -> Policy:
        return lambda seen: np.array([-1.0, 0.0, 0.0, 0.0])

    def misread(self, observation: Vector, offset: Vector) -> Vector:
        moved: Vector = observation - np.array([0.0, 0.12 + abs(float(offset[0]))])
        return moved

    def close(self) -> None:
        self.goal = np.nan

    def _moment(self) -> Moment:
        done = abs(self.at - self.goal) < 0.1
        progress = staged(approach=self.at, moved=self.at, done=done)
        return Moment(observation=np.array([self.at, self.goal]), progress=progress, done=done)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_behaviour_ends_as_its_name_says(kind: str) -> None:
    ends = []
    for number in range(6):
        played = play(Line(), kind, rng=np.random.default_rng(number))
        frames = len(played.images)
        assert len(played.progress) == len(played.done) == len(played.actions) + 1 == frames
        assert np.abs(played.actions).max() <= 1.0
        ends.append(bool(played.done[-1]))
        if kind == "expert":
            assert played.done.sum() == HOLD
            assert not played.done[:-HOLD].any()
        if kind == "halfway" and not ends[-1]:
            assert 0.15 < played.progress[-1] < 0.9
            assert played.progress[-1] == pytest.approx(played.progress[-5], abs=1e-3)
        if kind == "idle":
            assert played.progress.max() < 0.5
    if kind in ("expert", "suboptimal"):
        assert all(ends)
    if kind in ("wrong_task", "idle"):
        assert not any(ends)
    if kind in ("near_miss", "halfway"):
        assert not all(ends)


def test_the_step_that_reaches_the_goal_is_a_frame() -> None:
    world = Line()
    played = play(world, "expert", rng=np.random.default_rng(0))
    steps = played.images[:, 0, 0, 0].astype(int)
    first = int(np.argmax(played.done))
    assert set(np.diff(steps[: first + 1])) <= {1, 2}
    assert set(np.diff(steps[first:])) == {1}


def test_a_slow_one_takes_longer() -> None:
    lengths = [
        np.mean([len(play(Line(), kind, rng=np.random.default_rng(n)).done) for n in range(5)])
        for kind in ("expert", "suboptimal")
    ]
    assert lengths[1] > 1.15 * lengths[0]


def line_source(opened: list[Line]) -> Source:
    def open_world(task: str, number: int) -> Line:
        opened.append(Line())
        return opened[-1]

    two = {name: TASKS[name] for name in ("soccer", "door-close")}
    return Source(
        name="line", tasks=two, splits={"unseen": ("soccer", "door-close"), "train": ("soccer",)},
        open_world=open_world, camera="side",
    )  # fmt: skip


def recorded(**changes: object) -> list[object]:
    asked = {"episodes": 10, "seed": 0, "families": (), "kinds": (), **changes}
    opened: list[Line] = []
    found = list(record(line_source(opened), "unseen", **asked))  # type: ignore[arg-type]
    assert all(np.isnan(world.goal) for world in opened), "a world was not closed"
    return list(found)


def test_episodes_are_labelled_and_repeat_by_seed() -> None:
    first, again, other = recorded(), recorded(), recorded(seed=1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)  # type: ignore[attr-defined]
        assert (a.id, a.instruction, a.meta) == (b.id, b.instruction, b.meta)  # type: ignore[attr-defined]
    assert not {e.id for e in first} & {e.id for e in other}  # type: ignore[attr-defined]
    assert [e.meta["family"] for e in first[:4]] == ["soccer", "door-close"] * 2  # type: ignore[attr-defined]
    qualities = {(e.meta["kind"], e.quality) for e in first}  # type: ignore[attr-defined]
    assert {("expert", "success"), ("suboptimal", "suboptimal")} <= qualities
    assert any(quality == "failure" for _, quality in qualities)


def test_kinds_may_be_chosen() -> None:
    kinds = [e.meta["kind"] for e in recorded(episodes=6, kinds=("expert", "idle"))]  # type: ignore[attr-defined]
    assert kinds == ["expert", "expert", "idle", "idle", "expert", "expert"]


def test_a_task_of_another_split_is_refused_before_anything_is_recorded() -> None:
    with pytest.raises(ConfigError, match="split train of line has no task 'door-close'"):
        record(
            line_source([]),
            "train",
            episodes=1,
            seed=0,
            families=("door-close",),
            kinds=("experd",),
        )
    with pytest.raises(ConfigError, match="did you mean expert"):
        record(line_source([]), "train", episodes=1, seed=0, families=(), kinds=("experd",))
    with pytest.raises(ConfigError, match="no behaviour"):
        actor("experd", Line(), rng=np.random.default_rng(0))


def test_mistakes_are_found_without_the_simulator() -> None:
    with pytest.raises(ConfigError, match="did you mean soccer"):
        open_suite("metaworld", families=("socer",))
    with pytest.raises(ConfigError, match="renderer gl only"):
        open_suite("metaworld", renderer="rays")
    with pytest.raises(ConfigError, match="has no split 'seen'"):
        open_suite("fetch", split="seen")
