"""The HTTP side of the RoboValue service: bounds, time limits, authentication, typed refusals.

One thread per connection, one request per connection. The number of connections, the size of a
body, all bodies together and the time for each phase are bounded; a peer that is too slow is cut
off by the accepting thread, however it drips.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import math
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgspec

from robo_reward.closing import Closing
from robo_reward.errors import DeviceError
from robo_reward.protocol.robovalue import PATH, ContractError, write_error
from robo_reward.transport.tokens import read_token

from .config import MIN_TOKEN, RoboValueConfig, read_certificate
from .service import Service

logger = logging.getLogger(__name__)

LOOK_S = 0.1
SOCKET_S = 10.0
SWALLOW_S = 3.0
READ_BYTES = 64 * 1024


class RoboValueServer(Closing):
    """Serves at one address.

    Args:
        config: Settings. The port is taken here, so that a busy one is known before a model is
            loaded; peers are listened to from ``start`` on.

    Raises:
        ConfigError: Token or certificate cannot be read.
        DeviceError: The port is busy.
    """

    def __init__(self, config: RoboValueConfig) -> None:
        self.config = config
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": LOOK_S},
            name="robo-reward-robovalue",
            daemon=True,
        )

    @property
    def url(self) -> str:
        """Where to POST."""
        scheme = "https" if self.config.certificate else "http"
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{scheme}://{host}:{self._server.server_address[1]}{PATH}"

    @property
    def counts(self) -> Counter[str]:
        """Answers by code, ``OK`` among them."""
        return self._server.counts

    def start(self, service: Service) -> RoboValueServer:
        """Begin to answer with this service."""
        self._server.service = service
        self._server.server_activate()
        self._thread.start()
        return self

    def close(self, *, timeout_s: float = 2.0) -> None:
        """Take no more connections, let the open ones end, then cut them off."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join(timeout=10.0)
        end = time.monotonic() + timeout_s
        while self._server.open_connections and time.monotonic() < end:
            time.sleep(0.01)
        self._server.cut(math.inf)
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    # Not http.server's: that one asks the name service who this host is.
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    service: Service

    def __init__(self, config: RoboValueConfig) -> None:
        self.config = config
        self.counts: Counter[str] = Counter()
        self.token = read_token(config.token, least=MIN_TOKEN) if config.token else ""
        self._tls = read_certificate(config.certificate) if config.certificate else None
        self._lock = threading.Lock()
        self._due: dict[socket.socket, float] = {}
        self._open_bytes = 0
        if ":" in config.host:
            self.address_family = socket.AF_INET6
        host = "" if config.host == "*" else config.host
        super().__init__((host, config.port), _Handler, bind_and_activate=False)
        try:
            self.server_bind()
        except OSError as error:
            self.server_close()
            raise DeviceError(
                f"cannot bind {config.bind}: {error.strerror}; another process may use it, "
                "choose another"
            ) from error

    @property
    def open_connections(self) -> int:
        """Connections that are being served."""
        return len(self._due)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; the TLS handshake is left to the connection's own thread."""
        accepted, address = super().get_request()
        accepted.settimeout(SOCKET_S)
        if self._tls is not None:
            accepted = self._tls.wrap_socket(
                accepted, server_side=True, do_handshake_on_connect=False
            )
        return accepted, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn a connection away when there are enough."""
        with self._lock:
            if len(self._due) < self.config.connections:
                self._due[request] = time.monotonic() + self.config.header_s
                return True
        self.counts["overloaded"] += 1
        if self._tls is None:
            with contextlib.suppress(OSError):
                request.settimeout(0.0)
                request.sendall(_turned_away())
        return False

    def close_request(self, request: Any) -> None:
        """Forget and close a connection."""
        with self._lock:
            self._due.pop(request, None)
        super().close_request(request)

    def give(self, connection: socket.socket, seconds: float) -> None:
        """Say how long the peer may take from now."""
        with self._lock:
            if connection in self._due:
                self._due[connection] = time.monotonic() + seconds

    def reserve(self, size: int) -> bool:
        """Take a share of the memory for bodies; ``release`` gives it back."""
        with self._lock:
            if self._open_bytes + size > self.config.max_open_bytes:
                return False
            self._open_bytes += size
            return True

    def release(self, size: int) -> None:
        """Give a share of the memory for bodies back."""
        with self._lock:
            self._open_bytes -= size

    def service_actions(self) -> None:
        """Cut off who is late; called between accepts and every ``LOOK_S``."""
        self.cut(time.monotonic())

    def cut(self, now_s: float) -> None:
        """End the connections that were due by now; their threads then find them closed."""
        with self._lock:
            late = [connection for connection, due in self._due.items() if due <= now_s]
        for connection in late:
            with contextlib.suppress(OSError):
                # Of the plain socket: one of TLS would first say goodbye to a peer that is silent.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a thread could not answer; peers that go away are no news."""
        logger.debug("connection from %s broke: %r", client_address, sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "robo-reward"
    sys_version = ""
    timeout = SOCKET_S
    _unread = True

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def handle(self) -> None:
        self.close_connection = True  # one request each: nothing that a first one left can confuse
        self.handle_one_request()

    def do_GET(self) -> None:
        self._unread = False  # it has no body
        self._guarded(self._describe)

    def do_POST(self) -> None:
        self._guarded(self._answer)

    def _describe(self) -> bytes:
        return msgspec.json.encode(self.server.service.described())

    def _answer(self) -> bytes:
        size = self._body_size()
        if not self.server.reserve(size):
            raise ContractError("overloaded", "too much is being read; ask again")
        try:
            self.server.give(self.connection, SOCKET_S + size / self.server.config.slowest_bytes_s)
            body = self._read(size)
            self.server.give(self.connection, math.inf)  # from here the time is the service's
            return self.server.service.answer(body)
        finally:
            self.server.release(size)

    def _guarded(self, make: Callable[[], bytes]) -> None:
        try:
            self._admit()
            body = make()
            self.server.counts["OK"] += 1
            self._reply(HTTPStatus.OK, body)
            return
        except ContractError as error:
            refusal = error
        except OSError:
            raise  # the peer is gone: nobody to tell
        except Exception:
            # Its text may hold paths and other insides: they stay in the log.
            logger.exception("a request of the RoboValue contract failed")
            refusal = ContractError("model_error", "the service failed; its log says why")
        self._refuse(refusal)

    def _refuse(self, refusal: ContractError) -> None:
        self.server.counts[refusal.code] += 1
        self._reply(refusal.status, write_error(refusal))

    def _admit(self) -> None:
        given = self.headers.get("Authorization", "")
        wanted = f"Bearer {self.server.token}"
        if self.server.token and not hmac.compare_digest(given.encode(), wanted.encode()):
            raise ContractError("unauthorized", "Authorization: Bearer TOKEN is needed")
        if self.path != PATH:
            raise ContractError("not_found", f"only {PATH} is served")

    def _body_size(self) -> int:
        if self.headers.get_content_type() != "application/json":
            # Also keeps web pages out, which may not send this type to another host unasked.
            raise ContractError("unsupported_media_type", "Content-Type must be application/json")
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1:
            raise ContractError("length_required", "one Content-Length is needed, and no chunks")
        if not (lengths[0].isascii() and lengths[0].isdigit()) or len(lengths[0]) > 18:
            raise ContractError("length_required", "Content-Length is not a number")
        size = int(lengths[0])
        if size > self.server.config.max_body_bytes:
            told = f"{size} bytes, at most {self.server.config.max_body_bytes}; send fewer items"
            raise ContractError("too_large", told)
        return size

    def _read(self, size: int) -> bytearray:
        body = bytearray()
        while len(body) < size:
            piece = self.rfile.read(min(READ_BYTES, size - len(body)))
            if not piece:
                raise ConnectionError("the body ended early")
            body += piece
        self._unread = False
        return body

    def _reply(self, status: int, body: bytes) -> None:
        self.server.give(self.connection, SOCKET_S)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
            self.send_header("Retry-After", "1")
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if self._unread:
            self._swallow()

    def _swallow(self) -> None:
        """Read on until the peer has seen the answer: unread bytes would make it a reset."""
        self.server.give(self.connection, SWALLOW_S)
        with contextlib.suppress(OSError):
            while self.connection.recv(READ_BYTES):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse in the contract's form what ``http.server`` itself refuses."""
        error = ContractError("not_allowed", message or "this is not HTTP as it is spoken here")
        self.server.counts[error.code] += 1
        self._reply(code, write_error(error))

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s " + format, self.address_string(), *args)


def _turned_away() -> bytes:
    error = ContractError("overloaded", "too many connections; ask again")
    body = write_error(error)
    head = (
        f"HTTP/1.1 {error.status} Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
