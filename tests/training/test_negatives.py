"""Every negative: which frames it plays, and what is true of each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robo_reward.datasets.episode import Episode
from robo_reward.errors import ConfigError
from robo_reward.training.negatives import (
    IN_TIME,
    LabelledClip,
    NegativeConfig,
    counterfactual,
    cut,
    graded,
    mismatched,
    reverse,
    rewind,
    stagnation,
    undo,
    whole,
)
from robo_reward.training.sentences import NearMiss, alike, foreign, near_misses, sentence_bank

T = 21
SEEDS = range(12)


def recorded(**changes: object) -> Episode:
    images = {"front": np.zeros((T, 4, 4, 3), np.uint8)}
    made = Episode(id="one", instruction="open the jar", images=images, success=True)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def clip() -> LabelledClip:
    return whole(recorded())


def test_a_demonstration_is_labelled_by_what_is_left_of_its_time(clip: LabelledClip) -> None:
    np.testing.assert_allclose(clip.progress, np.arange(T) / (T - 1), atol=1e-6)
    assert clip.done[-2:].tolist() == [1.0, 1.0]
    assert (clip.done[:14] == 0).all()
    assert np.isnan(clip.done[14:-2]).all()
    unsaid = whole(recorded(success=None))
    np.testing.assert_array_equal(unsaid.progress, clip.progress)


def test_the_truth_of_a_simulator_goes_before_time() -> None:
    progress = np.minimum(np.arange(T) / 10, 1.0).astype(np.float32)
    clip = whole(recorded(progress=progress, done=progress >= 1))
    np.testing.assert_array_equal(clip.progress, progress)
    np.testing.assert_array_equal(clip.done, progress >= 1)


def test_of_a_failure_only_that_it_was_never_done_is_known() -> None:
    clip = whole(recorded(success=False))
    assert np.isnan(clip.progress).all()
    assert (clip.done == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", IN_TIME)
def test_labels_go_with_their_frames(name: str, seed: int, clip: LabelledClip) -> None:
    made = IN_TIME[name](clip, np.random.default_rng(seed))
    assert len(made) >= 1
    assert made.frames.min() >= 0
    assert made.frames.max() < T
    if name != "stagnation":  # there all frames count as the one that it stands still at
        np.testing.assert_array_equal(made.progress, clip.progress[made.frames])
        np.testing.assert_array_equal(made.done, clip.done[made.frames])


@pytest.mark.parametrize("seed", SEEDS)
def test_what_each_does_to_progress(seed: int, clip: LabelledClip) -> None:
    def made(negative: object) -> LabelledClip:
        return negative(clip, np.random.default_rng(seed))  # type: ignore[operator, no-any-return]

    assert (np.diff(made(reverse).progress) < 0).all()
    back = made(rewind)
    turn = int(back.progress.argmax())
    assert (np.diff(back.progress[: turn + 1]) > 0).all()
    assert (np.diff(back.progress[turn:]) < 0).all()
    assert len(back) > turn + 1
    assert back.progress.max() < 1.0
    undone = made(undo)
    assert undone.progress.max() == 1.0
    assert undone.done[T - 1] == 1.0
    assert undone.done[-1] == 0.0
    short = made(cut)
    assert short.progress[-1] < 1.0
    assert short.progress[-1] == short.progress.max()
    still = made(stagnation)
    assert len(still) == T
    assert np.ptp(still.progress) == 0.0
    assert np.ptp(still.frames) <= 2


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("name", IN_TIME)
def test_short_clips_and_clips_of_clips(name: str, count: int, clip: LabelledClip) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        short = clip.at(np.arange(count))
        assert len(IN_TIME[name](short, rng)) >= 1
        twice = IN_TIME[name](reverse(clip, rng), rng)
        assert set(twice.frames) <= set(range(T))


def test_another_thing_is_not_begun(clip: LabelledClip) -> None:
    asked = mismatched(reverse(clip, np.random.default_rng(0)), "press the red button")
    assert asked.instruction == "press the red button"
    assert (asked.progress == 0).all()
    assert (asked.done == 0).all()


def test_the_opposite_is_undone_as_far_as_this_is_done(clip: LabelledClip) -> None:
    asked = counterfactual(clip, NearMiss(text="close the jar", kind="opposite"))
    np.testing.assert_allclose(asked.progress, 1 - clip.progress)
    assert asked.done[-1] == 0
    assert np.isnan(asked.done[0])


def test_another_place_is_never_reached_and_how_far_nobody_knows(clip: LabelledClip) -> None:
    asked = counterfactual(clip, NearMiss(text="open the jar on the shelf", kind="place"))
    assert np.isnan(asked.progress).all()
    assert (asked.done == 0).all()


def test_a_graded_counterfactual_takes_the_truth_of_its_frames(clip: LabelledClip) -> None:
    half = replace(clip, instruction="lift the jar", progress=np.float32(0.5) * clip.progress)
    asked = graded(reverse(clip, np.random.default_rng(0)), half)
    np.testing.assert_array_equal(asked.progress, (clip.progress / 2)[::-1])
    assert asked.instruction == "lift the jar"


def test_near_misses_change_one_word_and_know_what_it_means() -> None:
    found = near_misses("push the red cube onto the blue pad")
    kinds = {miss.text: miss.kind for miss in found}
    assert kinds["push the green cube onto the blue pad"] == "object"
    assert kinds["push the red ball onto the blue pad"] == "object"
    assert kinds["push the red cube onto the green pad"] == "place"
    assert kinds["lift the red cube onto the blue pad"] == "verb"
    assert not any("red block" in text for text in kinds), "a block is a cube"
    assert {len(text.split()) for text in kinds} == {8}
    assert near_misses("Fold it") == []
    assert [miss.text for miss in near_misses("turn the lever to the left")][-1].endswith("right")


def test_foreign_sentences_cannot_mean_the_same() -> None:
    own = "put the red cube on the blue pad"
    bank = sentence_bank()
    assert len(set(bank)) == len(bank) > 300
    kept = foreign(own, (*bank, "place the red cube on the blue pad", "open the door"))
    assert "open the door" in kept
    assert "place the red cube on the blue pad" not in kept
    assert all(alike(own, text) < 0.5 for text in kept)


def test_a_recipe_without_one_of_them() -> None:
    recipe = NegativeConfig().without(["rewind", "mismatched"])
    assert recipe.rewind == recipe.mismatched == 0.0
    assert recipe.undo == NegativeConfig().undo
    rng = np.random.default_rng(0)
    drawn = {recipe.draw(IN_TIME, rng) for _ in range(400)}
    assert drawn == set(IN_TIME) - {"rewind"}
    with pytest.raises(ConfigError, match="no negative 'rewnd'; did you mean rewind"):
        NegativeConfig().without(["rewnd"])
    with pytest.raises(ConfigError, match="shares"):
        NegativeConfig(cut=1.5)
    with pytest.raises(ConfigError, match="forward"):
        NegativeConfig(forward=0.0)
