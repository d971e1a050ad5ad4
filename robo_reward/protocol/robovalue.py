"""The query contract of the RoboValue benchmark, ``robovalue-inference-v2``: JSON over HTTP.

One POST holds an envelope (protocol, model, versions, shot mode) and items, each with a request id,
an operation, an instruction and one or two contexts: frames in order, a PNG per camera. The answer
echoes the envelope and holds one score per request id, in any order. A score is a finite number or
it is not there: who cannot give one refuses with an HTTP status, and no item of that POST has one.
Facts: docs/api.md of github.com/RoboValue-Benchmark/RoboValue. This module knows shapes and rules;
``nodes/robovalue`` is the service.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from robo_reward.errors import InstructionError, TransportError
from robo_reward.task import check_instruction

PROTOCOL: Final = "robovalue-inference-v2"
PATH = "/inference"
"""Where the service answers; the contract leaves the path to it."""
MAX_ITEMS = 1024
MAX_FRAMES = 4096
MAX_VIEWS = 16
MAX_RESPONSE_BYTES = 8 * 1024 * 1024
"""What the benchmark's client reads at most."""

Operation = Literal["value", "compare", "subtask"]
ShotMode = Literal["zero_shot", "one_shot"]

STATUS: dict[str, int] = {
    "invalid_json": 400,
    "invalid_request": 400,
    "invalid_image": 400,
    "unauthorized": 401,
    "not_found": 404,
    "not_allowed": 405,
    "identity_mismatch": 409,
    "request_id_reused": 409,
    "length_required": 411,
    "too_large": 413,
    "unsupported_media_type": 415,
    "abstained": 422,
    "model_error": 500,
    "unsupported_operation": 501,
    "overloaded": 503,
    "timeout": 504,
}
"""Codes of a refusal and their HTTP status. The benchmark's client asks again after 429, 500, 502,
503 and 504, and after no other, so that what will not pass by itself is told once."""


class ContractError(TransportError):
    """A POST that gets no scores; ``code`` is a key of ``STATUS``.

    Example:
        >>> ContractError("abstained", "the model is too unsure of item 3").status
        422
    """

    def __init__(self, code: str, detail: str) -> None:
        self.status = STATUS[code]
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_RequestId = Annotated[
    str,
    msgspec.Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", max_length=36),
]
_Views = Annotated[
    dict[Annotated[str, msgspec.Meta(min_length=1, max_length=128)], bytes],
    msgspec.Meta(min_length=1, max_length=MAX_VIEWS),
]


class Context(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is observed: frames in order, each a PNG per view; base64 in JSON, bytes here."""

    frames: Annotated[tuple[_Views, ...], msgspec.Meta(min_length=1, max_length=MAX_FRAMES)]


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question.

    Attributes:
        request_id: UUID; the same id with the same inputs gets the same answer.
        op: ``value`` has one context, ``compare`` two (from, to), ``subtask`` one.
        instruction: What the robot should do.
        contexts: What is observed.
    """

    request_id: _RequestId
    op: Operation
    instruction: str
    contexts: Annotated[tuple[Context, ...], msgspec.Meta(min_length=1, max_length=2)]

    def digest(self) -> bytes:
        """Hash of everything but the id: what must be equal when an id comes twice."""
        found = hashlib.sha256(msgspec.json.encode([self.op, self.instruction]))
        for context in self.contexts:
            found.update(b"context")
            for views in context.frames:
                found.update(b"frame")
                for name in sorted(views):
                    found.update(msgspec.json.encode([name, len(views[name])]))
                    found.update(views[name])
        return found.digest()


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asked, as both ends must name it.

    Attributes:
        model_id: Name of the model.
        model_version: Its weights.
        preprocessing_version: What happens between a frame and the model.
        shot_mode: Whether the service was prepared with a demonstration of the task.
    """

    model_id: _Text
    model_version: _Text
    preprocessing_version: _Text
    shot_mode: ShotMode


class Request(Subject, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Envelope of a POST."""

    protocol: Literal["robovalue-inference-v2"]
    items: Annotated[tuple[Item, ...], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)]


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answer to one item that asks for a number."""

    request_id: _RequestId
    op: Operation
    score: float


class Response(Subject, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Envelope of an answer."""

    protocol: Literal["robovalue-inference-v2"]
    results: tuple[Result, ...]


T = TypeVar("T")


def subject_of(whole: Subject) -> Subject:
    """Return the part of an envelope that says who is asked."""
    return Subject(**{name: getattr(whole, name) for name in Subject.__struct_fields__})


def read_request(body: bytes | bytearray) -> Request:
    """Read a POST and hold every rule that needs no model.

    Args:
        body: JSON.

    Raises:
        ContractError: ``invalid_json`` or ``invalid_request``, with the place.
    """
    request = _decode(body, Request)
    seen: set[str] = set()
    for index, item in enumerate(request.items):
        where = f"$.items[{index}]"
        wanted = 2 if item.op == "compare" else 1
        if len(item.contexts) != wanted:
            told = f"{item.op} needs {wanted} contexts, got {len(item.contexts)} - at `{where}`"
            raise ContractError("invalid_request", told)
        if item.request_id in seen:
            raise ContractError("invalid_request", f"the id stands here twice - at `{where}`")
        seen.add(item.request_id)
        views = set(item.contexts[0].frames[0])
        if any(set(frame) != views for context in item.contexts for frame in context.frames):
            raise ContractError("invalid_request", f"frames with different views - at `{where}`")
        try:
            check_instruction(item.instruction)
        except InstructionError as error:
            raise ContractError("invalid_request", f"{error} - at `{where}`") from error
    return request


def write_request(subject: Subject, items: Sequence[Item]) -> bytes:
    """Make the body of a POST."""
    fields = msgspec.structs.asdict(subject)
    return msgspec.json.encode(Request(protocol=PROTOCOL, items=tuple(items), **fields))


def write_response(subject: Subject, results: Sequence[Result]) -> bytes:
    """Make the body of an answer.

    Raises:
        ContractError: ``model_error``: a score is not finite, which JSON cannot say.
    """
    if not all(math.isfinite(result.score) for result in results):
        raise ContractError("model_error", "the model gave a score that is not finite")
    fields = msgspec.structs.asdict(subject)
    return msgspec.json.encode(Response(protocol=PROTOCOL, results=tuple(results), **fields))


def read_response(body: bytes, request_subject: Subject, items: Sequence[Item]) -> list[float]:
    """Read an answer; the scores come back in the order of the items.

    Args:
        body: JSON as received.
        request_subject: Who was asked.
        items: What was asked.

    Raises:
        ContractError: Another model answered, or the results are not those of the items.
    """
    if len(body) > MAX_RESPONSE_BYTES:
        raise ContractError("too_large", f"an answer of more than {MAX_RESPONSE_BYTES} bytes")
    response = _decode(body, Response)
    if subject_of(response) != subject_of(request_subject):
        raise ContractError("identity_mismatch", "the answer is from another model or version")
    scores = {(result.request_id, result.op): result.score for result in response.results}
    asked = [(item.request_id, item.op) for item in items]
    if len(scores) != len(response.results) or set(scores) != set(asked):
        raise ContractError("invalid_request", "the results are not those of the items")
    return [scores[key] for key in asked]


def write_error(error: ContractError) -> bytes:
    """Make the body that goes with the HTTP status of a refusal."""
    what = {"code": error.code, "message": error.detail[:500]}
    return msgspec.json.encode({"protocol": PROTOCOL, "error": what})


def _decode(body: bytes | bytearray, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ContractError("invalid_request", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContractError("invalid_json", str(error)) from error
