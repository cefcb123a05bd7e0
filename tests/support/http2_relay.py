"""A relay in front of our HBONE listener for tools that speak HTTP/2 without TLS and only know how to GET and POST.

It adds the mutual TLS, and makes a CONNECT of every well-formed GET and POST, so that what such a tool says about a
request is said about an open tunnel. It also reduces the header table at the start of every block, as our settings
demand and tools older than RFC 9113 (§4.3.1) do not. Everything else goes through as it is.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Self

import hpack
from tests.support.patience import PATIENCE

from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.headers import TABLE_SIZE_ZERO, encode

_PLAIN = [{b":method": method, b":scheme": b"http", b":path": b"/"} for method in (b"GET", b"POST")]


class Rewriter:
    """What a client says, with CONNECT for GET and POST; sans I/O."""

    def __init__(self, authority: bytes) -> None:
        self._authority = authority
        self._held = bytearray()
        self._preface = True
        self._decoder = hpack.Decoder()

    def feed(self, data: bytes) -> bytes:
        """What is to be sent on now. Frames with a whole header block are held until they are complete."""
        held = self._held
        held += data
        said = bytearray()
        if self._preface:
            if len(held) < len(frames.PREFACE):
                return b""
            said += held[: len(frames.PREFACE)]
            del held[: len(frames.PREFACE)]
            self._preface = False
        while len(held) >= frames.HEADER_SIZE:
            high, low, kind, flags, number = frames.HEADER.unpack_from(held)
            end = frames.HEADER_SIZE + (high << 8 | low)
            if len(held) < end:
                break
            whole = bytes(held[:end])
            del held[:end]
            said += self._rewritten(flags, number, whole) if kind == frames.HEADERS else whole
        return bytes(said)

    def rest(self) -> bytes:
        """A frame that was cut off."""
        return bytes(self._held)

    def _rewritten(self, flags: int, number: int, whole: bytes) -> bytes:
        payload = whole[frames.HEADER_SIZE :]
        start = (1 if flags & frames.PADDED else 0) + (5 if flags & frames.HAS_PRIORITY else 0)
        if 0x20 < payload[start] < 0x40:
            return whole  # what the tool says about its table is its own affair
        if flags & frames.END_HEADERS and not start:
            with contextlib.suppress(hpack.HPACKError):
                payload = encode(self._connect(self._decoder.decode(payload, raw=True)))
        return frames.frame(frames.HEADERS, flags, number, payload[:start] + TABLE_SIZE_ZERO + payload[start:])

    def _connect(self, fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """CONNECT for a GET or POST; otherwise the fields as they are."""
        fields = [(bytes(name), bytes(value)) for name, value in fields]
        given = dict(fields[:4])
        if given.pop(b":authority", None) is None or given not in _PLAIN:
            return fields
        return [(b":method", b"CONNECT"), (b":authority", self._authority), *fields[4:]]


class Relay:
    """Listens on loopback; every connection becomes one to `target` over `tls`."""

    def __init__(self, target: tuple[str, int], tls: ssl.SSLContext, authority: str) -> None:
        self._target = target
        self._tls = tls
        self._authority = authority.encode()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, self._tls.wrap_socket(socket.create_connection(self._target, 10)) as server:
            server.settimeout(None)
            up = threading.Thread(target=self._up, args=(client, server), daemon=True)
            up.start()
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    client.sendall(data)
            # The other thread may wait for the client: what is only closed here stays open there.
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            up.join(PATIENCE)

    def _up(self, client: socket.socket, server: ssl.SSLSocket) -> None:
        rewriter = Rewriter(self._authority)
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(rewriter.feed(data))
            server.sendall(rewriter.rest())
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more; what runs ends with its client."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
