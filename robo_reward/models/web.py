"""One way to ask a web service: certificates checked, no redirects, an outage waited out."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ipaddress
import math
import os
import random
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robo_reward.errors import ConfigError, ModelError, PeerUnreachable
from robo_reward.transport.tokens import is_token, read_token

AGAIN = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Codes after which the same request may succeed."""
MAX_ANSWER_BYTES = 16 * 2**20
PIECE_BYTES = 65536
TOLD_BYTES = 500


class Refused(ModelError):
    """The service answered and will not do it.

    Args:
        message: What it said.
        code: Of HTTP.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often, and after which pauses, a request is made again.

    Attributes:
        tries: Requests at most, the first one among them.
        first_s: Pause after the first, seconds; it doubles each time.
        longest_s: The longest pause that is chosen here; a service may ask for a longer one.
    """

    tries: int = 3
    first_s: float = 1.0
    longest_s: float = 30.0

    def pause_s(self, tried: int) -> float:
        """Return a pause, by chance between half of it and all: clients must not come together."""
        whole = min(self.longest_s, self.first_s * 2.0 ** (tried - 1))
        return whole * random.uniform(0.5, 1.0)


class Service:
    """Asks one address. Any number of threads may.

    Args:
        url: ``https://…``; ``http://`` for this machine alone.
        token: Sent as bearer token; in no message and no log.
        patience: See there.
        insecure_http: Whether ``http://`` may go to other machines: images and token can then be
            read and changed on the way.

    Raises:
        ConfigError: The address is none, or not safe.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        patience: Patience | None = None,
        insecure_http: bool = False,
    ) -> None:
        parts = _checked(url, insecure_http=insecure_http)
        self.patience = patience or Patience()
        self.name = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        self.headers = {"Content-Type": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self._parts = parts
        self._token = token
        # A proxy is for the way to other machines.
        direct = [urllib.request.ProxyHandler({})] if is_loopback(parts.hostname or "") else []
        self._opener = urllib.request.build_opener(_NoRedirect, *direct)

    def ask(
        self,
        body: bytes | None = None,
        *,
        path: str = "",
        timeout_s: float,
        end_s: float = math.inf,
        begun: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return the answer to a POST; to a GET where there is no body.

        Args:
            body: JSON.
            path: Behind that of the address.
            timeout_s: How long one try may take.
            end_s: Time on the monotonic clock when there must be an answer, pauses included.
            begun: Called before each try with its number, from 1; what it raises ends the asking.

        Raises:
            Refused: It answered that it will not.
            PeerUnreachable: There was no answer.
            ModelError: The answer is too long.
        """
        tried, pause, why = 0, 0.0, "there was no time left"
        while tried < self.patience.tries:
            if time.monotonic() + pause >= end_s:
                raise PeerUnreachable(f"{self.name} gave no answer in time: {why}")
            time.sleep(pause)
            tried += 1
            if begun is not None:
                begun(tried)
            until = min(end_s, time.monotonic() + timeout_s)
            try:
                return self._try(body, path, until)
            except urllib.error.HTTPError as error:
                why, pause = self._refusal(error), self.patience.pause_s(tried)
                pause = max(pause, _asked_pause_s(error.headers.get("Retry-After", "")))
            except (OSError, http.client.HTTPException) as error:  # URLError, time-outs, TLS
                why, pause = _reason(error), self.patience.pause_s(tried)
                if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
                    break
        raise PeerUnreachable(f"{self.name} gave no answer in {_tries(tried)}: {why}")

    def _try(self, body: bytes | None, path: str, until: float) -> bytes:
        whole = (self._parts.scheme, self._parts.netloc, self._parts.path + path or "/")
        url = urllib.parse.urlunsplit((*whole, self._parts.query, ""))
        request = urllib.request.Request(url, data=body, headers=self.headers)
        timeout_s = max(until - time.monotonic(), 1e-3)
        with self._opener.open(request, timeout=timeout_s) as answer:
            return _read(answer, until, self.name)

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        """Return what was said, or raise it where it is final."""
        told = ""
        with error, contextlib.suppress(OSError, http.client.HTTPException):
            told = error.read(TOLD_BYTES).decode(errors="replace")
        if self._token:
            told = told.replace(self._token, "***")
        why = f"HTTP {error.code}: {told}"
        if error.code not in AGAIN:
            raise Refused(f"{self.name} refuses: {why}", code=error.code) from error
        return why


def bearer(*, variable: str = "", file: str = "") -> str:
    """Return a token from an environment variable or from a file of mode 600; "" for neither.

    Raises:
        ConfigError: Both are named, or there is no token.
    """
    if variable and file:
        raise ConfigError("the token comes from a variable or from a file, not from both")
    if file:
        return read_token(file)
    if not variable:
        return ""
    token = os.environ.get(variable, "")
    if not is_token(token):
        raise ConfigError(f"the environment variable {variable} must hold the bearer token")
    return token


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None  # images and token go where they were sent, and nowhere else


def _checked(url: str, *, insecure_http: bool) -> urllib.parse.SplitResult:
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ConfigError(f"{url!r} is no URL of a service: https://host/path")
    safe = parts.scheme == "https" or is_loopback(parts.hostname) or insecure_http
    if parts.scheme not in ("http", "https") or not safe:
        raise ConfigError(f"{parts.hostname} needs https; http is for this machine alone")
    return parts


def _read(answer: http.client.HTTPResponse, until: float, name: str) -> bytes:
    """Read an answer, however slowly it drips, until its time is over."""
    held = bytearray()
    while piece := answer.read1(PIECE_BYTES):
        held += piece
        if len(held) > MAX_ANSWER_BYTES:
            raise ModelError(f"{name} answered with more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > until:
            raise TimeoutError("the answer came too slowly")
    if answer.length:
        raise ConnectionError("the answer was cut off")
    return bytes(held)


def _asked_pause_s(header: str) -> float:
    """Return what ``Retry-After`` says, seconds; 0 where it says nothing."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(header)) if math.isfinite(float(header)) else 0.0
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    return 0.0


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__


def _tries(count: int) -> str:
    return f"{count} tries" if count > 1 else "one try"
