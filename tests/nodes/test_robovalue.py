"""RoboValue's contract over real HTTP, spoken by a harness that knows none of our code."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.client import connect, local
from robo_reward.client.source import Source
from robo_reward.errors import ConfigError, DeviceError
from robo_reward.models.base import Capabilities, Feature, RewardModel, ScoreArrays
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.nodes.robovalue import RoboValueConfig, RoboValueServer, Service
from robo_reward.nodes.robovalue.ledger import Ledger
from robo_reward.nodes.serve import RewardNode, ServeParameters, own_address
from robo_reward.protocol.robovalue import ContractError
from robo_reward.query import Query
from robo_reward.signals import REASONS

from .outside_harness import Harness, Refused, item, png, text
from .serving_tools import FREE, GatedModel, TouchyModel, until

WAIT_S = 20.0
CUP = "Move the cup"


@contextlib.contextmanager
def served(
    model: RewardModel, *, service: dict[str, Any] | None = None, **config: Any
) -> Iterator[tuple[RoboValueServer, Source]]:
    """The model in this process, behind HTTP."""
    with (
        local(model) as source,
        RoboValueServer(RoboValueConfig(bind="127.0.0.1:0", **config)) as server,
    ):
        yield server.start(Service(source, **(service or {}))), source


@functools.cache
def picture(progress: float, salt: int = 0, *, size: int = 8) -> str:
    return text(png(size, size, paint(progress, 0.0, salt=salt, size=size).tobytes()))


def front(*progress: float, salt: int = 0) -> list[dict[str, str]]:
    return [{"front": picture(one, salt)} for one in progress]


def refusal(call: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def test_value_and_compare() -> None:
    with served(OraclePixels()) as (server, _):
        harness = Harness(server.url)
        asked = [
            item("value", CUP, front(0.2)),
            item("value", CUP, front(0.8, 0.2, 0.6)),  # of the last frame
            item("compare", CUP, front(0.2), front(0.9, 0.6)),
            item("compare", CUP, front(0.6), front(0.2)),
            item("compare", CUP, front(0.6), front(0.6)),
        ]
        assert harness.ask(asked) == pytest.approx([0.2, 0.6, 0.4, -0.4, 0.0], abs=1e-6)
        assert harness.ask(asked[::-1]) == harness.ask(asked)[::-1]
        assert server.counts["OK"] == 6  # an envelope before each


def test_the_answer_names_who_gave_it() -> None:
    with served(OraclePixels(), service={"shot_mode": "one_shot"}) as (server, _):
        assert Harness(server.url).describe() == {
            "protocol": "robovalue-inference-v2",
            "model_id": "oracle-pixels",
            "model_version": "1",
            "preprocessing_version": "newest-1+none+none",
            "shot_mode": "one_shot",
            "operations": ["value", "compare"],
            "max_views": 8,
        }


def test_views_reach_the_model_together_in_their_order() -> None:
    seen: list[Query] = []

    class Looking(OraclePixels):
        def _score(self, queries, newest, reference, history):  # type: ignore[no-untyped-def]
            seen.extend(queries)
            return super()._score(queries, newest, reference, history)

    now = [{"wrist": picture(0.2), "front": picture(0.6)}]
    later = [{"front": picture(0.9), "wrist": picture(0.5)}]  # JSON does not order names
    with served(Looking()) as (server, _):
        (change,) = Harness(server.url).ask([item("compare", CUP, now, later)])
    assert change == pytest.approx(0.3, abs=1e-2)
    (query,) = seen
    assert [one.header.camera for one in query.newest] == ["wrist", "front"]
    assert [one.header.camera for one in query.reference] == ["wrist", "front"]
    np.testing.assert_array_equal(query.newest[1].image, paint(0.9, 0.0))


def test_the_same_request_gets_the_same_answer_and_is_run_once() -> None:
    model = GatedModel()
    model.gate.set()
    with served(model) as (server, _):
        harness = Harness(server.url)
        one = item("value", CUP, front(0.2))
        first = harness.ask([one, item("value", CUP, front(0.4))])
        again = harness.ask([item("value", CUP, front(0.6)), one])
        assert again[1] == first[0]
        assert sum(model.batches) == 3
        other = item("value", "Move the pot", front(0.2), name=one["request_id"])
        assert refusal(lambda: harness.ask([other])).code == "request_id_reused"
        assert harness.ask([one]) == first[:1]


def test_a_retry_joins_the_request_that_runs() -> None:
    model = GatedModel()
    with served(model) as (server, _):
        harness = Harness(server.url)
        asked = [item("value", CUP, front(0.2))]
        found: list[list[float]] = []
        threads = [
            threading.Thread(target=lambda: found.append(harness.ask(asked))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        assert model.entered.wait(WAIT_S)
        until(lambda: server.counts["OK"] == 4)  # all have their envelope, and ask
        model.gate.set()
        for thread in threads:
            thread.join(WAIT_S)
    assert found == [[pytest.approx(0.2, abs=1e-6)]] * 4
    assert sum(model.batches) == 1


def test_eight_threads_get_their_own_answers_in_batches() -> None:
    model = GatedModel()
    found: dict[int, list[float]] = {}
    with RewardNode(model, address=FREE, warm_up=False) as node:
        config = RoboValueConfig(bind="127.0.0.1:0")
        with connect(node.address) as source, RoboValueServer(config) as server:
            server.start(Service(source))
            harness = Harness(server.url)

            def ask(who: int) -> None:
                values = [(who * 29 + step * 7) % 256 / 255 for step in range(6)]
                asked = [item("value", CUP, front(value, salt=who)) for value in values]
                got = harness.ask(asked)
                assert got == pytest.approx(values, abs=1e-6)
                found[who] = got

            threads = [threading.Thread(target=ask, args=(who,)) for who in range(8)]
            for thread in threads:
                thread.start()
            assert model.entered.wait(WAIT_S)
            until(lambda: node.stats()["open_jobs"] == 48)
            model.gate.set()
            for thread in threads:
                thread.join(WAIT_S)
    assert sorted(found) == list(range(8))
    # The first batch was taken while the others were coming; after it they went together.
    assert sum(model.batches) == 48
    assert max(model.batches) >= 16


def test_an_operation_that_is_not_covered_is_refused_and_never_a_number() -> None:
    with served(DeltaOnly()) as (server, _):
        harness = Harness(server.url)
        assert harness.describe()["operations"] == ["compare"]
        assert harness.ask([item("compare", CUP, front(0.2), front(0.6))]) == [0.25]
        for op in ("value", "subtask"):
            refused = refusal(lambda op=op: harness.ask([item(op, CUP, front(0.2))]))  # type: ignore[misc]
            assert (refused.status, refused.code) == (501, "unsupported_operation")
            assert "N/A" in refused.body["error"]["message"]


class DeltaOnly(RewardModel):
    """Gives a change and nothing else."""

    def __init__(self) -> None:
        super().__init__(
            name="delta", version="1", capabilities=Capabilities(signals=("progress_delta",))
        )

    def _encode(self, images: Sequence[Any], task: Any) -> Sequence[Feature]:
        return [0] * len(images)

    def _score(self, queries: Any, newest: Any, reference: Any, history: Any) -> ScoreArrays:
        none = np.full(len(queries), np.nan, np.float32)
        change = np.full(len(queries), 0.25, np.float32)
        return ScoreArrays(
            progress=none, progress_delta=change, done=none, contrastive=none, uncertainty=none
        )


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model_id": "compact"}, 409, "identity_mismatch"),
        ({"model_version": "2"}, 409, "identity_mismatch"),
        ({"preprocessing_version": "newest-0+none+none"}, 409, "identity_mismatch"),
        ({"shot_mode": "one_shot"}, 409, "identity_mismatch"),
        ({"protocol": "robovalue-inference-v1"}, 400, "invalid_request"),
        ({"session": "open"}, 400, "invalid_request"),
        ({"items": []}, 400, "invalid_request"),
        ({"items": [item("value", CUP, [{"a": text(b"no PNG")}])]}, 400, "invalid_image"),
        ({"items": [item("value", CUP, [{"a": "data:image/png"}])]}, 400, "invalid_request"),
        (
            {"items": [item("value", CUP, [{"a": text(png(8, 8, bytes(192))[:-3])}])]},
            400,
            "invalid_image",
        ),
        (
            {"items": [item("value", CUP, [{"a": text(b"no")}, {"a": picture(0.1)}])]},
            400,
            "invalid_image",
        ),
        ({"items": [item("value", CUP, [{"a": text(png(8192, 0, b""))}])]}, 413, "too_large"),
        (
            {"items": [item("value", CUP, [dict.fromkeys("abcdefghi", picture(0.1))])]},
            400,
            "invalid_request",
        ),
    ],
)
def test_each_broken_rule_has_its_refusal(changes: dict[str, Any], status: int, code: str) -> None:
    with served(OraclePixels()) as (server, _):
        harness = Harness(server.url)
        asked = changes.pop("items", [item("value", CUP, front(0.2))])
        refused = refusal(lambda: harness.ask(asked, **changes))
        assert (refused.status, refused.code) == (status, code)
        assert refused.body["protocol"] == "robovalue-inference-v2"
        assert server.counts[code] == 1
        changes["items"] = asked


def test_what_is_no_request_of_the_contract_is_refused() -> None:
    with served(OraclePixels(), max_body_bytes=100_000) as (server, _):
        harness = Harness(server.url)
        other = Harness(server.url.replace("/inference", "/"))
        calls: dict[str, Callable[[], Any]] = {
            "invalid_json": lambda: harness.send(b"{"),
            "too_large": lambda: harness.send(b" " * 100_001),
            "unsupported_media_type": lambda: harness.send(b"{}", **{"Content-Type": "text/plain"}),
            "not_found": lambda: other.send(b"{}"),
        }
        for code, call in calls.items():
            assert refusal(call).code == code
        host, port = server.url.split("/")[2].split(":")
        for sent, status in (
            (b"PUT /inference HTTP/1.1\r\n\r\n", b"501"),
            (b"POST /inference HTTP/1.1\r\nContent-Type: application/json\r\n\r\n", b"411"),
            (
                b"POST /inference HTTP/1.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"411",
            ),
            (
                b"POST /inference HTTP/1.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: -2\r\n\r\n",
                b"411",
            ),
            (b"nonsense\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        ):
            with socket.create_connection((host, int(port)), timeout=WAIT_S) as peer:
                peer.sendall(sent)
                peer.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda peer=peer: peer.recv(65536), b""))  # type: ignore[misc]
            head, _, body = answer.partition(b"\r\n\r\n")
            if sent.startswith(b"nonsense"):
                body = answer  # HTTP/0.9 has no head
                status = b""
            assert status in head.splitlines()[0]
            assert json.loads(body[body.index(b"{") :])["error"]["code"]


def test_a_row_that_fails_refuses_the_post_and_the_others_keep_their_answers() -> None:
    class Moody(GatedModel):
        def _encode(self, images: Sequence[Any], task: Any) -> Sequence[Feature]:
            if any(image[0, 0, 0] == 51 for image in images) and not self.fine:
                raise RuntimeError("secret path /somewhere")
            return super()._encode(images, task)

        fine = False

    model = Moody()
    model.gate.set()
    with served(model) as (server, _):
        harness = Harness(server.url)
        asked = [item("value", CUP, front(value)) for value in (0.4, 0.2, 0.6)]
        refused = refusal(lambda: harness.ask(asked))
        assert (refused.status, refused.code) == (500, "model_error")
        assert asked[1]["request_id"] in refused.body["error"]["message"]
        assert "secret" not in json.dumps(refused.body)
        rows = sum(model.batches)
        model.fine = True
        assert harness.ask(asked) == pytest.approx([0.4, 0.2, 0.6], abs=1e-6)
        assert sum(model.batches) == rows + 1


def test_a_value_that_is_not_finite_is_an_error() -> None:
    class Broken(TouchyModel):
        def _score(self, queries, newest, reference, history):  # type: ignore[no-untyped-def]
            arrays = super()._score(queries, newest, reference, history)
            arrays.progress[:] = np.nan
            return arrays

    with served(Broken()) as (server, _):
        refused = refusal(lambda: Harness(server.url).ask([item("value", CUP, front(0.2))]))
        assert refused.code == "model_error"


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("BUSY", 503, "overloaded"),
        ("NOT_READY", 503, "overloaded"),
        ("DRAINING", 503, "overloaded"),
        ("CANCELLED", 503, "overloaded"),
        ("DEADLINE", 504, "timeout"),
        ("STALLED", 504, "timeout"),
        ("PEER_LOST", 504, "timeout"),
        ("STALE", 504, "timeout"),
        ("TOO_LARGE", 400, "invalid_request"),
        ("MODEL_ERROR", 500, "model_error"),
        ("ABSTAINED", 422, "abstained"),
    ],
)
def test_why_there_is_no_score_is_told(reason: str, status: int, code: str) -> None:
    from dataclasses import replace

    from robo_reward.signals import MISSING, Score

    class Declining(OraclePixels):
        def answer(self, queries, **more):  # type: ignore[no-untyped-def]
            scores: list[Score] = super().answer(queries, **more)
            return [
                replace(s, signals=MISSING, status=REASONS[reason], reason=reason) for s in scores
            ]

    with served(Declining()) as (server, _):
        refused = refusal(lambda: Harness(server.url).ask([item("value", CUP, front(0.2))]))
        assert (refused.status, refused.code) == (status, code)
        assert "score" not in json.dumps(refused.body)


def test_a_model_that_hangs_is_a_timeout() -> None:
    model = GatedModel()
    with served(model, service={"answer_s": 0.2}) as (server, _):
        try:
            refused = refusal(lambda: Harness(server.url).ask([item("value", CUP, front(0.2))]))
            assert (refused.status, refused.code) == (504, "timeout")
        finally:
            model.gate.set()


def test_another_model_behind_the_same_address_is_noticed() -> None:
    class Changing(OraclePixels):
        pass

    model = Changing()
    with served(model) as (server, _):
        harness = Harness(server.url)
        model.model_id = "oracle-pixels@2"
        asked = [item("value", CUP, front(0.2))]
        assert refusal(lambda: harness.ask(asked)).code == "identity_mismatch"


def test_many_pixels_in_few_bytes_are_decoded_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from robo_reward.nodes.robovalue import service as module

    monkeypatch.setattr(module, "PIXEL_BYTES", 3 * 3 * 64 * 64)
    sizes: list[int] = []

    class Counting(OraclePixels):
        def answer(self, queries, **more):  # type: ignore[no-untyped-def]
            sizes.append(len(queries))
            return super().answer(queries, **more)

    with served(Counting()) as (server, _):
        values = [step / 10 for step in range(10)]
        asked = [item("value", CUP, [{"front": picture(value, size=64)}]) for value in values]
        assert Harness(server.url).ask(asked) == pytest.approx(values, abs=1e-2)
    assert sizes == [3, 3, 3, 1]


def test_who_has_no_token_is_told_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("correct-horse-battery\n")
    file.chmod(0o600)
    with served(OraclePixels(), token=str(file)) as (server, _):
        for token in ("", "correct-horse-batterx", "correct-horse-battery2"):
            harness = Harness(server.url, token=token)
            assert refusal(harness.describe).status == 401
            assert refusal(lambda h=harness: h.send(b"{}")).code == "unauthorized"  # type: ignore[misc]
        harness = Harness(server.url, token="correct-horse-battery")
        assert harness.ask([item("value", CUP, front(0.2))]) == pytest.approx([0.2], abs=1e-6)


def test_connections_beyond_the_limit_are_turned_away_and_those_that_hold_still_are_cut() -> None:
    with served(OraclePixels(), connections=2, header_s=0.5) as (server, _):
        host, port = server.url.split("/")[2].split(":")
        silent = [socket.create_connection((host, int(port)), timeout=WAIT_S) for _ in range(2)]
        until(lambda: server._server.open_connections == 2)
        with pytest.raises((Refused, OSError)):
            Harness(server.url).describe()
        assert server.counts["overloaded"] >= 1
        for peer in silent:
            with peer:
                peer.sendall(b"GET /inf")  # and no more
                assert peer.recv(1) == b""
        until(lambda: server._server.open_connections == 0)
        assert Harness(server.url).describe()["model_id"] == "oracle-pixels"


def test_a_body_that_drips_is_cut_off() -> None:
    with served(OraclePixels(), slowest_bytes_s=1e9) as (server, _):
        from robo_reward.nodes.robovalue import server as module

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "SOCKET_S", 0.3)
            host, port = server.url.split("/")[2].split(":")
            with socket.create_connection((host, int(port)), timeout=WAIT_S) as peer:
                peer.sendall(
                    b"POST /inference HTTP/1.1\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 1000\r\n\r\n"
                )
                start = time.monotonic()
                with contextlib.suppress(OSError):
                    while time.monotonic() - start < WAIT_S:
                        peer.sendall(b" ")
                        time.sleep(0.02)
                assert time.monotonic() - start < WAIT_S
        until(lambda: server._server.open_connections == 0)
        assert server._server._open_bytes == 0


def test_bodies_share_one_budget() -> None:
    with served(OraclePixels(), max_body_bytes=1000, max_open_bytes=1500) as (server, _):
        head = (
            b"POST /inference HTTP/1.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n"
        )
        host, port = server.url.split("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as peer:
            peer.sendall(head)
            until(lambda: server._server._open_bytes == 1000)
            assert refusal(lambda: Harness(server.url).send(b" " * 900)).status == 503
        until(lambda: server._server._open_bytes == 0)
        assert refusal(lambda: Harness(server.url).send(b" " * 900)).status == 400


def test_close_waits_for_what_is_being_answered() -> None:
    model = GatedModel()
    found: list[Any] = []
    with local(model) as source:
        server = RoboValueServer(RoboValueConfig(bind="127.0.0.1:0")).start(Service(source))
        harness = Harness(server.url)
        asked = [item("value", CUP, front(0.2))]
        thread = threading.Thread(target=lambda: found.append(harness.ask(asked)))
        thread.start()
        assert model.entered.wait(WAIT_S)
        closing = threading.Thread(target=lambda: server.close(timeout_s=WAIT_S))
        closing.start()
        model.gate.set()
        thread.join(WAIT_S)
        closing.join(WAIT_S)
        assert found == [[pytest.approx(0.2, abs=1e-6)]]
        with pytest.raises(OSError, match="refused"):
            harness.describe()
        server.close()  # twice does no harm


@pytest.mark.parametrize(
    "bind", ["", "8765", "127.0.0.1", "127.0.0.1:x", "0.0.0.0:8765", "*:8765", "[::]:8765", "gpu:1"]
)
def test_an_address_that_is_wrong_or_open_is_refused(bind: str) -> None:
    with pytest.raises(ConfigError):
        RoboValueConfig(bind=bind)


def test_an_open_address_needs_a_token_and_tls_or_a_word() -> None:
    for good in ({"insecure_no_auth": True}, {"token": "t", "certificate": "c"}):
        RoboValueConfig(bind="0.0.0.0:8765", **good)
        ServeParameters(
            robovalue_bind="0.0.0.0:8765",
            insecure_no_auth="insecure_no_auth" in good,
            robovalue_token=str(good.get("token", "")),
            robovalue_certificate=str(good.get("certificate", "")),
        )
    for bad in ({"token": "t"}, {"certificate": "c"}):
        with pytest.raises(ConfigError, match="insecure-no-auth"):
            RoboValueConfig(bind="0.0.0.0:8765", **bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="robovalue"):
        ServeParameters(robovalue_bind="0.0.0.0:8765")


def test_a_token_that_others_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    config = RoboValueConfig(bind="127.0.0.1:0", token=str(file))
    for content, mode in (("a" * 20, 0o644), ("short", 0o600), ("a b " * 9, 0o600), ("ä", 0o600)):
        file.unlink(missing_ok=True)
        file.write_text(content, encoding="utf-8")
        file.chmod(mode)
        with pytest.raises(ConfigError):
            RoboValueServer(config)
    with pytest.raises(ConfigError, match="cannot read"):
        RoboValueServer(RoboValueConfig(bind="127.0.0.1:0", token=str(tmp_path / "none")))


def test_a_busy_port_is_known_before_a_model_is_loaded(free_port: int) -> None:
    config = RoboValueConfig(bind=f"127.0.0.1:{free_port}")
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()
        with pytest.raises(DeviceError, match="cannot bind"):
            RoboValueServer(config)


def test_own_address_is_one_that_can_be_reached() -> None:
    assert own_address("tcp://[::]:5601") == "tcp://[::1]:5601"
    assert own_address("ipc:///tmp/a") == "ipc:///tmp/a"


def test_the_ledger_forgets_the_oldest_answers_and_no_open_question() -> None:
    ledger = Ledger(capacity=2)
    names = "abcd"
    claims = [ledger.claim(name, b"1") for name in names]
    assert len(ledger) == 4
    for index in (1, 2, 3):
        claims[index].settle(float(index))
    assert not ledger.claim("a", b"1").mine
    assert len(ledger) == 2
    assert ledger.claim("b", b"2").mine  # forgotten: a new question
    with pytest.raises(ContractError, match="used for other"):
        ledger.claim("a", b"2")
    claims[0].settle(ContractError("timeout", "late"))
    with pytest.raises(ContractError, match="late"):
        claims[0].result(timeout_s=0.0)
    assert ledger.claim("a", b"2").mine


def test_https_is_spoken_with_a_certificate(tmp_path: Path) -> None:
    # Its key exists nowhere else; for 127.0.0.1, from 2000 to 2100.
    file = Path(__file__).with_name("loopback.pem")
    trust = ssl.create_default_context(cafile=str(file))
    with served(OraclePixels(), certificate=str(file)) as (server, _):
        assert server.url.startswith("https://127.0.0.1:")
        harness = Harness(server.url, tls=trust)
        assert harness.ask([item("value", CUP, front(0.2))]) == pytest.approx([0.2], abs=1e-6)
        with pytest.raises(OSError, match=r"CERTIFICATE_VERIFY_FAILED"):
            Harness(server.url, tls=ssl.create_default_context()).describe()
        with pytest.raises(OSError, match=r".*"):
            Harness(server.url.replace("https", "http")).describe()
        assert harness.describe()["model_id"] == "oracle-pixels"
    other = tmp_path / "other.pem"
    other.write_text("no PEM")
    with pytest.raises(ConfigError, match="PEM"):
        RoboValueServer(RoboValueConfig(bind="127.0.0.1:0", certificate=str(other)))
