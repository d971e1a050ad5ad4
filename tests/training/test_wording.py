"""Sentences are varied without a change of what they say."""

from __future__ import annotations

import numpy as np

from robo_reward.training.wording import AFTER, BEFORE, WordingConfig, vary

TEXT = "put the red cube on the blue pad"
NEVER = WordingConfig(framed=0, terse=0, misspelled=0, spelled=0)


def said(config: WordingConfig, count: int = 200) -> list[str]:
    return [vary(TEXT, np.random.default_rng(i), config=config) for i in range(count)]


def only(**share: float) -> WordingConfig:
    return WordingConfig(**{"framed": 0.0, "terse": 0.0, "misspelled": 0.0, "spelled": 0.0} | share)


def test_nothing_is_varied_where_no_share_is() -> None:
    assert set(said(NEVER)) == {TEXT}


def test_the_task_stands_whole_within_its_frame() -> None:
    framed = said(only(framed=1.0))
    assert all(TEXT in text and text != TEXT for text in framed)
    assert {text.replace(TEXT, "").strip() for text in framed} == {*BEFORE, *AFTER}


def test_terse_sentences_lack_articles_alone() -> None:
    assert set(said(only(terse=1.0))) == {"put red cube on blue pad"}


def test_a_misspelling_changes_one_word_by_one_letter_or_two() -> None:
    wrong = set(said(only(misspelled=1.0)))
    for text in wrong - {TEXT}:
        pairs = list(zip(text.split(), TEXT.split(), strict=True))
        changed = [(a, b) for a, b in pairs if a != b]
        assert len(changed) == 1
        word, right = changed[0]
        assert len(right) > 3
        assert abs(len(word) - len(right)) <= 1
        assert set(word) <= set(right)
    assert len(wrong) > 5


def test_spelling_keeps_the_letters() -> None:
    spelled = set(said(only(spelled=1.0)))
    assert all(text.replace(" ", "") == TEXT.replace(" ", "") for text in spelled)
    assert "p u t the red cube on the blue pad" in spelled


def test_shares_are_kept() -> None:
    varied = said(WordingConfig(framed=0.3, terse=0, misspelled=0, spelled=0), 2000)
    assert abs(np.mean([text != TEXT for text in varied]) - 0.3) < 0.04
