"""Connection: a gRPC connection that keeps how it ended, and that what is said after its end does no harm.

That our certificate is not accepted shows after the handshake (TLS 1.3), as an end before anything was heard.
"""

from __future__ import annotations

import asyncio
from typing import cast

from grpclib.client import Handler
from grpclib.config import Configuration
from grpclib.protocol import H2Protocol
from h2.config import H2Configuration

from hostmesh.rpc.late_writes import LateWrites


class Connection(H2Protocol):
    """`heard` if the peer has said anything, `lost` is what asyncio gave as the reason of the end, once `ended`."""

    heard = False
    lost: BaseException | None = None

    def __init__(self, config: Configuration, h2_config: H2Configuration) -> None:
        super().__init__(Handler(), config, h2_config)
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Guarded from here on."""
        super().connection_made(cast("asyncio.BaseTransport", LateWrites(transport)))

    def data_received(self, data: bytes) -> None:
        """The peer speaks."""
        self.heard = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keep why."""
        self.lost = exc
        super().connection_lost(exc)
        self.ended.set()
