"""PROXY protocol version 2 to the byte."""

from __future__ import annotations

import pytest

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.proxy.proxy_header import proxy_header

SIGNATURE = "0d0a0d0a000d0a515549540a"
V4 = SocketAddress.parse("10.0.0.1:4660")
V4_TO = SocketAddress.parse("10.0.0.2:80")
V6 = SocketAddress.parse("[2001:db8::1]:4660")
V6_TO = SocketAddress.parse("[2001:db8::2]:80")


@pytest.mark.parametrize(
    ("source", "destination", "identity", "expected"),
    [
        (V4, V4_TO, None, "2111000c0a0000010a00000212340050"),
        (
            V6,
            V6_TO,
            None,
            "2121002420010db800000000000000000000000120010db800000000000000000000000212340050",
        ),
        (V4, V6_TO, None, "21010000"),
        (
            V4,
            V4_TO,
            Identity("t", "n", "s"),
            "211100230a0000010a00000212340050d00014" + b"spiffe://t/ns/n/sa/s".hex(),
        ),
    ],
)
def test_header(source: SocketAddress, destination: SocketAddress, identity: Identity | None, expected: str) -> None:
    """Addresses of one family, else none; the identity as an extension of its own type."""
    assert proxy_header(source, destination, identity).hex() == SIGNATURE + expected
