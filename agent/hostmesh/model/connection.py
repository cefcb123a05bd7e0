"""Connection: the facts of one L4 connection that policies are judged on."""

from __future__ import annotations

from dataclasses import dataclass

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity


@dataclass(frozen=True, slots=True)
class Connection:
    """`destination` is the application's address after port mapping, never 15008.

    `source_identity` is None for plaintext.
    """

    source: SocketAddress
    destination: SocketAddress
    source_identity: Identity | None = None
    network: str = ""
