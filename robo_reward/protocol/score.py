"""What is asked of a reward node and what it answers."""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

import msgspec

from robo_reward.signals import REASONS, SIGNALS, Identity, Score, Signals
from robo_reward.task import MAX_INSTRUCTION_BYTES

from .envelope import MAX_PARTS, Codec, Count, Hash, Header, Name, Nanoseconds, Session, Short
from .handshake import Beat, BeatReply, Cancel, Hello, Refused, Welcome
from .payload import FrameRef, Refs

MAX_DEMO_FRAMES = 64
MAX_BUDGET_S = 3600.0

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_INSTRUCTION_BYTES)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_BUDGET_S)]
Attempt = Annotated[int, msgspec.Meta(ge=0, le=255)]
Ids = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_PARTS)]
Past = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=128)]


class FramePut(Header, frozen=True, kw_only=True, tag="frames"):
    """Frames for the node to keep, where they do not fit beside the request that needs them.

    Attributes:
        session: Of the client.
        frames: Each with a part.
    """

    session: Session
    frames: Refs


class TaskPut(Header, frozen=True, kw_only=True, tag="task"):
    """A task, once per session; requests name it by ``key``. Its frames come with or before it.

    Attributes:
        session: Of the client.
        key: ``Task.key``; the node computes it again.
        instruction: The sentence.
        stage: Active sub-task, or ``None``.
        goal: Reference to the goal image, or ``None``.
        demo: Content hashes of the demonstration, in order.
    """

    session: Session
    key: Hash
    instruction: Text
    stage: Text | None = None
    goal: FrameRef | None = None
    demo: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_DEMO_FRAMES)] = ()


class Question(Header, frozen=True, kw_only=True):
    """What a score request and a mark have in common.

    Attributes:
        session: Of the client.
        boot: The node that the client believes to talk to; any other one does not execute this.
        seq: Names the request within the session; a retry keeps it.
        attempt: Counts the retries.
        env: Index of the environment within the client.
        episode: Number of the episode.
        step: Number of the transition.
        task: Key of a task that was put before.
        budget_s: Time left for the answer, seconds; relative, so that no clocks are compared.
    """

    session: Session
    boot: Session
    seq: Count
    attempt: Attempt = 0
    env: Count
    episode: Count
    step: Count
    task: Hash
    budget_s: Seconds


class ScoreRequest(Question, frozen=True, kw_only=True, tag="score"):
    """A query whose frames ride along or are already there.

    Attributes:
        newest: Newest frame of each camera.
        reference: What delta and contrastive refer to; empty for none.
        history: Content hashes of the frames of earlier instants, one per camera each; they were
            put before.
    """

    newest: Annotated[tuple[FrameRef, ...], msgspec.Meta(min_length=1, max_length=MAX_PARTS)]
    reference: Refs = ()
    history: Past = ()


class MarkRequest(Question, frozen=True, kw_only=True, tag="mark"):
    """A query by time: the node has the cameras' frames and joins them.

    Attributes:
        cameras: Names of the cameras, in order.
        t_from_ns: End of the previous scored step, wall clock of the node; 0 for the first.
        t_to_ns: End of this step, wall clock of the node.
        max_age_s: How much later than ``t_to_ns`` a frame may have been captured.
    """

    cameras: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=MAX_PARTS)]
    t_from_ns: Nanoseconds
    t_to_ns: Nanoseconds
    max_age_s: Seconds = 0.2


