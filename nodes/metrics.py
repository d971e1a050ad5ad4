"""Metrics and health of a node over HTTP: ``/metrics`` for Prometheus, ``/health`` for the rest.

``/health`` is 200 while the node is active and finds nothing wrong of the level ERROR, else 503;
its JSON says why. Both are read-only and tell no frame, instruction or key.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from robo_reward.closing import Closing
from robo_reward.errors import ConfigError, DeviceError, require
from robo_reward.transport.sockets import check_address, is_local

from .measurements import Histogram, Measurement

logger = logging.getLogger(__name__)

PREFIX = "robo_reward_"
TIMEOUT_S = 5.0
"""How long a peer may take over its request, seconds."""

Shown = Sequence[Measurement | Histogram]


class MetricsServer(Closing):
    """Serves both pages from threads of its own.

    Args:
        bind: ``host:port``; port 0 takes a free one.
        measure: Gives the numbers of now; called for every scrape.
        health: Gives (whether all is well, what to say).
        insecure_no_auth: Allow an address that other machines can reach.

    Raises:
        ConfigError: The address is malformed, or open to the network without permission.
        DeviceError: The port is taken.
        MissingDependency: ``prometheus_client`` is not installed.
    """

    def __init__(
        self,
        bind: str,
        *,
        measure: Callable[[], Shown],
        health: Callable[[], tuple[bool, dict[str, Any]]],
        insecure_no_auth: bool = False,
    ) -> None:
        if problem := metrics_problem(bind, insecure_no_auth=insecure_no_auth):
            raise ConfigError(problem)
        core = require("prometheus_client", extra="serve")
        registry = core.CollectorRegistry()
        registry.register(_Collector(measure))
        pages = _Pages(lambda: core.generate_latest(registry), health)
        host, _, port = bind.rpartition(":")
        try:
            self._server = _Server((host.strip("[]"), int(port.replace("*", "0"))), pages)
        except OSError as error:
            raise DeviceError(f"cannot bind {bind} for metrics: {error.strerror}") from error
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="robo-reward-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; may be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(TIMEOUT_S)
        self._server.server_close()


def metrics_problem(bind: str, *, insecure_no_auth: bool) -> str:
    """Return what is wrong with an address for metrics, in one sentence; empty if nothing is."""
    try:
        address = check_address(f"tcp://{bind}")
    except ConfigError:
        return f"metrics must be host:port, got {bind!r}"
    if is_local(address) or insecure_no_auth:
        return ""
    return (
        f"metrics at {bind} could be read by other machines: bind 127.0.0.1 and let a proxy guard "
        "it, or add --insecure-no-auth on a network that you trust"
    )


class _Collector:
    """What ``prometheus_client`` asks at every scrape."""

    def __init__(self, measure: Callable[[], Shown]) -> None:
        self._measure = measure

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core

        for one in self._measure():
            if isinstance(one, Histogram):
                rows, total = one.snapshot()
                yield core.HistogramMetricFamily(PREFIX + one.name, one.about, rows, total)
                continue
            kind = core.CounterMetricFamily if one.kind == "counter" else core.GaugeMetricFamily
            names = [name for name, _ in next(iter(one.values), ())]
            family = kind(PREFIX + one.name, one.about, labels=names)
            for labels, value in one.values.items():
                family.add_metric([text for _, text in labels], value)
            yield family


class _Pages:
    def __init__(
        self, metrics: Callable[[], bytes], health: Callable[[], tuple[bool, dict[str, Any]]]
    ) -> None:
        self._metrics = metrics
        self._health = health

    def page(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", self._metrics()
        if path == "/health":
            well, said = self._health()
            return (200 if well else 503), "application/json", json.dumps(said).encode()
        return 404, "text/plain", b"/metrics or /health\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: _Pages) -> None:
        super().__init__(address, _Handler)
        self.pages = pages


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        try:
            status, kind, body = self.server.pages.page(self.path.partition("?")[0])
        except Exception:  # a scrape must not end the server, and its peer gets no trace
            logger.exception("a page of the metrics server failed")
            status, kind, body = 500, "text/plain", b"see the log of the node\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "robo-reward"

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)
