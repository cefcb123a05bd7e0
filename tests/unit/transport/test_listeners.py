"""Listening sockets of the proxy."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from hostmesh.transport.listeners import BindFailed, bind_listener


def connect(family: int, address: str, port: int) -> socket.socket:
    client = socket.socket(family, socket.SOCK_STREAM)
    client.connect((address, port))
    return client


def test_accepted_sockets_send_at_once_and_the_listener_does_not_block() -> None:
    """TCP_NODELAY is inherited, so that no connection pays a call for it."""
    with bind_listener("127.0.0.1", 0) as listener:
        with pytest.raises(BlockingIOError):
            listener.accept()
        with connect(socket.AF_INET, *listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.parametrize(("dual_stack", "v4"), [(True, True), (False, False)])
def test_the_ipv6_wildcard_takes_ipv4_if_told(dual_stack: bool, v4: bool) -> None:
    """Whatever net.ipv6.bindv6only says."""
    with bind_listener("::", 0, dual_stack=dual_stack) as listener:
        port = listener.getsockname()[1]
        connect(socket.AF_INET6, "::1", port).close()
        if v4:
            connect(socket.AF_INET, "127.0.0.1", port).close()
        else:
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_port_in_use_is_named_with_the_next_step() -> None:
    """Which address, and how to find who has it."""
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(BindFailed) as refusal:
            bind_listener("127.0.0.1", port)
    assert str(refusal.value) == (
        f"cannot listen on 127.0.0.1:{port}: the port is in use. "
        f"`ss -ltnp 'sport = :{port}'` shows by whom; stop it or change its port"
    )


def test_an_address_of_another_host_is_named() -> None:
    """TEST-NET-1 is nobody's."""
    with pytest.raises(BindFailed, match=r"cannot listen on 192\.0\.2\.1:15008: this host does not have the address"):
        bind_listener("192.0.2.1", 15008)


def test_ipv6_addresses_are_written_in_brackets() -> None:
    """As everywhere."""
    with pytest.raises(BindFailed, match=r"cannot listen on \[2001:db8::1\]:15008"):
        bind_listener("2001:db8::1", 15008)


def test_a_failed_listener_leaves_nothing_open() -> None:
    """Descriptors before and after are the same."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  descriptors by number
    with pytest.raises(BindFailed):
        bind_listener("192.0.2.1", 15008)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_is_no_address_is_a_programming_error() -> None:
    """Names are resolved, and settings checked, before."""
    with pytest.raises(ValueError, match="localhost"):
        bind_listener("localhost", 0)
