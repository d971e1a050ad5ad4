"""Metrics and health over HTTP, read by an ordinary client from live nodes."""

from __future__ import annotations

import json
import math
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families

from robo_reward.client import connect
from robo_reward.errors import ConfigError, DeviceError
from robo_reward.nodes.measurements import Histogram, Measurement
from robo_reward.nodes.metrics import MetricsServer
from robo_reward.nodes.parameters import NodeParameters
from robo_reward.nodes.serve import RewardNode, ServeNode, ServeParameters

from .serving_tools import FREE, NodeProcess, TouchyModel, query, until

WAIT_S = 20.0
FREE_HTTP = "127.0.0.1:0"


def fetch(address: str, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}/{page}", timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scraped(text: str) -> dict[tuple[str, str], float]:
    """Return (name of the sample, its first label) → value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_reward_node_tells_what_it_answered_and_how_long_that_took() -> None:
    with RewardNode(TouchyModel(), address=FREE, warm_up=False) as node:
        server = MetricsServer(FREE_HTTP, measure=node.measurements, health=lambda: (True, {}))
        with server, connect(node.address, deadline_s=WAIT_S) as source:
            for step in (1, 2, 3, 13):
                source.submit([query(step)]).result(timeout_s=WAIT_S)
            status, text = fetch(server.address, "metrics")
            again = fetch(server.address, "metrics")[1]
    assert status == 200
    found = scraped(text)
    assert found["robo_reward_answers_total", "OK"] == 3
    assert found["robo_reward_answers_total", "MODEL_ERROR"] == 1
    assert found["robo_reward_batches_total", ""] == 4
    assert found["robo_reward_failed_batches_total", ""] == 1
    assert found["robo_reward_clients", ""] == 1
    assert found["robo_reward_open_requests", ""] == 0
    assert found["robo_reward_model_stalled", ""] == 0
    for name in ("queue_seconds", "inference_seconds", "batch_rows", "decode_seconds"):
        assert found[f"robo_reward_{name}_count", ""] == 4
        assert found[f"robo_reward_{name}_bucket", "+Inf"] == 4
    assert found["robo_reward_batch_rows_sum", ""] == 4
    assert scraped(again)["robo_reward_answers_total", "OK"] == 3  # a scrape counts nothing


def test_health_follows_the_life_of_a_node(tmp_path: Path) -> None:
    parameters = ServeParameters(
        model="oracle-pixels", bind=f"ipc://{tmp_path}/n", metrics=FREE_HTTP
    )
    node = ServeNode(parameters)
    node._open_metrics()
    assert node.metrics is not None
    address = node.metrics.address
    status, text = fetch(address, "health")
    assert (status, json.loads(text)["state"]) == (503, "unconfigured")
    node.configure()
    node.activate()
    status, text = fetch(address, "health")
    assert status == 200
    assert json.loads(text) == {
        "name": "reward", "kind": "reward", "state": "active", "level": "OK",
        "message": "nothing to report",
    }  # fmt: skip
    node._finish()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}/health", timeout=WAIT_S)


@pytest.mark.timeout(120)
def test_a_node_process_is_watched_until_it_is_stopped(free_port: int, tmp_path: Path) -> None:
    at = f"127.0.0.1:{free_port}"
    with NodeProcess(f"ipc://{tmp_path}/n", "--metrics", at) as process:
        until(lambda: _status(at) == 200)
        assert fetch(at, "other")[0] == 404
        process.process.send_signal(signal.SIGTERM)
        until(lambda: _status(at) is None)


def _status(address: str) -> int | None:
    try:
        return fetch(address, "health")[0]
    except OSError:
        return None


def test_a_page_that_fails_is_500_without_a_trace() -> None:
    def broken() -> list[Measurement]:
        raise RuntimeError("secret")

    with MetricsServer(FREE_HTTP, measure=broken, health=lambda: (True, {})) as server:
        status, text = fetch(server.address, "metrics")
        assert status == 500
        assert "secret" not in text
        assert fetch(server.address, "health")[0] == 200


def test_addresses() -> None:
    with pytest.raises(ConfigError, match="other machines"):
        NodeParameters(metrics="0.0.0.0:9100")
    with pytest.raises(ConfigError, match="host:port"):
        NodeParameters(metrics="9100")
    assert NodeParameters(metrics="0.0.0.0:9100", insecure_no_auth=True).metrics
    with (
        MetricsServer(FREE_HTTP, measure=list, health=lambda: (True, {})) as first,
        pytest.raises(DeviceError, match="cannot bind"),
    ):
        MetricsServer(first.address, measure=list, health=lambda: (True, {}))


def test_a_histogram_is_cumulative_and_leaves_out_what_is_not_known() -> None:
    histogram = Histogram(name="x", about="y", bounds=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0, math.nan):
        histogram.observe(value)
    assert histogram.snapshot() == ([("1.0", 2.0), ("2.0", 3.0), ("+Inf", 4.0)], 12.0)


def test_camera_and_recorder_have_numbers_too(tmp_path: Path) -> None:
    from robo_reward.nodes.camera import CameraNode, CameraParameters
    from robo_reward.nodes.record import RecordNode, RecordParameters

    camera = CameraNode(CameraParameters(camera="front", source="0"))
    names = {one.name for one in camera.measurements()}
    assert names >= {"camera_frames", "camera_rate_hz"}
    recorder = RecordNode(RecordParameters(cameras=("camera/front/frame",), out=tmp_path))
    values = {one.name: dict(one.values) for one in recorder.measurements()}  # type: ignore[union-attr]
    assert values["recorder_frames"] == {(): 0}
