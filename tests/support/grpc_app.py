"""A gRPC server whose messages are plain bytes, and a gRPC call over a connection that somebody else has made."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import grpclib.const
from grpclib.encoding.base import CodecBase
from grpclib.server import Server, Stream
from tests.support.patience import PATIENCE

Answer = Callable[[bytes, Mapping[str, str]], bytes]
"""Message and metadata in, message out; raises GRPCError."""


class RawCodec(CodecBase):
    """Messages as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002 - the base has it
        """Bytes."""
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:  # noqa: ARG002 - as above
        """Bytes."""
        return bytes(data)


@dataclass(frozen=True, slots=True)
class Called:
    """A call as the server saw it."""

    path: str
    message: bytes
    metadata: dict[str, str]


class GrpcApp:
    """Answers unary calls of the given paths, in a thread of its own, over HTTP/2 without TLS."""

    def __init__(self, ip: str, methods: Mapping[str, Answer]) -> None:
        self.ip = ip
        self.called: queue.SimpleQueue[Called] = queue.SimpleQueue()
        self._methods = methods
        self._socket = socket.create_server((ip, 0))
        self.port: int = self._socket.getsockname()[1]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        """What grpclib asks a service for."""
        unary = grpclib.const.Cardinality.UNARY_UNARY
        return {
            path: grpclib.const.Handler(self._handler(path, answer), unary, bytes, bytes)
            for path, answer in self._methods.items()
        }

    def next(self) -> Called:
        """The next call, waited for."""
        return self.called.get(timeout=PATIENCE)

    def close(self) -> None:
        """Cut every connection."""
        self._stop.set()
        self._thread.join(PATIENCE)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _handler(self, path: str, answer: Answer) -> Callable[[Stream[bytes, bytes]], Any]:
        async def handle(stream: Stream[bytes, bytes]) -> None:
            message = await stream.recv_message()
            metadata = {name: str(value) for name, value in (stream.metadata or {}).items()}
            self.called.put(Called(path, message or b"", metadata))
            await stream.send_message(answer(message or b"", metadata))

        return handle

    async def _serve(self) -> None:
        server = Server([self], codec=RawCodec())
        await server.start(sock=self._socket)
        while not self._stop.is_set():
            await asyncio.sleep(0.02)
        server.close()
        await server.wait_closed()
