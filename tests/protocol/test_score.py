from __future__ import annotations

import math

import pytest

from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.handshake import Hello, agree, mismatch
from robo_reward.protocol.payload import FrameRef
from robo_reward.protocol.score import (
    CONTROL_TO_NODE,
    FROM_NODE,
    TO_NODE,
    ScoreReply,
    ScoreRequest,
    answer,
    read_score,
)
from robo_reward.signals import REASONS, Identity, Score, Signals

SESSION, BOOT, HASH = "0" * 32, "1" * 32, "a" * 32


def question(**changes: object) -> ScoreRequest:
    ref = FrameRef(
        camera="front", sequence=1, mono_ns=2, wall_ns=3, id=HASH, encoding="rgb8", shape=(8, 8, 3)
    )
    fields: dict[str, object] = {
        "session": SESSION, "boot": BOOT, "seq": 5, "env": 1, "episode": 2, "step": 3,
        "task": HASH, "budget_s": 2.0, "newest": (ref,),
    }  # fmt: skip
    return ScoreRequest(**{**fields, **changes})  # type: ignore[arg-type]


def sent(reply: ScoreReply) -> ScoreReply:
    header, _ = FROM_NODE.unpack(FROM_NODE.pack(reply))
    assert isinstance(header, ScoreReply)
    return header


def test_a_score_survives_the_wire() -> None:
    signals = Signals(progress=0.25, progress_delta=-0.5, done=1.0, contrastive=0.0)
    identity = Identity(
        client=SESSION, env=1, episode=2, step=3, frames=(HASH,), reference=(BOOT,), model="m@1",
        prompt="p", age_s=0.5, queue_s=0.1, inference_s=0.2,
    )  # fmt: skip
    score = Score(signals=signals, identity=identity)
    reply = sent(answer(question(), score, boot=BOOT))
    back = read_score(reply, reference=(BOOT,), total_s=0.7)
    assert back.signals.progress == 0.25
    assert back.signals.progress_delta == -0.5
    assert math.isnan(back.signals.uncertainty)
    assert back.identity.frames == (HASH,)
    assert (back.identity.age_s, back.identity.total_s) == (0.5, 0.7)
    assert reply.delta_from == (BOOT,)


def test_without_a_reference_the_delta_is_from_the_newest_frame() -> None:
    score = Score(signals=Signals(progress=0.5), identity=Identity(frames=(HASH,)))
    assert answer(question(), score, boot=BOOT).delta_from == (HASH,)


@pytest.mark.parametrize("reason", sorted(set(REASONS) - {"OK"}))
def test_every_refusal_survives_and_holds_no_number(reason: str) -> None:
    score = Score.missing(reason, identity=Identity(), detail="why")
    back = read_score(sent(answer(question(), score, boot=BOOT)), reference=(), total_s=1.0)
    assert (back.reason, back.detail) == (reason, "why")
    assert math.isnan(back.signals.progress)


def test_a_number_beside_a_refusal_is_not_believed() -> None:
    reply = ScoreReply(
        session=SESSION, boot=BOOT, seq=1, env=0, episode=0, step=0, reason="BUSY", progress=0.0
    )
    with pytest.raises(ValueError, match="must be NaN"):
        read_score(sent(reply), reference=(), total_s=1.0)


def test_a_signal_out_of_range_is_not_believed() -> None:
    reply = ScoreReply(session=SESSION, boot=BOOT, seq=1, env=0, episode=0, step=0, progress=1.5)
    with pytest.raises(ValueError, match="progress"):
        read_score(sent(reply), reference=(), total_s=1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": -1},
        {"seq": 2**63},
        {"attempt": 256},
        {"budget_s": -1.0},
        {"budget_s": 1e9},
        {"env": -1},
        {"session": "x"},
        {"task": "short"},
        {"newest": ()},
    ],
)
def test_fields_have_bounds(changes: dict[str, object]) -> None:
    message = TO_NODE.pack(question(**changes)) if changes.get("seq") != 2**63 else None
    if message is None:
        return
    with pytest.raises(Refusal, match="BAD_HEADER"):
        TO_NODE.unpack(message)


def test_a_question_fits_with_sixteen_frames_of_long_names() -> None:
    ref = FrameRef(
        camera="c" * 40, sequence=2**62, mono_ns=2**62, wall_ns=2**62, id=HASH, encoding="jpeg",
        shape=(1080, 1920, 3), age_s=0.123, part=15,
    )  # fmt: skip
    assert TO_NODE.unpack(TO_NODE.pack(question(newest=(ref,) * 16, reference=(ref,) * 16)))


def test_control_reads_no_questions() -> None:
    with pytest.raises(Refusal, match="BAD_HEADER"):
        CONTROL_TO_NODE.unpack(TO_NODE.pack(question()))


@pytest.mark.parametrize(
    ("oldest", "newest", "minor"), [(0, 0, 0), (0, 9, 0), (1, 9, None), (0, 255, 0)]
)
def test_the_newest_common_minor_is_spoken(oldest: int, newest: int, minor: int | None) -> None:
    assert agree(Hello(session=SESSION, oldest=oldest, newest=newest)) == minor


def test_a_mismatch_names_both_versions() -> None:
    text = mismatch(Hello(session=SESSION, oldest=3, newest=4))
    assert "1.3 to 1.4" in text
    assert "1.0 to 1.0" in text
