"""Calibration: curves against scikit-learn, thresholds by hand, refusals, the way into scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from robo_reward.client import connect, local
from robo_reward.datasets.episode import Episode
from robo_reward.datasets.log import LogWriter
from robo_reward.errors import ConfigError, DatasetError
from robo_reward.frames import Frame
from robo_reward.gate_config import GateConfig
from robo_reward.models import load_model
from robo_reward.models.base import ScoreArrays
from robo_reward.models.calibration import Calibration, DoneCurve, log_odds, sigmoid
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.nodes.serve import RewardNode
from robo_reward.protocol.stream import EndEvent, StartEvent, Tag
from robo_reward.query import Query
from robo_reward.signals import Status
from robo_reward.task import Task
from robo_reward.training.abstention import fit_abstention
from robo_reward.training.calibrate import (
    CalibrationOptions,
    Played,
    fit,
    fit_isotonic,
    fit_sigmoid,
    known_truth,
    operating_point,
    play,
)
from robo_reward.transport.clock import clock_name

OPTIONS = CalibrationOptions(votes=1, window=1, dwell=1, resamples=100, precision=0.9)


def frames(count: int = 4000, *, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """An overconfident model: its log-odds are three times too large and one too high."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0.0, 1.5, count)
    truth = (rng.random(count) < sigmoid(odds)).astype(float)
    return sigmoid(3.0 * odds + 1.0), truth


def episode(*, reached: bool, number: int, text: str = "push", noise: float = 0.0) -> Played:
    rng = np.random.default_rng(number)
    done = np.full(12, 0.2) + noise * rng.normal(size=12)
    truth = np.zeros(12)
    if reached:
        done[8:], truth[8:] = 0.7, 1.0
    return Played(instruction=text, done=done.clip(0.01, 0.99), truth=truth)


def many(count: int = 15, **options: Any) -> list[Played]:
    return [episode(reached=i % 2 == 0, number=i, **options) for i in range(2 * count)]


def test_the_sigmoid_is_that_of_a_logistic_regression() -> None:
    done, truth = frames()
    curve = fit_sigmoid(done, truth)
    regression = LogisticRegression(C=1e6).fit(log_odds(done)[:, None], truth)
    assert curve.slope == pytest.approx(regression.coef_[0, 0], rel=0.01)
    assert curve.offset == pytest.approx(regression.intercept_[0], abs=0.01)
    assert curve.slope == pytest.approx(1 / 3, rel=0.1)


def test_the_isotonic_curve_is_that_of_scikit_learn() -> None:
    done, truth = frames(600)
    done = done.round(2)
    curve = fit_isotonic(done, truth)
    want = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(done, truth)
    places = np.linspace(0, 1, 301)
    assert curve(places) == pytest.approx(want.predict(places), abs=1e-5)
    assert np.isnan(curve(np.array([np.nan, 0.5]))[0])


def test_separable_and_constant_data_stay_finite() -> None:
    done = np.array([0.1] * 20 + [0.9] * 20)
    truth = np.array([0.0] * 20 + [1.0] * 20)
    assert 0.0 < fit_sigmoid(done, truth).slope < 100.0
    flat = fit_isotonic(np.full(10, 0.5), np.array([0.0, 1.0] * 5))
    assert flat(np.array([0.1, 0.9])) == pytest.approx([0.5, 0.5])


def test_calibration_lowers_the_error_on_other_episodes() -> None:
    rng = np.random.default_rng(1)
    played = []
    for number in range(80):
        odds = np.cumsum(rng.normal(0.15, 0.5, 20)) - 2.0
        truth = (rng.random(20) < sigmoid(odds)).astype(float)
        truth[-1] = float(number % 2)
        played.append(Played(instruction="x", done=sigmoid(3 * odds + 1), truth=truth))
    found = fit(played, model=OraclePixels(), options=replace(OPTIONS, precision=0.5)).overall
    assert found.ece_after < 0.5 * found.ece_before


def test_the_threshold_is_the_least_strict_one_that_is_precise_enough() -> None:
    # Ten true dones at 0.7, ten failures that reach 0.4 and one that reaches 0.65.
    played = [episode(reached=True, number=i) for i in range(10)]
    for number, peak in enumerate([0.4] * 10 + [0.65]):
        one = episode(reached=False, number=number)
        one.done[5] = peak
        played.append(one)
    line = DoneCurve()
    gate, figures = operating_point(played, line, options=OPTIONS)
    # 10 of 11 decisions are right with the 0.65 among them: 0.909 is enough.
    assert 0.4 < gate.enter <= 0.7
    assert figures["recall"].value == 1.0
    strict, figures = operating_point(played, line, options=replace(OPTIONS, precision=0.95))
    assert 0.65 < strict.enter <= 0.7
    assert figures["precision"].value == 1.0
    assert figures["false"].value == 0.0


