"""Who listens, as the kernel's bytes say it."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.kernel.listeners import Listener, ListenersUnknown, listeners, parse


def test_this_process() -> None:
    """A socket of ours is found, with its owner."""
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        found = {(one.address, one.port) for one in listeners()}
        assert {(ip_address(sock.getsockname()[0]), sock.getsockname()[1]) for sock in (four, six)} <= found


def test_a_refusal_is_an_error() -> None:
    """With the kernel's number."""
    with pytest.raises(ListenersUnknown) as raised:
        parse(struct.pack("=IHHII", 20, 2, 0, 0, 0) + struct.pack("=i", -1))
    assert raised.value.errno == 1


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Nothing that cannot be read loops or breaks anything."""
    try:
        found, _ = parse(data)
    except (ListenersUnknown, struct.error):
        return
    assert all(isinstance(one, Listener) for one in found)
