"""Several models as one: means, the worst, weights, cascades, rule-based checks, the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.client import local
from robo_reward.errors import ConfigError
from robo_reward.frames import Frame, Image
from robo_reward.gate_config import GateConfig
from robo_reward.models import Capabilities, RewardModel, ScoreArrays, load_model
from robo_reward.models.base import Feature, Instants
from robo_reward.models.calibration import Calibration, DoneCurve, Interval, TaskCalibration
from robo_reward.models.checks import Rule, Told, find_check, rule
from robo_reward.models.composite import Composite
from robo_reward.models.composite_spec import Blend
from robo_reward.models.oracle_pixels import OraclePixels
from robo_reward.query import Query
from robo_reward.signals import SIGNALS, Status
from robo_reward.task import Task

TASK = Task(instruction="lift the red cube")


class Reader(RewardModel):
    """Reads progress, done and uncertainty from the channels of the first pixel."""

    def __init__(
        self,
        name: str,
        *,
        shift: float = 0.0,
        signals: tuple[str, ...] = SIGNALS,
        history: int = 0,
        fails: bool = False,
    ) -> None:
        super().__init__(
            name=name,
            version="1",
            capabilities=Capabilities(signals=signals, history=history, licence="MIT"),
        )
        self.shift = shift
        self.fails = fails
        self.pasts: list[int] = []
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        return [image[0, 0] / 255.0 for image in images]

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        self.pasts += [len(past) for past in history]
        now = np.array([view[0] for view in newest])
        then = np.array([(old or new)[0] for old, new in zip(reference, newest, strict=True)])
        columns = {
            "progress": np.clip(now[:, 0] + self.shift, 0, 1),
            "progress_delta": np.clip(now[:, 0] + self.shift, 0, 1)
            - np.clip(then[:, 0] + self.shift, 0, 1),
            "done": now[:, 1],
            "contrastive": np.clip(now[:, 0] - then[:, 0] + self.shift, -1, 1),
            "uncertainty": now[:, 2],
        }
        none = np.full(len(queries), np.nan)
        rows = {
            name: (column if name in self.capabilities.signals else none).astype(np.float32)
            for name, column in columns.items()
        }
        black = [row for row, view in enumerate(now) if not view.any()]
        return ScoreArrays(**rows, failures=dict.fromkeys(black, "black") if self.fails else {})


def frame(progress: float, done: float = 0.0, doubt: float = 0.0) -> Frame:
    image = np.zeros((8, 8, 3), np.uint8)
    image[0, 0] = [round(255 * value) for value in (progress, done, doubt)]
    return Frame.of(image)


def query(new: Frame, old: Frame | None = None, **place: Any) -> Query:
    return Query(task=TASK, newest=(new,), reference=() if old is None else (old,), **place)


def test_the_mean_and_what_the_members_disagree_about() -> None:
    model = Composite([Reader("a"), Reader("b", shift=0.4)])
    assert model.capabilities.signals == SIGNALS
    said = model.score([query(frame(0.2, 0.6), frame(0.0)), query(frame(0.8, 1.0), frame(0.8))])
    np.testing.assert_allclose(said.progress, [0.4, 0.9], atol=3e-3)
    np.testing.assert_allclose(said.progress_delta, [0.2, 0.0], atol=3e-3)
    np.testing.assert_allclose(said.done, [0.6, 1.0], atol=3e-3)
    # Twice the standard deviation of 0.2 and 0.6, of 0.8 and 1.
    np.testing.assert_allclose(said.uncertainty, [0.4, 0.2], atol=5e-3)
    alike = Composite([Reader("a"), Reader("b")])
    unsure = alike.score([query(frame(0.5, doubt=0.6))]).uncertainty
    assert unsure[0] == pytest.approx(0.6, abs=3e-3)
    assert [member.encoded_frames for member in model.members] == [4, 4]


def test_weights_are_per_signal_and_stand_in_the_name() -> None:
    members = [Reader("a"), Reader("b", shift=0.4)]
    blend = Blend(how="weights", weights=(3.0, {"progress": 1.0, "done": 0.0}))
    model = Composite(members, blend=blend)
    said = model.score([query(frame(0.2, 0.6), frame(0.0))])
    assert said.progress[0] == pytest.approx(0.3, abs=3e-3)
    assert said.done[0] == pytest.approx(0.6, abs=3e-3)
    assert model.model_id == "composite@weights(a@1*3 + b@1*done:0,progress:1)"
    only = Composite(members, blend=Blend(how="weights", weights=({"done": 0}, {"done": 0})))
    assert "done" not in only.capabilities.signals
    many = Composite([Reader("x" * 40) for _ in range(8)])
    assert len(many.model_id) < 256
    assert many.model_id.startswith("composite@mean(8 members ")


def test_the_worst_is_what_all_have_to_be_fooled_for() -> None:
    model = Composite([Reader("a"), Reader("b", shift=-0.3)], blend=Blend(how="worst"))
    old, new = frame(0.2, 0.9), frame(0.6, 0.4)
    said = model.score([query(new, old), query(old, new), query(new, new)])
    np.testing.assert_allclose(said.progress, [0.3, 0.0, 0.3], atol=5e-3)
    np.testing.assert_allclose(said.done, [0.4, 0.9, 0.4], atol=5e-3)
    # 0.3 - 0 one way, as much back; contrastive: 0.4 and 0.1, -0.4 and -0.7, 0 and -0.3.
    np.testing.assert_allclose(said.progress_delta, [0.3, -0.3, 0.0], atol=5e-3)
    np.testing.assert_allclose(said.contrastive, [0.1, -0.4, 0.0], atol=5e-3)
    flat = Reader("c", signals=("progress", "done"))
    assert "progress_delta" not in Composite([flat], blend=Blend(how="worst")).capabilities.signals


def test_members_that_give_different_things() -> None:
    progress = Reader("p", signals=("progress", "progress_delta"))
    done = Reader("d", signals=("done", "uncertainty"))
    model = Composite([progress, done])
    assert model.capabilities.signals == ("progress", "progress_delta", "done", "uncertainty")
    said = model.score([query(frame(0.2, 0.6, 0.3))])
    assert said.progress[0] == pytest.approx(0.2, abs=3e-3)
    assert said.done[0] == pytest.approx(0.6, abs=3e-3)
    assert said.uncertainty[0] == pytest.approx(0.3, abs=5e-3)
    assert np.isnan(said.contrastive[0])
    assert Composite([progress]).capabilities.signals == ("progress", "progress_delta")
    both = Composite([Reader("a"), done], blend=Blend(how="cascade"))
    assert both.capabilities.signals == ("done", "uncertainty")


def test_the_costly_one_is_asked_only_where_the_cheap_one_is_unsure() -> None:
    cheap, costly = Reader("cheap"), Reader("costly", shift=0.3)
    model = Composite([cheap, costly], blend=Blend(how="cascade", limit=0.5))
    pictures = [frame(0.1, doubt=0.1), frame(0.2, doubt=0.9), frame(0.3), frame(0.4, doubt=0.6)]
    said = model.score([query(one) for one in pictures])
    np.testing.assert_allclose(said.progress, [0.1, 0.5, 0.3, 0.7], atol=3e-3)
    assert model.asked == {"cheap@1": 4, "costly@1": 2}
    assert (cheap.encoded_frames, costly.encoded_frames) == (4, 2)
    assert model.model_id == "composite@cascade 0.5(cheap@1 + costly@1)"
    sure = model.score([query(frame(0.1))])
    assert sure.progress[0] == pytest.approx(0.1, abs=3e-3)
    assert model.asked["costly@1"] == 2


def test_a_row_without_an_answer_is_passed_on_or_fails() -> None:
    black, grey = frame(0.0), frame(0.5)
    asked = [query(black), query(grey)]
    mean = Composite([Reader("a", fails=True), Reader("b")])
    assert mean.score(asked).failures == {0: "a: black"}
    assert [score.status for score in mean.answer(asked)] == [Status.MODEL_ERROR, Status.OK]
    next_one = Composite([Reader("a", fails=True), Reader("b")], blend=Blend(how="cascade"))
    assert next_one.score(asked).failures == {}
    worst = Composite([Reader("a", fails=True)], blend=Blend(how="worst"))
    assert np.isnan(worst.score(asked).progress[0])


def test_each_member_looks_back_as_far_as_it_does() -> None:
    far, near, blind = Reader("far", history=4), Reader("near", history=1), Reader("blind")
    model = Composite([far, near, blind])
    assert model.capabilities.history == 4
    past = tuple((frame(t / 10),) for t in range(4))
    model.score([Query(task=TASK, newest=(frame(0.9),), history=past)])
    assert (far.pasts, near.pasts, blind.pasts) == ([4], [1], [0])


def test_checks_outrank_the_models() -> None:
    told = Told("gripper")
    model = Composite([Reader("a")], checks=[told, Rule("never", lambda query: None)])
    good = query(frame(0.9, 0.95), env=1, episode=2, step=3)
    assert model.answer([good])[0].detail == ""
    told.tell(False, env=1)
    said = model.answer([good, query(frame(0.9, 0.95), env=0)])
    assert said[0].signals.done == 0.0
    assert said[0].detail == "not done by check gripper"
    assert said[0].signals.progress == pytest.approx(0.9, abs=3e-3)
    assert said[1].signals.done == pytest.approx(0.95, abs=3e-3)
    told.tell(True, env=1, episode=2, step=3)
    assert model.score([good]).done[0] == 1.0
    told.tell(None, env=1)
    later = query(frame(0.9, 0.95), env=1, episode=2, step=4)
    assert model.answer([later])[0].detail == ""
    assert model.ruled == {"gripper": 2}
    assert model.model_id == "composite@mean(a@1) & gripper & never"
    with pytest.raises(ValueError, match="on an episode and a step"):
        told.tell(True, episode=3)


def test_a_no_outranks_a_yes() -> None:
    yes, no, silent = (Rule(n, lambda query, v=v: v) for n, v in  # type: ignore[misc]
                       (("yes", True), ("no", False), ("silent", None)))  # fmt: skip
    asked = query(frame(0.5))
    assert rule([yes, no], asked) == rule([no, yes], asked) == rule([silent, no], asked)
    assert rule([silent], asked) is None
    ruling = rule([silent, yes], asked)
    assert ruling is not None
    assert ruling.detail == "done by check yes"


def test_a_verdict_is_not_calibrated() -> None:
    told = Told("button")
    model = Composite([Reader("a")], checks=[told])
    sure = Interval(value=1.0, low=1.0, high=1.0)
    flat = TaskCalibration(
        curve=DoneCurve(kind="isotonic", x=(0.0, 1.0), y=(0.5, 0.5)), gate=GateConfig(),
        precision=sure, recall=sure, false_done_per_1000=sure, ece_before=0.0, ece_after=0.0,
        episodes=1, reached=1,
    )  # fmt: skip
    model.calibrate(
        Calibration(
            model=model.model_id, prompt=model.prompt_id, overall=flat, tasks={},
            asked_precision=0.9,
        )
    )  # fmt: skip
    asked = query(frame(0.9, 0.9))
    assert model.score([asked]).done[0] == pytest.approx(0.5)
    told.tell(True)
    assert model.score([asked]).done[0] == 1.0


def test_a_check_may_be_the_only_one_that_says_done() -> None:
    told = Told("button")
    model = Composite([Reader("p", signals=("progress", "progress_delta"))], checks=[told])
    assert "done" in model.capabilities.signals
    asked = query(frame(0.9))
    assert model.score([asked]).done[0] == 0.0
    told.tell(True)
    assert model.score([asked]).done[0] == 1.0


def test_what_is_abstained_from_stays_unanswered() -> None:
    told = Told("button")
    told.tell(True)
    model = Composite([Reader("a")], checks=[told])
    model.limit(0.5)
    unsure, sure = model.answer([query(frame(0.5, doubt=0.9)), query(frame(0.5, doubt=0.1))])
    assert unsure.status is Status.ABSTAINED
    assert np.isnan(unsure.signals.done)
    assert (sure.signals.done, sure.detail) == (1.0, "done by check button")


def test_a_file_says_what_it_is_made_of(tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    path.write_text(
        "how: weights\n"
        "members:\n"
        "  - time-counter,horizon=10\n"
        "  - {model: constant, weight: {progress: 2, done: 0}}\n"
        "checks: ['tests.models.test_composite:late']\n"
    )
    model = load_model(str(path), device="cpu")
    assert model.model_id == (
        "composite@weights(time-counter@10 + constant@0.5*done:0,progress:2) & late"
    )
    rows = [query(frame(0.0), step=step) for step in (0, 10, 30)]
    said = model.score(rows)
    np.testing.assert_allclose(said.progress, [1 / 3, 2 / 3, 2 / 3], atol=1e-6)
    assert said.done.tolist() == [0.0, 1.0, 0.0]
    same = load_model(f"composite={path}", device="cpu")
    assert same.model_id == model.model_id
    as_json = tmp_path / "cascade.json"
    as_json.write_text(json.dumps({"how": "cascade", "limit": 0.1, "members": ["constant"]}))
    assert load_model(str(as_json)).model_id == "composite@cascade 0.1(constant@0.5)"


def late(asked: Query) -> bool | None:
    """A check for the file above: nothing is done after step 20."""
    return False if asked.step > 20 else None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("members: []", "at least one member"),
        ("how: best\nmembers: [constant]", "Invalid enum value 'best'"),
        ("members: [constant]\nlimt: 1", "unknown field `limt`"),
        ("- constant", "Expected `object`"),
        ("members: [", "is no YAML"),
        ("members: [{model: constant, weight: 2}]", "weights are for how: weights"),
        ("how: weights\nmembers: [{model: constant, weight: -1}]", "weights must be >= 0"),
        ("how: weights\nmembers: [{model: constant, weight: {joy: 1}}]", "no signal 'joy'"),
        ("how: cascade\nlimit: 2\nmembers: [constant]", "limit must be in"),
        ("members: [constnt]", "did you mean constant"),
        ("members: [other.yaml]", "cannot be a member"),
        ("members: [constant]\nchecks: [nowhere:at_all]", "no check 'nowhere:at_all'"),
        ("members: [constant]\nchecks: ['math:pi']", "neither a check nor a function"),
    ],
)
def test_a_file_without_sense_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_model(str(path))


def test_members_that_do_not_fit_are_refused() -> None:
    silent = Reader("silent", signals=("done",))
    with pytest.raises(ConfigError, match="silent gives no uncertainty to go on from"):
        Composite([silent, Reader("b")], blend=Blend(how="cascade"))
    with pytest.raises(ConfigError, match="2 weights for 1 members"):
        Composite([silent], blend=Blend(how="weights", weights=(1.0, 2.0)))
    with pytest.raises(ConfigError, match="without any weight"):
        Composite([silent], blend=Blend(how="weights"))
    with pytest.raises(ConfigError, match="read from a file"):
        load_model("composite")
    found = find_check("tests.models.test_composite:late")
    assert found.name == "late"


def test_real_models_together(command: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from PIL import Image as Picture

    (tmp_path / "film").mkdir()
    for t in range(3):
        picture = np.random.default_rng(t).integers(0, 256, (48, 48, 3), np.uint8)
        Picture.fromarray(picture).save(tmp_path / "film" / f"{t}.png")
    spec = tmp_path / "pair.yaml"
    spec.write_text("how: worst\nmembers: [compact, constant]\n")
    ran = command(
        "score", str(tmp_path / "film"), "--instruction", TASK.instruction, "--model", str(spec),
        "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    told = json.loads(ran.out.splitlines()[-1])
    assert told["model"].startswith("composite@worst(compact@")
    assert all(row["progress"] <= 0.5 for row in told["frames"])
    members = [Reader("a"), OraclePixels()]
    with local(Composite(members)) as source:
        assert source.submit([query(frame(0.5))]).result(timeout_s=60.0)[0].ok
    assert isinstance(members[0], Reader)
    assert members[0].closed
