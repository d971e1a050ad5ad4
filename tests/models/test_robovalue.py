"""A model behind RoboValue's contract as one of ours: a node's, and a service that is not ours."""

from __future__ import annotations

import contextlib
import http.server
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from robo_reward.client import local
from robo_reward.errors import ConfigError, ModelError, ModelNotFound, PeerUnreachable
from robo_reward.frames import Frame
from robo_reward.models import RewardModel, load_model
from robo_reward.models import robovalue as module
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.models.web import Patience
from robo_reward.nodes.robovalue import RoboValueConfig, RoboValueServer, Service
from robo_reward.query import Query
from robo_reward.task import Task

from .http_peer import listening

TASK = Task(instruction="put the red cube on the blue pad")
WHO = "model_id=theirs&model_version=3&preprocessing_version=p2"


def frame(progress: float, *, camera: str = "front") -> Frame:
    return Frame.of(paint(progress, 0.0), camera=camera)


def query(*progress: float) -> Query:
    """Newest frame, and the one before it where two are given."""
    newest, *reference = [(frame(one),) for one in progress[::-1]]
    return Query(task=TASK, newest=newest, reference=reference[0] if reference else ())


@contextlib.contextmanager
def ours(model: RewardModel, **service: Any) -> Iterator[RoboValueServer]:
    with (
        local(model) as source,
        RoboValueServer(RoboValueConfig(bind="127.0.0.1:0")) as server,
    ):
        yield server.start(Service(source, **service))


Answer = Callable[[Any], tuple[int, Any]]


@contextlib.contextmanager
def theirs(answer: Answer) -> Iterator[tuple[str, list[Any]]]:
    """A service of somebody else: POST only, whatever ``answer`` gives for a body."""
    bodies: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, made = answer(bodies[-1])
            data = json.dumps(made).encode()
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as port:
        yield f"endpoint:robovalue:http://127.0.0.1:{port}/v", bodies


def seconds_left(body: Any) -> tuple[int, Any]:
    """Answers in its own units, minus the seconds that are left, and in another order."""
    results = [
        {"request_id": one["request_id"], "op": "value", "score": -30.0 + 3 * place}
        for place, one in enumerate(body["items"])
    ]
    envelope = {key: body[key] for key in body if key != "items"}
    return 200, {**envelope, "results": results[::-1]}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", Patience(first_s=0.0))


def test_a_node_of_ours_says_who_it_is_and_scores_as_its_model() -> None:
    with ours(OraclePixels(), shot_mode="one_shot") as server:
        model = load_model(f"endpoint:robovalue:{server.url}")
        assert model.model_id == "oracle-pixels@1"
        assert model.prompt_id == "newest-1+none+none"
        assert model.capabilities.max_views == 8
        assert model.capabilities.signals == ("progress", "progress_delta")
        asked = [query(0.2), query(0.2, 0.6), query(0.6, 0.4), query(0.4, 0.4)]
        got, wanted = model.score(asked), OraclePixels().score(asked)
        np.testing.assert_allclose(got.progress, wanted.progress, atol=1e-6)
        np.testing.assert_allclose(got.progress_delta, wanted.progress_delta, atol=1e-6)
        assert np.isnan(got.done).all()
        assert model.value([frame(0.6)], TASK) == pytest.approx(0.6, abs=1e-6)
        posts = server.counts["OK"]
        model.score(asked)  # known by now
        assert server.counts["OK"] == posts


def test_views_keep_their_names() -> None:
    with theirs(seconds_left) as (address, bodies):
        model = load_model(f"{address}?{WHO}&low=-30&high=0&max_views=2")
        views = (frame(0.2, camera="front"), frame(0.4, camera="wrist"))
        model.score([Query(task=TASK, newest=views)])
        assert list(bodies[0]["items"][0]["contexts"][0]["frames"][0]) == ["front", "wrist"]
        with pytest.raises(ModelError, match="names of their own"):
            model.score([Query(task=TASK, newest=(views[0], frame(0.6)))])


