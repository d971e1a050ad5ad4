from __future__ import annotations

import socket as posix
import threading
from pathlib import Path

import pytest
import zmq

from robo_reward.errors import ConfigError, DeviceError
from robo_reward.transport.sockets import (
    Waker,
    bind_socket,
    check_address,
    connect_socket,
    is_local,
    make_context,
    open_socket,
    receive,
    receive_from,
    send,
)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("tcp://127.0.0.1:5601", True),
        ("tcp://127.3.2.1:5601", True),
        ("tcp://localhost:5601", True),
        ("tcp://[::1]:5601", True),
        ("ipc:///tmp/x", True),
        ("inproc://x", True),
        ("tcp://0.0.0.0:5601", False),
        ("tcp://*:5601", False),
        ("tcp://eth0:5601", False),
        ("tcp://192.168.1.4:5601", False),
        ("tcp://[::]:5601", False),
        ("tcp://robot.lan:5601", False),
    ],
)
def test_who_can_reach_an_address(address: str, local: bool) -> None:
    assert is_local(check_address(address)) is local


@pytest.mark.parametrize("address", ["", "tcp://", "tcp://x", "tcp://x:y", "udp://x:1", "x:1"])
def test_malformed_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="for example"):
        check_address(address)


def test_an_open_address_needs_the_word() -> None:
    context = make_context()
    router = open_socket(context, zmq.ROUTER)
    with pytest.raises(ConfigError, match="insecure-no-auth"):
        bind_socket(router, "tcp://0.0.0.0:0")
    assert bind_socket(router, "tcp://0.0.0.0:0", insecure_no_auth=True).startswith("tcp://0.0.0.0")
    router.close()
    context.term()


def test_a_busy_port_and_a_served_path_are_device_errors(tmp_path: Path) -> None:
    context = make_context()
    first, second = open_socket(context, zmq.ROUTER), open_socket(context, zmq.ROUTER)
    address = bind_socket(first, "tcp://127.0.0.1:0")
    with pytest.raises(DeviceError, match="cannot bind"):
        bind_socket(second, address)
    path = f"ipc://{tmp_path}/s"
    if len(path) < 100:
        bind_socket(first, path)
        with pytest.raises(DeviceError, match="another process"):
            bind_socket(second, path)
    first.close()
    second.close()
    context.term()


def test_a_path_left_by_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    if len(str(path)) > 100:
        pytest.skip("the temporary folder is too long for a socket")
    with posix.socket(posix.AF_UNIX) as dead:
        dead.bind(str(path))
    context = make_context()
    router = open_socket(context, zmq.ROUTER)
    assert bind_socket(router, f"ipc://{path}")
    router.close()
    context.term()


def test_connecting_needs_a_port() -> None:
    context = make_context()
    dealer = open_socket(context, zmq.DEALER)
    with pytest.raises(ConfigError, match="port"):
        connect_socket(dealer, "tcp://127.0.0.1:0")
    dealer.close()
    context.term()


def test_nothing_is_queued_for_a_peer_that_is_not_there(free_port: int) -> None:
    context = make_context()
    dealer = open_socket(context, zmq.DEALER)
    connect_socket(dealer, f"tcp://127.0.0.1:{free_port}")
    assert not send(dealer, [b"past"])
    router = open_socket(context, zmq.ROUTER)
    assert not send(router, [b"nobody", b"x"])
    assert receive(router) is None
    dealer.close()
    router.close()
    context.term()  # would hang here if anything waited to be sent


def test_large_parts_are_views_and_small_ones_bytes() -> None:
    context = make_context()
    router, dealer = open_socket(context, zmq.ROUTER), open_socket(context, zmq.DEALER)
    connect_socket(dealer, bind_socket(router, "tcp://127.0.0.1:0"))
    assert dealer.poll(5000, zmq.POLLOUT)
    big = bytes(range(256)) * 1000
    assert send(dealer, [b"head", big])
    assert router.poll(5000)
    _, parts = receive_from(router) or ("", [])
    assert parts is not None
    assert parts[1] == b"head"
    assert isinstance(parts[2], memoryview)
    assert bytes(parts[2]) == big
    assert receive_from(router) is None
    dealer.close()
    router.close()
    context.term()


def test_an_oversize_part_ends_the_connection_and_not_the_process() -> None:
    context = make_context()
    router = open_socket(context, zmq.ROUTER, max_part_bytes=1000)
    dealer = open_socket(context, zmq.DEALER)
    connect_socket(dealer, bind_socket(router, "tcp://127.0.0.1:0"))
    assert dealer.poll(5000, zmq.POLLOUT)
    assert send(dealer, [bytes(2000)])
    assert not router.poll(200)
    dealer.close()
    router.close()
    context.term()


def test_a_waker_ends_a_poll_and_is_silent_once_drained() -> None:
    waker = Waker()
    poller = zmq.Poller()
    poller.register(waker, zmq.POLLIN)
    thread = threading.Thread(target=waker.wake)
    thread.start()
    assert poller.poll(10_000)
    thread.join()
    for _ in range(20_000):
        waker.wake()  # a full pipe must not block
    waker.drain()
    assert not poller.poll(0)
    waker.close()
    waker.wake()
