"""A transport that ignores what is written after its end, as asyncio's plain ones do; grpclib counts on that.

asyncio's TLS transport (Python 3.11) raises AttributeError instead. A stream that is ended just when the other side has
closed the connection must not end the program.
"""

from __future__ import annotations

import asyncio
from typing import Any


class LateWrites:
    """Everything else is the transport's own."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def write(self, data: bytes) -> None:
        """Nobody would read it if the transport is closing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the transport has
        return getattr(self._transport, name)