def test_values_in_other_units_become_progress() -> None:
    with theirs(seconds_left) as (address, bodies):
        model = load_model(f"{address}?{WHO}&low=-30&high=0&batch=3")
        assert model.model_id == "theirs@3"
        progress = model.score([query(step / 5) for step in range(5)]).progress
        np.testing.assert_allclose(progress, [0.0, 0.1, 0.2, 0.0, 0.1], atol=1e-6)
        assert [len(body["items"]) for body in bodies] == [3, 2]
        assert bodies[0]["preprocessing_version"] == "p2"
        assert bodies[0]["shot_mode"] == "zero_shot"
        first = bodies[0]["items"][0]["request_id"]
        load_model(f"{address}?{WHO}&low=-30&high=0").score([query(0.0)])
        assert bodies[-1]["items"][0]["request_id"] == first  # the same question, the same name
        with pytest.raises(ModelError, match="outside 0"):
            load_model(f"{address}?{WHO}").score([query(0.0)])


def test_an_outage_is_waited_out_three_times() -> None:
    statuses = [503, 429, 200]

    def moody(body: Any) -> tuple[int, Any]:
        status = statuses.pop(0)
        return (status, {}) if status != 200 else seconds_left(body)

    with theirs(moody) as (address, bodies):
        model = load_model(f"{address}?{WHO}&low=-30&high=0")
        assert model.score([query(0.2)]).progress[0] == 0.0
        assert len({body["items"][0]["request_id"] for body in bodies}) == 1
        statuses += [500, 502, 504]
        with pytest.raises(PeerUnreachable, match="3 tries"):
            model.score([query(0.4)])


@pytest.mark.parametrize("status", [302, 400, 401, 409, 422, 501])
def test_a_refusal_is_not_asked_again_and_no_number(status: int) -> None:
    with theirs(lambda body: (status, {"error": "no"})) as (address, bodies):
        model = load_model(f"{address}?{WHO}")
        with pytest.raises(ModelError, match=str(status)):
            model.score([query(0.2)])
        assert len(bodies) == 1


@pytest.mark.parametrize("change", ["score", "identity", "coverage", "json"])
def test_an_answer_that_breaks_the_contract_is_no_number(change: str) -> None:
    def broken(body: Any) -> tuple[int, Any]:
        _, answer = seconds_left(body)
        if change == "score":
            answer["results"][0]["score"] = True
        elif change == "identity":
            answer["model_version"] = "4"
        elif change == "coverage":
            answer["results"] = []
        return 200, answer if change != "json" else "text"

    with theirs(broken) as (address, _):
        model = load_model(f"{address}?{WHO}&low=-30&high=0")
        with pytest.raises(ModelError, match="contract"):
            model.score([query(0.2)])


def test_a_service_that_does_not_say_who_it_is_must_be_named() -> None:
    with theirs(seconds_left) as (address, bodies):
        with pytest.raises(ConfigError, match="model_id"):
            load_model(address)
        assert bodies == []


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"endpoint:robovalue:https://gpu.invalid/inference?{WHO}&token_env=THEIR_TOKEN"
    monkeypatch.delenv("THEIR_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="THEIR_TOKEN"):
        load_model(address)
    monkeypatch.setenv("THEIR_TOKEN", "secret")
    model = load_model(address)
    assert isinstance(model, module.RoboValueModel)
    assert model._service.headers["Authorization"] == "Bearer secret"
    assert "secret" not in model.url + model.model_id


@pytest.mark.parametrize(
    "address",
    [
        "robovalue:",
        "robovalue:gpu/inference",
        f"robovalue:http://gpu/inference?{WHO}",
        f"robovalue:https://me:secret@gpu/inference?{WHO}",
        f"robovalue:https://gpu/inference?{WHO}#part",
        f"robovalue:https://gpu/inference?{WHO}&speed=9",
        f"robovalue:https://gpu/inference?{WHO}&batch=0",
        f"robovalue:https://gpu/inference?{WHO}&low=1&high=1",
        f"robovalue:https://gpu/inference?{WHO}&low=nan",
        f"robovalue:https://gpu/inference?{WHO}&{WHO}",
    ],
)
def test_a_wrong_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        load_model(f"endpoint:{address}")


def test_an_unknown_kind_is_refused_with_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match="did you mean robovalue"):
        load_model("endpoint:robovalu:https://gpu/inference")
