"""Who listens to a tunnel: one handler for each stream, one owner for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from hostmesh.proxy.failure import Failure
from hostmesh.wire.http2.errors import ErrorCode

if TYPE_CHECKING:
    from hostmesh.proxy.tunnel import Tunnel

Fields = list[tuple[bytes, bytes]]


class StreamHandler(Protocol):
    """What a tunnel tells the owner of one stream. After `reset`, `lost` or `detach` it hears nothing more."""

    def headers(self, fields: Fields, end: bool) -> None:
        """The response."""

    def data(self, views: Sequence[memoryview], size: int, end: bool) -> None:
        """Payload in order; the views are valid during the call. `size` is their sum and may be 0."""

    def reset(self, code: ErrorCode) -> None:
        """The peer reset the stream."""

    def writable(self) -> None:
        """A stream that found no room before may try again."""

    def lost(self, failure: Failure) -> None:
        """The tunnel is gone."""


class TunnelOwner(Protocol):
    """What a tunnel tells whoever made it."""

    def accept_stream(self, tunnel: Tunnel, stream: int, fields: Fields, end: bool) -> None:
        """The peer opened a stream (servers only)."""

    def settled(self, tunnel: Tunnel) -> None:
        """The peer's SETTINGS arrived or changed."""

    def going_away(self, tunnel: Tunnel) -> None:
        """The peer takes no new streams."""

    def stream_ended(self, tunnel: Tunnel) -> None:
        """One stream fewer."""

    def closed(self, tunnel: Tunnel, failure: Failure | None) -> None:
        """The socket is closed; None: in good order."""