class ScoreReply(Header, frozen=True, kw_only=True, tag="reply"):
    """The one answer to a question: signals, or why there are none.

    Attributes:
        session: Of the client.
        boot: This run of the node.
        seq: Of the question.
        attempt: Of the question that is answered.
        env: Of the question.
        episode: Of the question.
        step: Of the question.
        reason: Key of ``signals.REASONS``.
        detail: A sentence for people.
        progress: See ``signals.Signals``; left out where there is none, like the four below.
        progress_delta: Relative to ``delta_from``.
        done: See ``signals.Signals``.
        contrastive: Relative to ``delta_from``.
        uncertainty: See ``signals.Signals``.
        delta_from: Content hashes of the frames that delta and contrastive refer to.
        frames: Content hashes of the newest frames that were used.
        history: Content hashes of the earlier frames that were looked at.
        model: Model name and weight hash.
        prompt: Hash of the prompt.
        calibration: Id of the calibration.
        need: For ``NEED_FRAMES``: content hashes of the frames to send again with the question.
        age_s: Age of the oldest of the newest frames when the model began; negative where unknown.
        queue_s: From arrival to the model, seconds, decoding included.
        decode_s: Until its frames were checked and decoded, seconds.
        inference_s: In the model, the whole batch, seconds.
        batch: Rows of that batch.
        retry_after_s: When asking again is worth it; 0 where it is not known.
    """

    session: Session
    boot: Session
    seq: Count
    attempt: Attempt = 0
    env: Count
    episode: Count
    step: Count
    reason: Short = "OK"
    detail: Short = ""
    progress: float | None = None
    progress_delta: float | None = None
    done: float | None = None
    contrastive: float | None = None
    uncertainty: float | None = None
    delta_from: Ids = ()
    frames: Ids = ()
    history: Past = ()
    model: Short = ""
    prompt: Short = ""
    calibration: Short = "none"
    need: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=128)] = ()
    age_s: float = -1.0
    queue_s: float = -1.0
    decode_s: float = -1.0
    inference_s: float = -1.0
    batch: Count = 0
    retry_after_s: float = 0.0


class Measured(NamedTuple):
    """Times of one question at the node, under their names in ``ScoreReply``; NaN where unknown."""

    age_s: float
    queue_s: float
    inference_s: float
    decode_s: float = math.nan
    batch: int = 0


TO_NODE: Codec[Header] = Codec(Hello, FramePut, TaskPut, ScoreRequest, MarkRequest)
"""What a node reads on its score socket."""
FROM_NODE: Codec[Header] = Codec(Welcome, Refused, ScoreReply)
"""What a client reads on its score socket."""
CONTROL_TO_NODE: Codec[Header] = Codec(Beat, Cancel)
"""What a node reads on its control socket."""
CONTROL_FROM_NODE: Codec[Header] = Codec(BeatReply, Refused)
"""What a client reads on its control socket."""


def answer(
    question: Question, score: Score, *, boot: str, measured: Measured | None = None
) -> ScoreReply:
    """Make the reply that carries a score.

    Args:
        question: What was asked; gives the identity.
        score: The outcome.
        boot: Names this run of the node.
        measured: What the node knows better than the score's identity, or beyond it.
    """
    identity = score.identity
    known = measured or Measured(
        age_s=identity.age_s, queue_s=identity.queue_s, inference_s=identity.inference_s
    )
    signals: dict[str, Any] = {name: _maybe(getattr(score.signals, name)) for name in SIGNALS}
    return ScoreReply(
        session=question.session,
        boot=boot,
        seq=question.seq,
        attempt=question.attempt,
        env=question.env,
        episode=question.episode,
        step=question.step,
        reason=score.reason,
        detail=score.detail[:256],
        delta_from=identity.reference or identity.frames,
        frames=identity.frames,
        history=identity.history,
        model=identity.model,
        prompt=identity.prompt,
        calibration=identity.calibration,
        age_s=_known(known.age_s),
        queue_s=_known(known.queue_s),
        decode_s=_known(known.decode_s),
        inference_s=_known(known.inference_s),
        batch=known.batch,
        **signals,
    )


def read_score(reply: ScoreReply, *, reference: tuple[str, ...], total_s: float) -> Score:
    """Make the score that a reply carries.

    Args:
        reply: From the node.
        reference: Ids of the reference frames of the question.
        total_s: From the question to the answer, as the asker saw it.

    Raises:
        ValueError: The reply breaks the rules of ``signals.Score``.
    """
    identity = Identity(
        client=reply.session,
        env=reply.env,
        episode=reply.episode,
        step=reply.step,
        frames=reply.frames,
        reference=reference,
        history=reply.history,
        model=reply.model,
        prompt=reply.prompt,
        calibration=reply.calibration,
        age_s=_nan(reply.age_s),
        queue_s=_nan(reply.queue_s),
        inference_s=_nan(reply.inference_s),
        total_s=total_s,
    )
    if reply.reason not in REASONS:
        raise ValueError(f"the node gave the unknown reason {reply.reason!r}")
    values = {name: getattr(reply, name) for name in SIGNALS}
    signals = Signals(**{name: math.nan if v is None else v for name, v in values.items()})
    return Score(
        signals=signals,
        status=REASONS[reply.reason],
        reason=reply.reason,
        detail=reply.detail,
        identity=identity,
    )


def _maybe(value: float) -> float | None:
    return None if math.isnan(value) else value


def _known(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _nan(value: float) -> float:
    return math.nan if value < 0 else value