@pytest.mark.parametrize(
    ("played", "says"),
    [
        (many(4), "4 episodes end with the goal reached and 4 without; 10 of each"),
        ([episode(reached=True, number=i) for i in range(40)], "40 episodes end with the goal"),
        ([], "0 episodes end"),
    ],
)
def test_too_little_data_is_refused(played: list[Played], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        fit(played, model=OraclePixels(), options=OPTIONS)


def test_a_precision_out_of_reach_is_refused() -> None:
    played = many()
    for number, one in enumerate(played):
        if not one.reached and number % 4 == 1:
            one.done[9:] = 0.7  # half of the failures look exactly like success
    with pytest.raises(DatasetError, match=r"no threshold reaches a precision of 0\.9"):
        fit(played, model=OraclePixels(), options=OPTIONS)


def test_instructions_with_episodes_enough_have_fits_of_their_own() -> None:
    few = [episode(reached=i % 2 == 0, number=i, text="lift") for i in range(6)]
    found = fit([*many(), *few], model=OraclePixels(), options=OPTIONS)
    assert list(found.tasks) == ["push"]
    assert found.overall.episodes == 36
    assert found.of("lift") is found.overall
    assert set(found.gates()) == {"", "push"}
    crowded = replace(found, tasks={f"{i:0500d}": found.overall for i in range(40)})
    assert 2 < len(crowded.gates()) < 12


def test_what_is_not_known_is_left_open() -> None:
    images = {"front": np.zeros((8, 4, 4, 3), np.uint8)}
    won = Episode(id="a", instruction="push", images=images, success=True)
    assert known_truth(won)[:4].tolist() == [0.0] * 4
    assert np.isnan(known_truth(won)[4:7]).all()
    assert known_truth(won)[7] == 1.0
    assert not known_truth(replace(won, success=False)).any()
    with pytest.raises(DatasetError, match="does not say whether it succeeded"):
        known_truth(replace(won, success=None))


@pytest.fixture
def calibration() -> Calibration:
    return fit(many(noise=0.03), model=OraclePixels(), options=OPTIONS, data="made up")


def test_a_file_is_read_back_and_refused_by_another_model(
    calibration: Calibration, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert Calibration.load(path).id == calibration.id
    assert replace(calibration, data="else").id != calibration.id
    assert load_model("oracle-pixels", calibration=path).calibration_id == calibration.id
    foreign = replace(calibration, model="compact@0")
    with pytest.raises(ConfigError, match="is for model 'compact@0'"):
        OraclePixels().calibrate(foreign)
    for text, says in ((b"{}", "is no calibration"), (b"\x00", "is no calibration")):
        path.write_bytes(text)
        with pytest.raises(DatasetError, match=says):
            Calibration.load(path)
    calibration.save(path)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(DatasetError, match="has schema 9"):
        Calibration.load(path)
    with pytest.raises(DatasetError, match="robo-reward calibrate makes one"):
        Calibration.load(tmp_path / "none.json")


def test_only_done_changes_and_every_score_says_so(calibration: Calibration) -> None:
    frame = Frame.of(paint(0.5, 0.6))
    asked = [Query(task=Task(instruction="push"), newest=(frame,))]
    plain = OraclePixels().answer(asked)[0]
    model = OraclePixels()
    model.calibrate(calibration)
    with local(model) as source:
        (here,) = source.submit(asked).result(timeout_s=10.0)
        assert source.info().gate("anything") == calibration.overall.gate
    assert here.identity.calibration == calibration.id
    assert here.signals.progress == plain.signals.progress
    wanted = calibration.of("push").curve(np.array([plain.signals.done]))[0]
    assert here.signals.done == pytest.approx(float(wanted))
    assert here.signals.done != plain.signals.done


def test_a_node_tells_its_clients(calibration: Calibration) -> None:
    model = OraclePixels()
    model.calibrate(calibration)
    frame = Frame.of(paint(0.5, 0.6))
    node = RewardNode(model, address="tcp://127.0.0.1:0", warm_up=False)
    with node, connect(node.address, deadline_s=10.0) as source:
        info = source.info()
        assert info.calibration == calibration.id
        assert info.gate("anything") == calibration.overall.gate
        asked = [Query(task=Task(instruction="push"), newest=(frame,))]
        (score,) = source.submit(asked).result(timeout_s=10.0)
        assert score.identity.calibration == calibration.id


def test_without_a_calibration_there_is_no_gate() -> None:
    with local(OraclePixels()) as source:
        assert source.info().gate("push") is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": 1.0}, "precision must be in"),
        ({"resamples": 5}, "resamples must be >= 100"),
        ({"abstain": 0.5}, "abstain must be in"),
        ({"votes": 9}, "votes must be in"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CalibrationOptions(**options)


def test_a_curve_has_to_rise() -> None:
    with pytest.raises(ConfigError, match="must rise"):
        DoneCurve(slope=-1.0)
    with pytest.raises(ConfigError, match="two points or more"):
        DoneCurve(kind="isotonic", x=(0.0, 1.0), y=(1.0, 0.0))


def doubts(count: int = 60, *, frames: int = 50) -> list[NDArray[np.float32]]:
    """Uncertainty of episodes, some of which are harder than others."""
    rng = np.random.default_rng(3)
    hard = rng.uniform(0.2, 0.6, (count, 1))
    return list((hard * rng.uniform(0, 1, (count, frames))).astype(np.float32))


def test_the_limit_lets_through_what_was_asked_for() -> None:
    found = fit_abstention(doubts(), asked=0.02, resamples=200, seed=0)
    assert found is not None
    everything = np.concatenate(doubts())
    assert (everything > found.limit).mean() <= 0.02
    # The next lower value would already abstain too often.
    below = everything[everything < found.limit].max()
    assert (everything > below).mean() > 0.02 - 1 / len(everything)
    assert found.frames == 3000
    assert found.rate.low <= found.rate.value <= found.rate.high
    assert 0.0 < found.rate.value < 0.05


def test_a_limit_that_the_frames_do_not_support_is_not_set() -> None:
    assert fit_abstention(doubts(8), asked=0.01, resamples=100, seed=0) is None
    certain = [np.ones(100, np.float32) for _ in range(20)]
    assert fit_abstention(certain, asked=0.01, resamples=100, seed=0) is None


def test_a_calibrated_model_abstains_above_the_limit(calibration: Calibration) -> None:
    many_doubts = [replace(one, uncertainty=u) for one, u in zip(many(30), doubts(), strict=True)]
    fitted = fit(many_doubts, model=OraclePixels(), options=OPTIONS)
    assert fitted.abstention is not None
    assert calibration.abstention is None  # its episodes say nothing of uncertainty
    off = fit(many_doubts, model=OraclePixels(), options=replace(OPTIONS, abstain=0.0))
    assert off.abstention is None
    assert off.id != fitted.id

    model = Doubtful()
    model.calibrate(fitted)
    assert model.abstain_above == fitted.abstention.limit
    asked = [
        Query(task=Task(instruction="push"), newest=(Frame.of(paint(0.5, done)),))
        for done in (0.1, 0.9)
    ]
    sure, unsure = model.answer(asked)
    assert sure.ok
    assert unsure.status is Status.ABSTAINED
    assert unsure.identity.calibration == f"{fitted.id}>{fitted.abstention.limit:.4g}"
    model.limit(0.95)
    assert all(score.ok for score in model.answer(asked))
    assert model.answer(asked)[0].identity.calibration == f"{fitted.id}>0.95"


class Doubtful(OraclePixels):
    """As uncertain as it says something is done."""

    def _score(self, *arguments: Any) -> ScoreArrays:
        said = super()._score(*arguments)
        return replace(said, uncertainty=said.done)


def test_a_calibrated_model_is_not_calibrated_again(calibration: Calibration) -> None:
    model = OraclePixels()
    model.calibrate(calibration)
    with pytest.raises(ConfigError, match="not its calibrated answers"):
        play(model, [])


def write_recording(folder: Path, number: int, *, reached: bool) -> None:
    stamps: dict[str, Any] = {"mono_ns": 1, "wall_ns": 1, "clock": clock_name()}
    writer = LogWriter(folder, name=f"episode{number:03d}")
    writer.start(StartEvent(tag=Tag(episode=number), instruction="push", **stamps), local_ns=1)
    for step in range(10):
        done = 0.75 if reached and step >= 6 else 0.2 + 0.01 * (number % 5)
        image = paint(step / 10, done, size=16, salt=100 * number + step)
        frame = Frame.of(image, camera="front", sequence=step, mono_ns=step, wall_ns=step)
        writer.frame(frame, local_ns=step)
    end = EndEvent(tag=Tag(episode=number, step=9), success=reached, reason="done", **stamps)
    writer.end(end, local_ns=99)
    writer.close()


def test_the_verb_on_recordings(command: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("mcap")
    data = tmp_path / "recordings"
    for number in range(24):
        write_recording(data, number, reached=number % 2 == 0)
    (data / "cut-short.mcap").write_bytes(b"not a recording")
    out = tmp_path / "out"
    ran = command("calibrate", "oracle-pixels", str(data), "--out", str(out), "--json", "-q",
                  "--resamples", "100")  # fmt: skip
    assert ran.code == 0, ran.err
    told = json.loads(ran.out.splitlines()[-1])
    assert told["precision"] == 1.0
    assert told["recall"] == 1.0
    assert told["episodes"] == 24  # the file that is no recording is left out
    assert told["abstain_above"] is None  # 240 frames do not say what one in a hundred is
    made = Calibration.load(told["path"])
    assert made.id == told["calibration"]
    assert made.model == "oracle-pixels@1"
    assert "Operating point" in (out / "report.html").read_text()

    # The wrapper takes the gate of the file, which is not the default one.
    assert made.overall.gate != GateConfig()
    ran = command("calibrate", "oracle-pixels", str(tmp_path / "nothing"))
    assert ran.code == 2
    assert "neither a folder of recordings nor a suite" in ran.err
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = command("calibrate", "oracle-pixels", str(empty))
    assert ran.code == 6
    assert "no recordings (*.mcap) in" in ran.err
