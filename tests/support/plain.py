"""Plain: a TLS engine without TLS."""

from __future__ import annotations

from typing import Any


class Plain:
    """An engine that leaves bytes as they are, and refuses to keep more than one piece of them."""

    ended = False
    alpn = "h2"
    cipher = version = ""

    def __init__(self) -> None:
        self.peer_chain: list[bytes] = []
        self._out = memoryview(b"")

    def _never(self, *_: Any, **__: Any) -> None:
        raise AssertionError("the peer says nothing")

    feed = lend = feed_eof = _never

    def handshake(self) -> bool:
        return True

    def read_into(self, _: memoryview) -> int:
        return 0

    def write(self, data: memoryview) -> None:
        assert not len(self._out), "encrypted while something waits that was encrypted before"
        self._out = memoryview(bytes(data))

    def pending_out(self) -> memoryview:
        return self._out

    def sent(self, n: int) -> None:
        self._out = self._out[n:]

    def close(self) -> None:
        """It has no words for it."""
