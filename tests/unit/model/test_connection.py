"""The facts that policies judge."""

from __future__ import annotations

from hostmesh.model.address import SocketAddress
from hostmesh.model.connection import Connection


def test_plaintext_has_no_identity() -> None:
    """Absence is None, never an empty identity that a pattern could match."""
    connection = Connection(SocketAddress.parse("10.0.0.1:40000"), SocketAddress.parse("10.0.0.2:80"))
    assert connection.source_identity is None
    assert connection.network == ""
