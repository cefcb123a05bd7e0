"""A worker's end of its doors: listeners in other network namespaces come and go, sockets made there come."""

from __future__ import annotations

import socket

from hostmesh.proxy.server import ProxyServer
from hostmesh.proxy.stock import LARGEST_BATCH
from hostmesh.transport.loop import Loop
from hostmesh.wire.proto import doors_pb2 as pb

_PACKET = 512
"""Bytes of the largest packet."""


class DoorsLink:
    """Owns the packet socket. When main is gone, nothing new comes and whoever waits for a socket is told."""

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        self._sock = sock
        self._loop = loop
        self._server: ProxyServer | None = None
        self._numbers: dict[int, int] = {}
        self._ids: dict[int, int] = {}
        self._open = True

    def begin(self, server: ProxyServer) -> None:
        """The mesh is known: accept in other namespaces too, from now on."""
        if self._server is None:
            self._server = server
            self._sock.setblocking(False)
            self._loop.register(self._sock.fileno(), self._ready)
            self._ready(0)

    def want_sockets(self, namespace: int, ipv6: bool, count: int) -> None:
        """Ask main; the server is answered in any case."""
        question = pb.WantSockets(id=self._ids.get(namespace, 0), ipv6=ipv6, count=count)
        try:
            self._sock.send(question.SerializeToString())
        except OSError:  # main is gone, or does not read
            self._loop.call_later(0, lambda: self._supply(namespace, [], ipv6=ipv6))

    def _ready(self, mask: int) -> None:
        del mask
        while self._open:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._sock, _PACKET, LARGEST_BATCH)
            except BlockingIOError:
                return
            except OSError:
                packet, descriptors = b"", []
            if not packet:
                self._open = False
                self._loop.close_later(self._sock)
                return
            self._apply(pb.ToWorker.FromString(packet), [socket.socket(fileno=fd) for fd in descriptors])

    def _apply(self, message: pb.ToWorker, sockets: list[socket.socket]) -> None:
        assert self._server is not None
        kind = message.WhichOneof("message")
        if kind == "opened":
            opened = message.opened
            self._numbers[opened.id] = opened.number
            self._ids[opened.number] = opened.id
            for name, sock in zip(opened.kinds, sockets, strict=True):
                self._server.set_listener(name, sock, opened.number)
        elif kind == "left":
            number = self._numbers.pop(message.left.id)
            self._ids.pop(number, None)
            self._server.leave_namespace(number)
        elif kind == "supplied":
            number = self._numbers.get(message.supplied.id, 0)
            self._supply(number, sockets, ipv6=message.supplied.ipv6)

    def _supply(self, number: int, sockets: list[socket.socket], *, ipv6: bool) -> None:
        assert self._server is not None
        self._server.put_sockets(number, sockets, ipv6=ipv6)
