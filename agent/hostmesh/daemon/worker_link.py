"""Main's end of the socket pair to one proxy worker, new or taken over from the program before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from google.protobuf.message import DecodeError

from hostmesh.daemon.frames import MAX_FROM_WORKER, FrameReader, FrameTooLarge, frame
from hostmesh.kernel.process import Child
from hostmesh.wire.proto import worker_pb2 as pb

HEARTBEAT_TIMEOUT = 20.0
"""A worker beats every second; one that is silent this long is stuck and is replaced."""

MAX_QUEUED = 512 << 20
"""Bytes waiting for a worker that does not read; above it the worker is replaced."""

Handle = Callable[["WorkerLink", pb.FromWorker], None]


class WorkerLink(asyncio.Protocol):
    """One running worker: its process, and what it last reported. `connect` makes one.

    It is fed by the transport and not by a stream, so that at any moment nothing but the beginning of one frame is
    held here: that is what makes it possible to hand the socket over.
    """

    def __init__(self, index: int, process: Child, handle: Handle, partial_frame: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        self.index = index
        self.process = process
        self.ready = False
        self.draining = False
        self.report = pb.Report()
        self.slices = pb.Report()
        self.waiting: dict[int, asyncio.Future[pb.Report]] = {}
        self._handle = handle
        self._frames = FrameReader(MAX_FROM_WORKER)
        self._partial_frame = partial_frame
        self._heard = loop.time()
        self._ended: asyncio.Future[str] = loop.create_future()
        self._written = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    async def connect(self, ours: socket.socket) -> None:
        """Begin to read and write; the link owns the socket from now on."""
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    def send(self, message: pb.ToWorker) -> None:
        """Queue a message; a worker that does not read is killed rather than waited for."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > MAX_QUEUED:
            self.process.kill()
            return
        self._transport.write(frame(message))

    async def lost(self) -> str:
        """Wait until the worker is gone, stuck or speaks nonsense; which of them, empty when it is gone."""
        loop = asyncio.get_running_loop()
        while True:
            patience = self._heard + HEARTBEAT_TIMEOUT - loop.time()
            if patience <= 0:
                return f"no sign of life for {HEARTBEAT_TIMEOUT:.0f} s"
            done, _ = await asyncio.wait([self._ended], timeout=patience)
            if done:
                return self._ended.result()

    async def written(self) -> None:
        """Wait until everything queued so far is in the socket."""
        await self._written.wait()

    def detach(self) -> tuple[int, bytes]:
        """Read and write nothing more: the socket's descriptor, and the beginning of a frame that was read.

        What the worker sends from now on waits in the socket for whoever has the descriptor.
        """
        assert self._transport is not None
        if self._transport.is_reading():
            self._transport.pause_reading()
        sock = cast("socket.socket", self._transport.get_extra_info("socket"))
        return sock.fileno(), self._frames.rest

    def attach(self) -> None:
        """Undo `detach`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def take_report(self, piece: pb.Report) -> None:
        """Put a report together, slice by slice; whoever waits for it gets the whole."""
        if piece.id != self.slices.id:
            self.slices = pb.Report(id=piece.id)
        self.slices.MergeFrom(piece)
        if not piece.more:
            self.report, self.slices = self.slices, pb.Report()
            future = self.waiting.pop(self.report.id, None)
            if future is not None and not future.done():
                future.set_result(self.report)

    def close(self) -> None:
        """Give the socket up and answer those who wait for a report with the last one."""
        for future in self.waiting.values():
            if not future.done():
                future.set_result(self.report)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it; every byte above none counts as not yet written."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._written.set()
        partial, self._partial_frame = self._partial_frame, b""
        self.data_received(partial)

    def data_received(self, data: bytes) -> None:
        """Handle the messages that are complete now."""
        self._heard = asyncio.get_running_loop().time()
        try:
            for body in self._frames.feed(data):
                self._handle(self, pb.FromWorker.FromString(body))
        except (FrameTooLarge, DecodeError) as error:
            self._end(f"spoke nonsense: {error}")

    def pause_writing(self) -> None:
        """The socket is full."""
        self._written.clear()

    def resume_writing(self) -> None:
        """All is written."""
        self._written.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker has closed its end."""
        self._written.set()
        self._end(str(exc) if exc is not None else "")

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
