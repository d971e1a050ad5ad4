"""ZeroMQ sockets with the options that keep a robot alive, and who may be bound to.

Why each option: ``LINGER 0``: closing never hangs on a dead peer. ``IMMEDIATE 1``: nothing queues
for a peer that is not there, so a restarted node is never handed the past. ``ROUTER_MANDATORY 1``:
a vanished or slow peer is an error code and not silence. ``MAXMSGSIZE``: a peer cannot make this
process allocate without bound. One thread owns a socket; others reach it through a ``Waker``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket as posix
from collections.abc import Sequence
from typing import NewType

import zmq

from robo_reward.errors import ConfigError, DeviceError
from robo_reward.protocol.envelope import MAX_PART_BYTES, Buffer

from .keys import Keys, Right

HEARTBEAT_MS = 500
HEARTBEAT_TIMEOUT_MS = 1500
VIEW_BYTES = 16 * 1024

Address = NewType("Address", str)
"""A checked ZeroMQ endpoint: ``tcp://host:port``, ``ipc://path`` or ``inproc://name``."""

_TCP = re.compile(r"^tcp://(?P<host>\[[^\]]+\]|[^:\[\]/]+):(?P<port>\*|\d{1,5})$")
_LOCAL = re.compile(r"^(ipc|inproc)://.+$")


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Make a context of one's own; ``term()`` it after its sockets are closed."""
    return zmq.Context(io_threads=1)


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    *,
    send_hwm: int = 16,
    receive_hwm: int = 16,
    max_part_bytes: int = MAX_PART_BYTES,
) -> zmq.Socket[bytes]:
    """Open a socket with every option set before it is bound or connected.

    Args:
        context: Made by ``make_context``.
        kind: ``zmq.ROUTER``, ``zmq.DEALER``, ``zmq.PUB`` or ``zmq.SUB``.
        send_hwm: Messages per peer that may wait to go out.
        receive_hwm: Messages per peer that may wait to be read.
        max_part_bytes: A peer that sends a larger part is disconnected by libzmq.
    """
    socket = context.socket(kind)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDHWM, send_hwm)
    socket.set(zmq.RCVHWM, receive_hwm)
    socket.set(zmq.MAXMSGSIZE, max_part_bytes)
    socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.set(zmq.HEARTBEAT_TTL, 2000)
    socket.set(zmq.HANDSHAKE_IVL, 2000)
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.RECONNECT_IVL, 50)
    socket.set(zmq.RECONNECT_IVL_MAX, 1000)
    if kind in (zmq.DEALER, zmq.PUSH, zmq.REQ):
        socket.set(zmq.IMMEDIATE, 1)
    if kind == zmq.ROUTER:
        socket.set(zmq.ROUTER_MANDATORY, 1)
    return socket


def check_address(address: str) -> Address:
    """Return the endpoint when it is well formed.

    Raises:
        ConfigError: It is not ``tcp://host:port``, ``ipc://path`` or ``inproc://name``.
    """
    tcp = _TCP.match(address)
    if _LOCAL.match(address):
        return Address(address)
    if tcp and (tcp["port"] == "*" or 0 <= int(tcp["port"]) <= 65535):
        return Address(address)
    raise ConfigError(
        f"address must be tcp://host:port, ipc://path or inproc://name, got {address!r}; "
        "for example tcp://127.0.0.1:5601"
    )


def is_local(address: str) -> bool:
    """Whether only processes of this machine can reach the endpoint."""
    tcp = _TCP.match(address)
    if tcp is None:
        return True
    host = tcp["host"].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # an interface name, "*", or a host name: reachable from outside


def takes_keys(address: str) -> bool:
    """Whether keys secure this endpoint: ``tcp`` everywhere; ``ipc`` has its folder's mode."""
    return _TCP.match(address) is not None


def bind_socket(
    socket: zmq.Socket[bytes],
    address: str,
    *,
    keys: Keys | None = None,
    insecure_no_auth: bool = False,
) -> Address:
    """Bind to the loopback interface; elsewhere with keys, or when that is said aloud.

    Args:
        socket: From ``open_socket``; with keys its context needs a ``Guard``.
        address: Endpoint; the port ``*`` or ``0`` takes a free one.
        keys: Secure a ``tcp`` endpoint with them.
        insecure_no_auth: Allow an address that other machines can reach, without keys.

    Returns:
        The endpoint that was bound, with the real port.

    Raises:
        ConfigError: The address is malformed, or open to the network without permission.
        DeviceError: The port or path is busy or forbidden.
    """
    endpoint = check_address(address)
    if keys is not None and takes_keys(endpoint):
        keys.secure_server(socket)
    elif not is_local(endpoint) and not insecure_no_auth:
        raise ConfigError(
            f"{endpoint} can be reached by other machines and nothing would ask who they are; "
            "give --keys FOLDER (robo-reward keys makes them), or add --insecure-no-auth on a "
            "network that you trust"
        )
    if re.search(r"://\[[^\]]+\]:", endpoint):
        socket.set(zmq.IPV6, 1)
    if endpoint.startswith("ipc://") and _is_served(endpoint[6:]):
        # libzmq would take the path over in silence, and half of the clients with it.
        raise DeviceError(f"cannot bind {endpoint}: another process serves it; choose another")
    try:
        socket.bind(re.sub(r"^(tcp://.*):0$", r"\1:*", endpoint))
    except zmq.ZMQError as error:
        raise DeviceError(
            f"cannot bind {endpoint}: {error.strerror}; another process may use it, choose another"
        ) from error
    return Address(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))


