"""Answers POSTs of the RoboValue contract from a source of scores; knows nothing of HTTP.

``value`` is the progress of a context's last frame, ``compare`` the progress that the last frame of
the second context has over that of the first. Earlier frames of a ``value`` are shown to a model
that looks back; to others, and in a comparison, they are checked and not used. Every item becomes
one query of its own, so that batches form at the model over items, POSTs and all its other clients.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from robo_reward.client.source import ModelInfo, Source
from robo_reward.errors import require
from robo_reward.frames import Frame
from robo_reward.history import Views, looked_back
from robo_reward.protocol.envelope import Refusal
from robo_reward.protocol.png import decode_png, look_at_png
from robo_reward.protocol.robovalue import (
    PROTOCOL,
    Context,
    ContractError,
    Item,
    Operation,
    Request,
    Result,
    ShotMode,
    Subject,
    read_request,
    subject_of,
    write_response,
)
from robo_reward.query import Query
from robo_reward.signals import Score, Status
from robo_reward.task import Task

from .ledger import Claim, Ledger

NEEDS: dict[Operation, str] = {"value": "progress", "compare": "progress_delta"}
CODES: dict[Status, str] = {
    Status.OVERLOADED: "overloaded",
    Status.TIMEOUT: "timeout",
    Status.STALE: "timeout",
    Status.BAD_REQUEST: "invalid_request",
    Status.MODEL_ERROR: "model_error",
    Status.ABSTAINED: "abstained",
    Status.CANCELLED: "overloaded",
}
GRACE_S = 1.0
PIXEL_BYTES = 64 * 1024 * 1024
"""Decoded frames that one POST holds at a time, where that is more than one item."""


class Service:
    """Answers for one model. Any number of threads may call it.

    Args:
        source: Asked for scores; stays open when the service is done with.
        shot_mode: What was agreed on with those who evaluate.
        answer_s: How long one POST may take, seconds; the benchmark's client waits 120.
        remembered: Request ids whose answers are kept.
    """

    def __init__(
        self,
        source: Source,
        *,
        shot_mode: ShotMode = "zero_shot",
        answer_s: float = 100.0,
        remembered: int = 200_000,
    ) -> None:
        self._source = source
        self._answer_s = answer_s
        self._ledger = Ledger(capacity=remembered)
        require("PIL.Image", extra="serve")  # missed now, not at the first image
        info = source.info()
        self._model = info.model
        self.max_views = info.max_views
        self._history = info.history
        self.subject = describe_subject(info, shot_mode=shot_mode)
        self.operations = tuple(op for op, signal in NEEDS.items() if signal in info.signals)

    def answer(self, body: bytes | bytearray) -> bytes:
        """Answer a POST.

        Args:
            body: JSON as received.

        Returns:
            JSON with one score per item.

        Raises:
            ContractError: Some item gets no score; those that did keep it for the next try.
        """
        end = time.monotonic() + self._answer_s
        request = read_request(body)
        self._check(request)
        items = request.items
        sizes = [_decoded_bytes(item) for item in items]
        claims: list[Claim] = []
        try:
            # Those before one that is refused stay in the list and are settled below.
            claims.extend(self._ledger.claim(item.request_id, item.digest()) for item in items)
            whole = zip(items, claims, sizes, strict=True)
            for part in _parts([one for one in whole if one[1].mine]):
                self._run(part, end)
        except BaseException as error:
            for claim in claims:
                claim.settle(error)
            raise
        scores = [claim.result(timeout_s=end + GRACE_S - time.monotonic()) for claim in claims]
        results = [
            Result(request_id=item.request_id, op=item.op, score=score)
            for item, score in zip(items, scores, strict=True)
        ]
        return write_response(self.subject, results)

    def described(self) -> dict[str, object]:
        """Return what those who evaluate must write into their configuration."""
        return {
            "protocol": PROTOCOL,
            **msgspec.structs.asdict(self.subject),
            "operations": self.operations,
            "max_views": self.max_views,
        }

    def _check(self, request: Request) -> None:
        if subject_of(request) != self.subject:
            raise ContractError("identity_mismatch", f"this service is {self.described()}")
        for item in request.items:
            if item.op not in self.operations:
                known = ", ".join(self.operations) or "nothing"
                told = f"{item.op} is not answered, only {known}; its metrics are N/A"
                raise ContractError("unsupported_operation", told)
            views = len(item.contexts[0].frames[0])
            if views > self.max_views:
                told = f"{views} views; the model takes at most {self.max_views}"
                raise ContractError("invalid_request", told)

    def _run(self, part: Sequence[tuple[Item, Claim]], end: float) -> None:
        queries = [_query(item, history=self._history) for item, _ in part]
        left = max(0.001, end - time.monotonic())
        pending = self._source.submit(queries, deadline_s=left)
        for (item, claim), score in zip(part, pending.result(timeout_s=left), strict=True):
            claim.settle(self._number(item, score))

    def _number(self, item: Item, score: Score) -> float | ContractError:
        if not score.ok:
            told = f"{score.reason}: {score.detail}, in request {item.request_id}"
            return ContractError(CODES[score.status], told)
        if score.identity.model != self._model:  # a node that was started anew with other weights
            told = f"{score.identity.model} answers now; start this service again"
            return ContractError("identity_mismatch", told)
        value: float = getattr(score.signals, NEEDS[item.op])
        return value


def describe_subject(info: ModelInfo, *, shot_mode: ShotMode) -> Subject:
    """Name a model as the contract does.

    What is asked and what is read of the answer are frozen in ``preprocessing_version``: how a
    context is sampled, the prompt, and the calibration, whose limit decides what is answered.
    """
    name, _, version = info.model.rpartition("@")
    return Subject(
        model_id=name,
        model_version=version,
        preprocessing_version=f"{_sampling(info)}+{info.prompt or 'none'}+{info.calibration}",
        shot_mode=shot_mode,
    )


def _sampling(info: ModelInfo) -> str:
    """Name how a context becomes a query; part of the version of the preprocessing."""
    return f"spaced-{info.history}+newest-1" if info.history else "newest-1"


def _decoded_bytes(item: Item) -> int:
    """Look at every image of an item; return the bytes that its query will hold."""
    size = 0
    try:
        for context in item.contexts:
            for frame in context.frames:
                shapes = [look_at_png(png) for png in frame.values()]
            size += sum(3 * height * width for height, width in shapes)
    except Refusal as refusal:
        raise _bad_image(refusal, item) from refusal
    return size


def _parts(whole: Sequence[tuple[Item, Claim, int]]) -> Iterator[list[tuple[Item, Claim]]]:
    """Split a POST so that a few megabytes of PNG cannot become gigabytes of pixels."""
    part: list[tuple[Item, Claim]] = []
    held = 0
    for item, claim, size in whole:
        if part and held + size > PIXEL_BYTES:
            yield part
            part, held = [], 0
        part.append((item, claim))
        held += size
    if part:
        yield part


def _query(item: Item, *, history: int) -> Query:
    names = tuple(item.contexts[0].frames[0])
    try:
        views = [_view(context.frames[-1], names) for context in item.contexts]
        # The past of a comparison's second context is no past of its first one.
        past = _past(item.contexts[0], names, history) if len(views) == 1 else ()
    except Refusal as refusal:
        raise _bad_image(refusal, item) from refusal
    return Query(
        task=Task(instruction=item.instruction),
        newest=views[-1],
        reference=views[0] if len(views) > 1 else (),
        history=past,
    )


def _past(context: Context, names: Sequence[str], limit: int) -> tuple[Views, ...]:
    shown = context.frames[:-1] if limit else ()
    return looked_back([_view(frame, names) for frame in shown], limit=limit)


def _view(frame: Mapping[str, bytes], names: Sequence[str]) -> Views:
    return tuple(Frame.of(decode_png(frame[name]), camera=name) for name in names)


def _bad_image(refusal: Refusal, item: Item) -> ContractError:
    code = "too_large" if refusal.reason == "TOO_LARGE" else "invalid_image"
    return ContractError(code, f"{refusal.detail}, in request {item.request_id}")
