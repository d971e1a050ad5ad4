"""Where the RoboValue service listens, who may ask, and how much one may send."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from robo_reward.errors import ConfigError
from robo_reward.transport.sockets import check_address, is_local

MIN_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RoboValueConfig:
    """Settings of the HTTP side.

    Attributes:
        bind: ``host:port``; port 0 takes a free one.
        token: File whose one line every request must bring as ``Authorization: Bearer …``.
        certificate: PEM file with certificate chain and private key; HTTPS instead of HTTP.
        insecure_no_auth: Allow an address that other machines can reach without the two above.
        max_body_bytes: Largest POST.
        max_open_bytes: Bodies that are held at once, of all POSTs.
        connections: Connections served at once; further ones are turned away.
        header_s: How long a peer may take to say what it wants, TLS included, seconds.
        slowest_bytes_s: Slowest body that is waited for, bytes per second.

    Raises:
        ConfigError: Something is malformed, or open to the network without permission.
    """

    bind: str
    token: str = ""
    certificate: str = ""
    insecure_no_auth: bool = False
    max_body_bytes: int = 64 * 1024 * 1024
    max_open_bytes: int = 256 * 1024 * 1024
    connections: int = 16
    header_s: float = 10.0
    slowest_bytes_s: float = 256 * 1024.0

    def __post_init__(self) -> None:
        """Refuse what nobody would want to have opened."""
        found = bind_problems(self)
        if self.connections < 1 or not 0 < self.max_body_bytes <= self.max_open_bytes:
            found.append("connections and max_body_bytes must be >= 1, max_open_bytes not smaller")
        if self.header_s <= 0 or self.slowest_bytes_s <= 0:
            found.append("header_s and slowest_bytes_s must be > 0")
        if found:
            raise ConfigError("; ".join(found))

    @property
    def host(self) -> str:
        """Host to bind, without brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port to bind."""
        return int(self.bind.rpartition(":")[2].replace("*", "0"))


def bind_problems(config: RoboValueConfig) -> list[str]:
    """Return what is wrong with the address, one sentence each."""
    try:
        address = check_address(f"tcp://{config.bind}")
    except ConfigError:
        return [f"robovalue-bind must be host:port, got {config.bind!r}"]
    guarded = config.token and config.certificate
    if is_local(address) or guarded or config.insecure_no_auth:
        return []
    return [
        f"{config.bind} can be reached by other machines: give --robovalue-token and "
        "--robovalue-certificate, or add --insecure-no-auth on a network that you trust"
    ]


def read_certificate(path: str) -> ssl.SSLContext:
    """Return the TLS settings for a PEM file.

    Raises:
        ConfigError: It cannot be read, or lacks the certificate or its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty password: a key with one is an error here, not a question on the terminal.
        context.load_cert_chain(path, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{path} must hold a certificate chain and its private key as PEM: {error}"
        ) from error
    return context