def _is_served(path: str) -> bool:
    with posix.socket(posix.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(path)
        return True
    return False


def connect_socket(
    socket: zmq.Socket[bytes],
    address: str,
    *,
    keys: Keys | None = None,
    right: Right = "serve",
) -> None:
    """Connect; libzmq keeps trying in the background until the socket is closed.

    Args:
        socket: From ``open_socket``.
        address: Endpoint.
        keys: Secure a ``tcp`` endpoint with them.
        right: What the key behind the address must be allowed to do.

    Raises:
        ConfigError: The address is malformed or names no host, or it is not known whose key stands
            behind it.
    """
    endpoint = check_address(address)
    if re.search(r":(\*|0)$", endpoint) and endpoint.startswith("tcp:"):
        raise ConfigError(f"cannot connect to {endpoint}: the port must be a number above 0")
    if re.search(r"://\[[^\]]+\]:", endpoint):
        socket.set(zmq.IPV6, 1)
    if keys is not None and takes_keys(endpoint):
        keys.secure_client(socket, endpoint, right=right)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ConfigError(f"cannot connect to {endpoint}: {error.strerror}") from error


def connect_again(socket: zmq.Socket[bytes], address: str) -> None:
    """Begin a connection anew that libzmq gave up, as it does after a refused handshake."""
    with contextlib.suppress(zmq.ZMQError):
        socket.disconnect(address)
    with contextlib.suppress(zmq.ZMQError):
        socket.connect(address)


def send(socket: zmq.Socket[bytes], message: Sequence[Buffer]) -> bool:
    """Send without waiting.

    Args:
        socket: Owned by the calling thread.
        message: Parts; for a ROUTER the routing id comes first.

    Returns:
        ``False`` where the peer is gone or does not read: the message was not queued.
    """
    try:
        socket.send_multipart(message, flags=zmq.DONTWAIT)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno in (zmq.EHOSTUNREACH, zmq.ENOTCONN):
            return False
        raise
    return True


def _readable(socket: zmq.Socket[bytes]) -> bool:
    # Asked first, because the exception that says "no" costs ten times as much.
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)


def receive(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    """Return the next message without waiting, or ``None`` when there is none."""
    if not _readable(socket):
        return None
    try:
        return socket.recv_multipart(flags=zmq.DONTWAIT)
    except zmq.Again:
        return None


def receive_from(
    socket: zmq.Socket[bytes], *, keyed: bool = False
) -> tuple[str, list[Buffer]] | None:
    """Return who sent the next message, and its parts, the large ones as views and not copies.

    Args:
        socket: Owned by the calling thread.
        keyed: Whether its peers have keys.

    Returns:
        The peer's public key, empty where nobody has one, and the parts; ``None`` where there is no
        message.
    """
    if not _readable(socket):
        return None
    try:
        parts = socket.recv_multipart(flags=zmq.DONTWAIT, copy=False)
    except zmq.Again:
        return None
    peer = str(parts[0].get("User-Id")) if keyed else ""
    return peer, [part.bytes if len(part) < VIEW_BYTES else part.buffer for part in parts]


class Waker:
    """Wakes a thread that polls: any thread calls ``wake``, the owner polls ``self`` and drains.

    Example:
        >>> waker = Waker()
        >>> poller = zmq.Poller()
        >>> poller.register(waker, zmq.POLLIN)
        >>> waker.wake()
        >>> len(poller.poll(1000))
        1
        >>> waker.drain()
        >>> waker.close()
    """

    def __init__(self) -> None:
        self._reader, self._writer = posix.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """File descriptor that becomes readable; this is what a poller asks for."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Make the owner's poll return; a full or closed pipe means that it will anyway."""
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def drain(self) -> None:
        """Swallow the wake-ups so far; call before looking at the queue that they announce."""
        with contextlib.suppress(OSError):
            while len(self._reader.recv(4096)) == 4096:
                pass

    def close(self) -> None:
        """Free both ends."""
        self._reader.close()
        self._writer.close()
