"""Sanity clips: sound models pass, every shortcut is called by its name, and truth is respected."""

from __future__ import annotations

import json
import math
from itertools import islice
from typing import Any

import numpy as np
import pytest

from robo_reward.datasets.episode import Episode
from robo_reward.evaluate import EvalOptions, evaluate
from robo_reward.evaluate.sanity import CLIPS, ClipResult, SanityRun, usable
from robo_reward.evaluate.scoring import Asker
from robo_reward.evaluate.suites import open_suite
from robo_reward.evaluate.verdicts import Evidence, verdicts
from robo_reward.models import load_model
from robo_reward.models.base import RewardModel
from robo_reward.models.baselines import Constant, LanguageBlind, TimeCounter
from robo_reward.models.oracle_pixels import OraclePixels

from .episodes import Listener, painted, ramp

OPTIONS = EvalOptions(resamples=0)


def _episodes() -> list[Episode]:
    won = [painted(ramp(24 + n), number=n, size=16) for n in range(5)]
    return [*won, painted(ramp(20, end=0.5), number=9, size=16)]


def _verdicts(model: RewardModel) -> set[str]:
    return set(evaluate({"m": model}, _episodes(), options=OPTIONS).models[0].verdicts)


def test_a_model_that_looks_and_listens_passes_every_clip() -> None:
    result = evaluate({"m": Listener()}, _episodes(), options=OPTIONS).models[0]
    assert [clip.name for clip in CLIPS] == list(result.sanity)
    assert {name for name, clip in result.sanity.items() if not clip.holds} == set()
    assert all(clip.episodes == 5 for clip in result.sanity.values())
    assert result.verdicts == {}


@pytest.mark.parametrize(
    ("model", "want"),
    [
        (TimeCounter(horizon=25), {"scores time", "ignores language", "blind", "false done"}),
        (TimeCounter(horizon=500), {"scores time", "ignores language", "blind"}),
        (Constant(), {"constant", "ignores language", "blind"}),
        (Constant(value=1.0), {"constant", "ignores language", "blind", "false done"}),
        (OraclePixels(), {"ignores language", "false done"}),
    ],
    ids=["time", "slow time", "constant", "always done", "deaf"],
)
def test_shortcuts_are_called_by_name(model: RewardModel, want: set[str]) -> None:
    assert _verdicts(model) == want


def test_a_language_blind_model_is_found_out_whatever_it_sees() -> None:
    blind = LanguageBlind(model="oracle-pixels", device="cpu")
    assert _verdicts(blind) == {"ignores language", "false done"}
    assert blind.model_id == "language-blind-oracle-pixels@1"


def test_figures_of_the_clips_are_those_worked_by_hand() -> None:
    counter = evaluate({"m": TimeCounter(horizon=100)}, _episodes()[:1], options=OPTIONS).models[0]
    clips = counter.sanity
    assert clips["recorded"].value == pytest.approx(1.0)
    assert clips["reversed"].value == pytest.approx(-1.0)
    assert clips["frozen"].value == pytest.approx(0.23)  # 24 frames, the last one at step 23
    assert clips["looped"].value == pytest.approx(0.12)  # 12 steps later, each
    assert clips["wrong_instruction"].value == 0.0
    assert clips["black"].changed == 0.0
    assert {name for name, clip in clips.items() if clip.holds is False} == {
        "reversed", "frozen", "looped", "shuffled", "wrong_instruction", "other_scene", "black",
    }  # fmt: skip


