"""The shapes of the RoboValue contract, against JSON that is written out."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from robo_reward.protocol.robovalue import (
    STATUS,
    Context,
    ContractError,
    Item,
    Result,
    Subject,
    read_request,
    read_response,
    subject_of,
    write_error,
    write_request,
    write_response,
)

SUBJECT = Subject(
    model_id="compact", model_version="4f0c", preprocessing_version="1", shot_mode="zero_shot"
)
IDS = [f"9d38c39a-85f3-4a4a-943a-249ce3f91cd{digit}" for digit in "0123"]
ENVELOPE = {
    "protocol": "robovalue-inference-v2",
    "model_id": "compact",
    "model_version": "4f0c",
    "preprocessing_version": "1",
    "shot_mode": "zero_shot",
}
VALUE: dict[str, Any] = {
    "request_id": IDS[0],
    "op": "value",
    "instruction": "Move the cup",
    "contexts": [{"frames": [{"front": "AAEC"}, {"front": "/+8="}]}],
}
COMPARE: dict[str, Any] = {
    "request_id": IDS[1],
    "op": "compare",
    "instruction": "Move the cup",
    "contexts": [{"frames": [{"front": "AA=="}]}, {"frames": [{"front": "AQ=="}]}],
}
ITEMS = [
    Item(
        request_id=IDS[0],
        op="value",
        instruction="Move the cup",
        contexts=(Context(frames=({"front": b"\x00\x01\x02"}, {"front": b"\xff\xef"})),),
    ),
    Item(
        request_id=IDS[1],
        op="compare",
        instruction="Move the cup",
        contexts=(Context(frames=({"front": b"\x00"},)), Context(frames=({"front": b"\x01"},))),
    ),
]
RESULTS = [
    {"request_id": IDS[1], "op": "compare", "score": -0.25},
    {"request_id": IDS[0], "op": "value", "score": 0.5},
]


def body(**changes: Any) -> bytes:
    return json.dumps({**ENVELOPE, "items": [VALUE, COMPARE], **changes}).encode()


def changed(**changes: Any) -> bytes:
    return body(items=[{**VALUE, **changes}])


def test_a_request_is_read_and_written_as_the_contract_says() -> None:
    request = read_request(body())
    assert subject_of(request) == SUBJECT
    assert list(request.items) == ITEMS
    assert json.loads(write_request(SUBJECT, ITEMS)) == json.loads(body())


def test_an_answer_is_written_and_read_in_any_order() -> None:
    results = [Result(request_id=IDS[1], op="compare", score=-0.25)]
    results += [Result(request_id=IDS[0], op="value", score=0.5)]
    written = write_response(SUBJECT, results)
    assert json.loads(written) == {**ENVELOPE, "results": RESULTS}
    assert read_response(written, SUBJECT, ITEMS) == [0.5, -0.25]


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_written(score: float) -> None:
    with pytest.raises(ContractError) as caught:
        write_response(SUBJECT, [Result(request_id=IDS[0], op="value", score=score)])
    assert caught.value.code == "model_error"


@pytest.mark.parametrize(
    ("sent", "code", "place"),
    [
        (b"", "invalid_json", ""),
        (b"\xff\xfe", "invalid_json", ""),
        (body()[:-1] + b', "a": ' + b"[" * 100_000, "invalid_request", "unknown"),
        (b'{"items": ' + b"[" * 100_000, "invalid_request", "items"),
        (body() + b"x", "invalid_json", "trailing"),
        (body(model_version=math.nan), "invalid_json", ""),
        (b"[]", "invalid_request", "`object`"),
        (body(protocol="robovalue-inference-v1"), "invalid_request", "$.protocol"),
        (body(shot_mode="two_shot"), "invalid_request", "$.shot_mode"),
        (body(model_version=""), "invalid_request", "$.model_version"),
        (body(model_version=1), "invalid_request", "$.model_version"),
        (body(reference={}), "invalid_request", "reference"),
        (body(items=[]), "invalid_request", "$.items"),
        (body(items=[VALUE, VALUE]), "invalid_request", "twice"),
        (json.dumps({**ENVELOPE}).encode(), "invalid_request", "items"),
        (changed(request_id="7"), "invalid_request", "request_id"),
        (changed(request_id=True), "invalid_request", "request_id"),
        (changed(op="reward"), "invalid_request", "op"),
        (changed(op="compare"), "invalid_request", "needs 2"),
        (changed(contexts=VALUE["contexts"] * 2), "invalid_request", "needs 1"),
        (changed(contexts=[]), "invalid_request", "contexts"),
        (changed(contexts=[{"frames": []}]), "invalid_request", "frames"),
        (changed(contexts=[{"frames": [{}]}]), "invalid_request", "frames"),
        (changed(contexts=[{"frames": [{"front": "A?=="}]}]), "invalid_request", "base64"),
        (changed(contexts=[{"frames": [{"front": None}]}]), "invalid_request", "null"),
        (
            changed(contexts=[{"frames": [{"front": "AA=="}, {"wrist": "AA=="}]}]),
            "invalid_request",
            "views",
        ),
        (changed(contexts=[{"frames": [{"front": "AA=="}], "turn": 3}]), "invalid_request", "turn"),
        (changed(instruction=""), "invalid_request", "empty"),
        (changed(instruction=" \n"), "invalid_request", "empty"),
        (changed(instruction="a\x00b"), "invalid_request", "control"),
        (changed(instruction="a" * 3000), "invalid_request", "3000"),
        (changed(session="open"), "invalid_request", "session"),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused(sent: bytes, code: str, place: str) -> None:
    with pytest.raises(ContractError) as caught:
        read_request(sent)
    assert caught.value.code == code
    assert place in caught.value.detail


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_version": "other"}, "identity_mismatch"),
        ({"preprocessing_version": "2"}, "identity_mismatch"),
        ({"shot_mode": "one_shot"}, "identity_mismatch"),
        ({"protocol": "other"}, "invalid_request"),
        ({"more": 1}, "invalid_request"),
        ({"results": RESULTS[:1]}, "invalid_request"),
        ({"results": RESULTS * 2}, "invalid_request"),
        ({"results": [*RESULTS, {**RESULTS[0], "request_id": IDS[3]}]}, "invalid_request"),
        ({"results": [RESULTS[0], {**RESULTS[1], "op": "compare"}]}, "invalid_request"),
        ({"results": [RESULTS[0], {**RESULTS[1], "score": True}]}, "invalid_request"),
        ({"results": [RESULTS[0], {**RESULTS[1], "score": "0.5"}]}, "invalid_request"),
        ({"results": [RESULTS[0], {**RESULTS[1], "score": None}]}, "invalid_request"),
        ({"results": [RESULTS[0], {**RESULTS[1], "score": math.nan}]}, "invalid_json"),
        ({"results": [RESULTS[0], {**RESULTS[1], "score": math.inf}]}, "invalid_json"),
        ({"results": [RESULTS[0], {**RESULTS[1], "query_id": "7"}]}, "invalid_request"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_refused(changes: dict[str, Any], code: str) -> None:
    answer = json.dumps({**ENVELOPE, "results": RESULTS, **changes}).encode()
    with pytest.raises(ContractError) as caught:
        read_response(answer, SUBJECT, ITEMS)
    assert caught.value.code == code


def test_a_digest_names_everything_but_the_id() -> None:
    def digest(**changes: Any) -> bytes:
        return read_request(changed(**changes)).items[0].digest()

    one = {"a": "AA==", "b": "AQ=="}
    other = {"b": "AQ==", "a": "AA=="}
    frames = [{"frames": [one]}], [{"frames": [other]}]
    assert digest() == digest(request_id=IDS[2])
    assert digest(contexts=frames[0]) == digest(contexts=frames[1])
    different = {
        digest(),
        digest(instruction="Move the cups"),
        digest(op="subtask"),
        digest(contexts=frames[0]),
        digest(contexts=[{"frames": [{"a": "AQ==", "b": "AA=="}]}]),
        digest(contexts=[{"frames": VALUE["contexts"][0]["frames"][::-1]}]),
        digest(contexts=[{"frames": VALUE["contexts"][0]["frames"] * 2}]),
    }
    assert len(different) == 7


def test_what_the_benchmark_retries_is_what_may_pass() -> None:
    again = {code for code, status in STATUS.items() if status in (429, 500, 502, 503, 504)}
    assert again == {"model_error", "overloaded", "timeout"}
    error = ContractError("abstained", "no idea")
    assert json.loads(write_error(error)) == {
        "protocol": "robovalue-inference-v2",
        "error": {"code": "abstained", "message": "no idea"},
    }
