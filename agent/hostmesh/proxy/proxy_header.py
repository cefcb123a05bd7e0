"""PROXY protocol version 2, as a sandwiched application gets it (proxy-protocol.txt §2.2; Istio's TLV 0xD0)."""

from __future__ import annotations

import struct

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_2_PROXY = 0x21
_TCP_OVER = {4: 0x11, 6: 0x21}
_UNSPECIFIED = 0x01
_SPIFFE_ID = 0xD0


def proxy_header(source: SocketAddress, destination: SocketAddress, identity: Identity | None) -> bytes:
    """The bytes in front of the payload; without addresses where the two are of different families."""
    if source.ip.version == destination.ip.version:
        family = _TCP_OVER[source.ip.version]
        addresses = source.ip.packed + destination.ip.packed + struct.pack("!HH", source.port, destination.port)
    else:
        family, addresses = _UNSPECIFIED, b""
    value = str(identity).encode() if identity is not None else b""
    extension = struct.pack("!BH", _SPIFFE_ID, len(value)) + value if value else b""
    body = addresses + extension
    return _SIGNATURE + struct.pack("!BBH", _VERSION_2_PROXY, family, len(body)) + body
