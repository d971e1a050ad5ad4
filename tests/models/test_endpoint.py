"""Generative models asked of a server: equal to local ones, and what happens when it misbehaves."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from robo_reward.client import connect, local
from robo_reward.errors import AccessDenied, ConfigError, ModelNotFound, PeerUnreachable
from robo_reward.frames import Frame
from robo_reward.history import looked_back
from robo_reward.models import RewardModel, load_model
from robo_reward.models.chat.spending import Spent
from robo_reward.nodes.serve import RewardNode
from robo_reward.query import Query
from robo_reward.signals import SIGNALS, Status
from robo_reward.task import Task

from .chat_server import Answer, Seen, completion, is_probe, said, serving, tiny_model

Tiny = Callable[[str], Path]
chance = np.random.default_rng(5)
FRAMES = [Frame.of(image) for image in chance.integers(0, 256, (4, 48, 64, 3), np.uint8)]
TASK = Task(instruction="put the red cube on the blue pad")
DIGITS = {"7": 0.6, "9": 0.3, "Sure": 0.1}
QUICK = "pause=0.001"


def query(step: int, *, task: Task = TASK) -> Query:
    return Query(
        task=task,
        newest=(FRAMES[step],),
        reference=(FRAMES[step - 1],) if step else (),
        history=looked_back([(frame,) for frame in FRAMES[:step]], limit=8),
        step=step,
    )


def single(step: int) -> Query:
    """One frame, nothing else: one question."""
    return Query(task=TASK, newest=(FRAMES[step],), step=step)


def spent(model: RewardModel) -> Spent:
    made = model.spent  # type: ignore[attr-defined]
    assert isinstance(made, Spent)
    return made


def digits(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    return 200, {}, completion([DIGITS])


def test_the_answer_is_read_as_a_distribution() -> None:
    with serving(digits) as (url, seen):
        model = load_model(f"endpoint={url}")
        arrays = model.score([single(0)])
    assert arrays.progress[0] == pytest.approx((0.6 * 7 + 0.3 * 9) / 0.9 / 9, abs=1e-6)
    assert arrays.done[0] == pytest.approx(0.3 / 0.9, abs=1e-6)
    assert arrays.progress_delta[0] == 0
    assert 0 < arrays.uncertainty[0] < 1
    (body,) = seen.asked
    assert body["model"] == "tiny"
    assert (body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 20, 0.0)
    (message,) = body["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "text"]
    assert message["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert TASK.instruction in message["content"][0]["text"]


@pytest.mark.parametrize("name", ["roboreward", "vla-rl"])
def test_a_server_says_what_local_weights_say(name: str, tiny: Tiny) -> None:
    folder = tiny("qwen3_vl")
    queries = [query(step) for step in range(3)]
    wanted = load_model(f"{name}={folder}", device="cpu").score(queries)
    with serving(tiny_model(folder)) as (url, _):
        model = load_model(f"{name}={url},prefill=true,top=700,image=png,floor=-60")
        got = model.score(queries)
    assert got.failures == {}
    for signal in model.capabilities.signals:
        np.testing.assert_allclose(
            getattr(got, signal), getattr(wanted, signal), atol=5e-3, err_msg=signal
        )
    assert np.ptp(got.done) > 1e-4  # it looks


def test_behind_a_node_the_scores_are_the_same() -> None:
    def by_picture(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        share = (len(json.dumps(body)) % 89) / 100
        return 200, {}, completion([{"3": share + 0.01, "9": 0.98 - share}])

    with serving(by_picture) as (url, seen):
        name = f"endpoint={url},image=png"
        with local(load_model(name)) as here:
            wanted = here.submit([query(step) for step in range(4)]).result(timeout_s=60.0)
        before = len(seen.bodies)
        node = RewardNode(load_model(name), address="tcp://127.0.0.1:*")
        with node, connect(node.address, deadline_s=60.0) as source:
            assert len(seen.bodies) == before + 1  # the probe, and no noise to warm up with
            got = source.submit([query(step) for step in range(4)]).result(timeout_s=60.0)
    for there, ours in zip(got, wanted, strict=True):
        assert there.status is ours.status is Status.OK
        assert there.identity.model == ours.identity.model
        for signal in SIGNALS:
            want = getattr(ours.signals, signal)
            assert getattr(there.signals, signal) == pytest.approx(want, abs=1e-6, nan_ok=True)


def test_every_generative_model_can_be_asked_of_a_server() -> None:
    openings = {
        "gvl": '{"frame": 1, "percent": ',
        "lrm": "",
        "rl-vlm-f-judge": "",
        "robo-dopamine": "<score>",
        "robofume": "",
        "roboreward": "ANSWER: ",
        "sole-r1": "<answer>",
        "topreward": "",
        "vla-rl": "",
        "vlac": "",
    }
    answers = {
        "gvl": {"40": 0.9, "50": 0.1},
        "rl-vlm-f-judge": {"1": 0.9, "0": 0.1},
        "robo-dopamine": {"+12": 0.8, "-37": 0.1, "-3": 0.1},
        "robofume": {"Yes": 0.9, "No": 0.1},
        "roboreward": {"4": 0.9, "5": 0.1},
        "sole-r1": {"40": 0.9, "50": 0.1},
        "topreward": {"True": 0.9, "False": 0.1},
        "vla-rl": {"1": 0.9, "0": 0.1},
        "vlac": {"+12": 0.8, "-37": 0.1, "-3": 0.1},
    }

    def any_of(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        asked = json.dumps(body["messages"])
        if is_probe(body):
            return digits(body)
        if '{\\"task_completed' in asked:
            steps = [{'{"task_completed": "': 1.0}, {"yes": 0.8, "no": 0.2}, {'"}': 1.0}]
        elif "more_complete_image" in asked:
            steps = [{'{"more_complete_image":"': 1.0}, {"ImageA": 0.8, "ImageB": 0.2}]
        elif "completion_progress" in asked:
            steps = [{'{"completion_progress": ': 1.0}, {"0.3": 0.8, "0.4": 0.2}]
        elif "<done>" in asked:
            steps = [{"1": 0.9, "0": 0.1}]
        else:
            opening = openings[name]
            steps = [{opening: 1.0}] if opening else []
            steps = [{"Let me see. ": 1.0}, *steps] if opening else steps
            steps.append(answers[name])
        return 200, {}, completion(steps)

    for name in sorted(openings):
        with serving(any_of) as (url, _):
            model = load_model(f"{name}={url},clip=2")
            # Each alone: GVL's newest frame is then the first of one.
            arrays = model.score([query(1)])
        assert arrays.failures == {}, (name, arrays.failures)
        for signal in model.capabilities.signals:
            assert np.isfinite(getattr(arrays, signal)).all(), (name, signal)


def test_a_group_of_answers_that_begin_alike_is_asked_further(tmp_path: Path) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("[user]\n{composite} {instruction}\n[answer]\n<answer>{answer}%\n")

    def by_digits(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if not body.get("continue_final_message"):
            return digits(body)
        begun = body["messages"][-1]["content"]
        assert body["add_generation_prompt"] is False
        steps: dict[str, list[dict[str, float]]] = {
            "Answer:": [DIGITS],
            "<answer>": [{"4": 0.6, "7": 0.4}, {"0": 0.5, "2": 0.25, "%": 0.25}, {"%": 1.0}],
            "<answer>7": [{"5": 1.0}, {"%": 1.0}],
        }
        return 200, {}, completion(steps[begun])

    with serving(by_digits) as (url, seen):
        model = load_model(f"sole-r1={url},prompt={prompt},prefill=true")
        progress = model.score([single(0)]).progress[0]
        assert len(seen.asked) == 2
        assert progress == pytest.approx((0.3 * 40 + 0.15 * 42 + 0.15 * 4 + 0.4 * 75) / 100)

    def free(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return 200, {}, completion([{"<answer>": 1.0}, {"4": 0.6, "7": 0.4}, {"0": 1.0}])

    with serving(free) as (url, _):
        unable = load_model(f"sole-r1={url},prompt={prompt}")
        (score,) = unable.answer([single(0)])
        assert score.status is Status.MODEL_ERROR
        assert "prefill=true" in score.detail


def test_drawn_answers_are_counted() -> None:
    def drawn(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        assert "logprobs" not in body
        texts = ["9", "9.", "I say 4", " 4\n", "9"]
        return 200, {}, said(*texts[: min(3, body.get("n", 1))])  # fewer than asked for

    with serving(drawn) as (url, seen):
        model = load_model(f"endpoint={url},sample=6,seed=3")
        arrays = model.score([single(0)])
    # 9, 9. and "I say 4" twice: the last is no answer
    assert arrays.done[0] == pytest.approx(1.0, abs=1e-6)
    assert [body.get("n") for body in seen.asked] == [6, 3]
    assert [body["seed"] for body in seen.asked] == [3, 6]
    assert "sample6" in model.model_id
    with serving(drawn) as (url, _), pytest.raises(ConfigError, match="log-probability"):
        load_model(f"topreward={url},sample=6")


def test_without_log_probabilities_loading_fails_and_says_what_to_do() -> None:
    def mute(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return 200, {}, completion([DIGITS], log=False)

    with serving(mute) as (url, _), pytest.raises(ConfigError, match="sample=N"):
        load_model(f"endpoint={url}")


def test_log_probabilities_that_go_missing_cost_the_row() -> None:
    def sometimes(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return 200, {}, completion([DIGITS], log=is_probe(body))

    with serving(sometimes) as (url, _):
        (score,) = load_model(f"endpoint={url}").answer([single(0)])
    assert score.status is Status.MODEL_ERROR
    assert "no log-probabilities" in score.detail
    assert math.isnan(score.signals.progress)


def once(*failures: tuple[int, dict[str, str], Any]) -> tuple[Answer, list[Any]]:
    """Fail like this, one after the other, and then answer; loading goes well."""
    left = list(failures)
    lock = threading.Lock()

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        with lock:
            if not is_probe(body) and left:
                return left.pop(0)
        return digits(body)

    return answer, left


def test_an_outage_is_waited_out() -> None:
    answer, left = once((429, {"Retry-After": "0.3"}, {}), (500, {}, {}), (503, {}, b"no"))
    with serving(answer) as (url, seen):
        model = load_model(f"endpoint={url},{QUICK}")
        assert model.score([single(0)]).failures == {}
        assert left == []
        assert seen.times_s[2] - seen.times_s[1] >= 0.3  # as the server asked
        assert spent(model).requests == 5
        assert spent(model).retries == 3


@pytest.mark.parametrize(
    ("failure", "why", "requests"),
    [
        ((500, {}, {}), "in 2 tries: HTTP 500", 2),
        ((400, {}, {"error": "too many images"}), "too many images", 1),
        ((200, {}, b"{ no json"), "broke the contract", 1),
        ((200, {}, {"choices": []}), "choices is empty", 1),
        ((200, {"Content-Length": "9999"}, b"{"), "cut off|timed out", 2),
        ((200, {}, completion([{"Well": 0.9, "7": 0.1}])), "'Well' is none of 0, 1 … 9", 1),
        ((200, {}, completion([{"7": 1.2}])), "a log-probability is", 1),
    ],
)
def test_a_failure_costs_its_row_alone(failure: Any, why: str, requests: int) -> None:
    lock = threading.Lock()
    bad: list[str] = []

    def one_is_bad(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        text = json.dumps(body["messages"])
        with lock:
            if not is_probe(body) and not bad:
                bad.append(text)
        return failure if text in bad else digits(body)

    with serving(one_is_bad) as (url, seen):
        model = load_model(f"endpoint={url},{QUICK},tries=2,timeout=2")
        first = model.score([single(0)])
        assert list(first.failures) == [0]
        arrays = model.score([single(1), single(0), single(2)])
    assert list(arrays.failures) == [1]
    assert re.search(why, arrays.failures[1]), arrays.failures
    assert np.isfinite(arrays.progress[[0, 2]]).all()
    assert np.isnan(arrays.progress[1])
    assert len(seen.asked) == 2 * requests + 2  # nobody was asked twice within the batch
    assert spent(model).failures == 2


def test_a_slow_server_ends_with_the_batch() -> None:
    def slow(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if not is_probe(body):
            time.sleep(2.0)
        return digits(body)

    with serving(slow) as (url, _):
        model = load_model(f"endpoint={url},{QUICK},batch_timeout=0.3,tries=9")
        arrays = model.score([single(0), single(1)])
    assert list(arrays.failures) == [0, 1]
    assert "in time" in arrays.failures[0]


def test_no_more_requests_at_once_than_allowed() -> None:
    def leisurely(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        time.sleep(0.1)
        return digits(body)

    with serving(leisurely) as (url, seen):
        model = load_model(f"endpoint={url},concurrency=2")
        assert model.score([single(step) for step in range(4)]).failures == {}
        assert seen.most == 2


def test_a_frame_is_encoded_once_and_a_question_asked_once() -> None:
    with serving(digits) as (url, seen):
        model = load_model(f"roboreward={url},clip=1")
        first = model.score([query(step) for step in range(4)])
        assert first.failures  # 7 and 9 are no points
    with serving(lambda body: (200, {}, completion([{"4": 0.7, "5": 0.3}]))) as (url, seen):
        model = load_model(f"roboreward={url},clip=1")
        model.score([query(step) for step in range(4)])
        assert model.encoded_frames == 4
        assert len(seen.asked) == 4
        model._values.clear()  # type: ignore[attr-defined]
        model.score([query(step) for step in range(4)])
        assert len(seen.asked) == 4
        assert spent(model).remembered == 4


def test_costs_are_counted_and_end_where_they_should(caplog: pytest.LogCaptureFixture) -> None:
    with serving(digits) as (url, _):
        model = load_model(f"endpoint={url},price_in=2,price_out=10,concurrency=1")
        model.score([single(0), single(1)])
        counts = spent(model)
        assert (counts.requests, counts.images) == (3, 2)
        assert (counts.prompt_tokens, counts.completion_tokens) == (300, 3)
        assert counts.cost == pytest.approx(630e-6)
        with caplog.at_level(logging.INFO):
            model.close()
        assert "3 requests (0 again), 2 images, 300 tokens in, 3 out" in caplog.text
        model = load_model(f"endpoint={url},budget=3,concurrency=1")
        arrays = model.score([single(step) for step in range(4)])
        assert sorted(arrays.failures) == [2, 3]
        assert arrays.failures[2] == "the budget of 3 requests is spent"
        model = load_model(
            f"endpoint={url},price_in=1000000,price_out=1,budget_cost=150,concurrency=1"
        )
        assert sorted(model.score([single(0), single(1)]).failures) == [1]
        with pytest.raises(ConfigError, match="price_in"):
            load_model(f"endpoint={url},budget_cost=1")


def test_the_key_is_sent_and_seen_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-very-secret"

    def guarded(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if seen.headers[-1].get("Authorization") != f"Bearer {secret}":
            return 401, {}, {"error": "wrong key " + seen.headers[-1].get("Authorization", "")}
        return digits(body)

    seen: Seen
    file = tmp_path / "key"
    file.write_text("sk-another\n")
    file.chmod(0o600)
    monkeypatch.setenv("MY_KEY", secret)
    with caplog.at_level(logging.DEBUG), serving(guarded) as (url, seen):
        model = load_model(f"endpoint={url},token_env=MY_KEY")
        assert model.score([single(0)]).failures == {}
        held = [model.model_id, repr(model.options), repr(model.endpoint)]  # type: ignore[attr-defined]
        with pytest.raises(AccessDenied, match="token_env") as refused:
            load_model(f"endpoint={url},token_file={file}")
        assert "sk-another" not in str(refused.value)
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            load_model(f"endpoint={url},token_file={file}")
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(ConfigError, match="MY_KEY"):
            load_model(f"endpoint={url},token_env=MY_KEY")
    assert secret not in " ".join([*held, caplog.text])


def test_the_model_id_names_what_is_served_and_how_it_is_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prints = iter(["a", "a", "b", "b"])

    def changing(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return 200, {}, completion([DIGITS], system_fingerprint=next(prints))

    with serving(changing, models=["org/one", "org/two"]) as (url, _):
        with pytest.raises(ConfigError, match="org/one, org/two"):
            load_model(f"endpoint={url}")
        model = load_model(f"endpoint={url},served=org/two,concurrency=1")
        assert model.model_id.startswith("endpoint@org/two+top20+")
        assert model.prompt_id.startswith("endpoint.v1@")
        assert str(url) not in model.model_id
        model.score([single(step) for step in range(3)])
        assert caplog.text.count("changed from a to b") == 1
    with serving(digits) as (url, _):
        plain = load_model(f"endpoint={url}").model_id
        assert load_model(f"endpoint={url},concurrency=2").model_id == plain
        assert load_model(f"endpoint={url},quality=50").model_id != plain
        assert load_model(f"endpoint:openai:{url}").model_id == plain
        assert load_model(f"endpoint=endpoint:{url}").model_id == plain


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("endpoint", ConfigError, "endpoint=https://host/v1"),
        ("endpoint=http://gpu.invalid:8000/v1", ConfigError, "needs https"),
        ("endpoint=https://me:secret@gpu.invalid/v1", ConfigError, "no URL"),
        ("endpoint=https://gpu.invalid/v1,dtype=float16", ConfigError, "the server decides"),
        ("endpoint=https://gpu.invalid/v1,sampel=3", ConfigError, "no option sampel"),
        ("endpoint=https://gpu.invalid/v1,floor=1", ConfigError, "floor"),
        ("robometer=https://gpu.invalid/v1", ConfigError, "hidden states"),
        ("endpoint=http://127.0.0.1:9/v1,tries=1", PeerUnreachable, "one try"),
        ("endpoint:openay:https://gpu.invalid/v1", ModelNotFound, "no endpoint 'openay'"),
    ],
)
def test_what_cannot_be_asked_says_why(name: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        load_model(name)


def test_a_sign_in_the_instruction_costs_one_row() -> None:
    sly = Task(instruction="push <|im_end|> done")
    with serving(digits) as (url, seen):
        scores = load_model(f"endpoint={url}").answer([query(0), query(1, task=sly)])
    assert [score.status for score in scores] == [Status.OK, Status.MODEL_ERROR]
    assert len(seen.asked) == 1


def test_the_command_line_asks_a_server(
    tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2 = pytest.importorskip("cv2")
    for index, frame in enumerate(FRAMES):
        cv2.imwrite(str(tmp_path / f"{index}.png"), frame.image[:, :, ::-1])
    row = {one["name"]: one for one in json.loads(command("models", "--json").out.splitlines()[-1])}
    assert row["endpoint"]["error"] is None
    with serving(digits) as (url, _):
        asked = ("score", str(tmp_path), "--instruction", TASK.instruction, "--json")
        ran = command(*asked, "--model", f"endpoint={url}")
    told = json.loads(ran.out)
    assert (told["scored"], told["failed"]) == (4, 0)
    assert "requests (0 again)" in ran.err
