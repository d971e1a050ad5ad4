"""Answers that carry no score: to a question, and to a message that is none."""

from __future__ import annotations

import msgspec

from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.handshake import Refused
from robo_reward.protocol.score import ScoreReply

from .sessions import Question


def unscored(ask: Question, boot: str, reason: str, detail: str) -> ScoreReply:
    """Make the answer to a question that there is no score for."""
    return ScoreReply(
        session=ask.session,
        boot=boot,
        seq=ask.seq,
        attempt=ask.attempt,
        env=ask.env,
        episode=ask.episode,
        step=ask.step,
        reason=reason,
        detail=detail[:256],
    )


def changed(reply: ScoreReply, **changes: object) -> ScoreReply:
    """Return an answer with other values in some of its fields."""
    made: ScoreReply = msgspec.structs.replace(reply, **changes)
    return made


def refused(refusal: Refusal, *, boot: str) -> Refused:
    """Make the answer to a message that was not taken."""
    return Refused(reason=refusal.reason, detail=refusal.detail[:256], boot=boot)