def test_clips_show_what_they_say() -> None:
    episode = _episodes()[0]
    rng = np.random.default_rng(0)
    # A missing clip would fail by its missing attributes.
    made: dict[str, Any] = {clip.name: clip.make(episode, rng) for clip in CLIPS}
    count = len(episode)
    assert made["reversed"].order.tolist() == list(range(count))[::-1]
    assert set(made["frozen"].order) == {0}
    assert made["looped"].order.tolist() == [*range(count // 2)] * 2
    assert sorted(made["shuffled"].order) == list(range(count)) != made["shuffled"].order.tolist()
    picture = np.full((40, 60, 3), 7, np.uint8)
    assert not made["black"].paint(picture).any()
    changed = (made["occluded"].paint(picture) != 7).any(axis=2)
    assert changed.mean() == pytest.approx(0.09, abs=0.02)
    assert made["wrong_instruction"].instruction in episode.meta["never_true"]
    assert made["paraphrased"].instruction in episode.meta["paraphrases"]["grammar"]
    assert made["other_scene"].instruction == episode.meta["other_tasks"]["push"]
    assert made["other_scene"].never
    assert not made["recorded"].never


def test_what_is_not_known_is_not_asked() -> None:
    bare = painted(ramp(20), number=1, alternatives=())
    bare.meta.update(never_true=[], other_tasks={}, paraphrases={})
    clips = evaluate({"m": Listener()}, [bare], options=OPTIONS).models[0].sanity
    silent = {name for name, clip in clips.items() if clip.holds is None}
    assert silent == {"wrong_instruction", "other_scene", "paraphrased"}
    assert all(math.isnan(clips[name].value) for name in silent)


def test_a_sentence_that_was_true_on_the_way_does_not_blame_the_gate() -> None:
    episode = painted(ramp(20), number=1)
    episode.meta["never_true"] = []
    clips = evaluate({"m": OraclePixels()}, [episode], options=OPTIONS).models[0].sanity
    assert math.isnan(clips["wrong_instruction"].opened)
    assert clips["other_scene"].opened == 1.0


def test_only_successes_that_rise_are_used_and_no_more_than_asked() -> None:
    assert not usable(painted(ramp(20, end=0.5)))
    assert not usable(painted([0.99] * 20))
    assert not usable(painted([0.0, 1.0]))
    assert usable(painted(ramp(20)))
    run = SanityRun(Asker(OraclePixels(), options=OPTIONS), limit=2)
    for number, episode in enumerate(_episodes()):
        run.add(episode, np.linspace(0, 1, len(episode)), number=number)
    assert run.finish()["recorded"].episodes == 2
    result = evaluate({"m": Listener()}, _episodes(), options=EvalOptions(resamples=0, sanity=0))
    assert result.models[0].sanity == {}


def test_no_verdict_without_evidence() -> None:
    assert verdicts(Evidence(figures={}, clips={}, constant=math.nan)) == {}


def test_a_verdict_needs_all_that_is_known_to_agree() -> None:
    drops = {"mismatch_drop": 0.02, "diagonal_margin": 0.6}
    assert verdicts(Evidence(figures=drops, clips={}, constant=0.0)) == {}
    drops["diagonal_margin"] = 0.05
    assert set(verdicts(Evidence(figures=drops, clips={}, constant=0.0))) == {"ignores language"}


def test_other_words_that_decide_are_named() -> None:
    figures = {"paraphrase_spread": 0.2}
    found = verdicts(Evidence(figures=figures, clips={}, constant=0.0))
    assert set(found) == {"hangs on wording"}


def test_a_gate_that_opens_fails_a_clip_whose_figure_is_fine() -> None:
    fine: dict[str, Any] = {
        "value": 0.0,
        "changed": 0.0,
        "trend": 0.0,
        "limit": 0.05,
        "at_least": False,
        "episodes": 10,
    }
    assert ClipResult(**fine, opened=0.1).holds
    assert not ClipResult(**fine, opened=0.2).holds
    assert ClipResult(**fine, opened=math.nan).holds


def test_results_are_plain_values() -> None:
    plain = evaluate({"m": Constant()}, _episodes(), options=OPTIONS).as_dict()
    assert json.loads(json.dumps(plain["sanity"]))["black"]["holds"] is False
    assert plain["verdicts"] == ["ignores language", "blind", "constant"]


@pytest.mark.timeout(300)  # a renderer and a network, on a busy machine
def test_the_shipped_model_passes_every_clip() -> None:
    """The first successes of the command that the README gives, on the shipped weights."""
    pytest.importorskip("mujoco")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    model = load_model("compact", device="cpu")
    recorded = open_suite("tabletop", split="unseen", episodes=18)
    episodes = list(islice(filter(usable, recorded), 4))
    options = EvalOptions(resamples=0, pairs=0, wordings=0, sanity=4)
    result = evaluate({"compact": model}, episodes, options=options).models[0]
    assert {name: clip for name, clip in result.sanity.items() if not clip.holds} == {}
    assert result.sanity["recorded"].episodes == 4
    assert result.verdicts == {}
