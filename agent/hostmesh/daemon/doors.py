"""Doors: what workers get of other network namespaces: their listeners, and sockets made there.

Beside each worker's control link goes a pair of packet sockets, because descriptors cannot be sent through a stream
that buffers. It ends with main: a worker of the program before keeps the doors it has, and closes them as it drains.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hostmesh.enrolment.namespaces import OpenNamespace
from hostmesh.proxy.stock import LARGEST_BATCH
from hostmesh.wire.proto import doors_pb2 as pb

_log = logging.getLogger("hostmesh.doors")

MAX_QUESTIONS = 256
"""Questions of workers that may wait; one that comes then is answered with nothing."""

MAX_PACKETS = 4096
"""Packets that may wait for a worker; one that reads so slowly loses its doors, and its connections elsewhere live."""

_QUESTION = 64
"""Bytes of the largest question."""

Supply = Callable[[int, bool, int], list[socket.socket]]
"""Makes sockets in the namespace with that id: for IPv6 or not, how many. Blocking; raises OSError."""


@dataclass(frozen=True, slots=True)
class _Packet:
    """`sockets` travel with it and are closed afterwards."""

    body: bytes
    sockets: tuple[socket.socket, ...] = ()

    def drop(self) -> None:
        for sock in self.sockets:
            sock.close()


class _Channel:
    """One worker's packets."""

    def __init__(self, sock: socket.socket, heard: Callable[[_Channel, bytes], None]) -> None:
        self._sock = sock
        self._heard = heard
        self._waiting: deque[_Packet] = deque()
        self.open = True
        asyncio.get_running_loop().add_reader(sock, self._read)

    def send(self, packet: _Packet) -> None:
        self._waiting.append(packet)
        self._write()
        if len(self._waiting) > MAX_PACKETS:
            self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._sock)
            loop.remove_writer(self._sock)
            self._sock.close()
        while self._waiting:
            self._waiting.popleft().drop()

    def _write(self) -> None:
        if not self.open:
            self.close()
            return
        loop = asyncio.get_running_loop()
        while self._waiting:
            packet = self._waiting[0]
            try:
                socket.send_fds(self._sock, [packet.body], [sock.fileno() for sock in packet.sockets])
            except BlockingIOError:
                loop.add_writer(self._sock, self._write)
                return
            except OSError:  # the worker is gone; its link says so
                self.close()
                return
            self._waiting.popleft().drop()
        loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            packet = self._sock.recv(_QUESTION)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet:
            self._heard(self, packet)
        else:
            self.close()


class Doors:
    """Tells every worker of every captured namespace; `run` answers their questions."""

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._channels: list[_Channel] = []
        self._namespaces: dict[int, OpenNamespace] = {}
        self._questions: asyncio.Queue[tuple[_Channel, pb.WantSockets]] = asyncio.Queue(MAX_QUESTIONS)

    def channel(self) -> socket.socket:
        """A new worker's end; it hears of all namespaces."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        channel = _Channel(ours, self._heard)
        self._channels = [*(one for one in self._channels if one.open), channel]
        for namespace in self._namespaces.values():
            channel.send(_opened(namespace))
        return theirs

    def follow(self, namespaces: Iterable[OpenNamespace]) -> None:
        """Tell the workers what has changed; the listeners stay the caller's."""
        wanted = {namespace.id: namespace for namespace in namespaces}
        left = [pb.ToWorker(left=pb.Left(id=gone)) for gone in self._namespaces if gone not in wanted]
        new = [namespace for id_, namespace in wanted.items() if id_ not in self._namespaces]
        self._namespaces = wanted
        for channel in self._channels:
            for message in left:
                channel.send(_Packet(message.SerializeToString()))
            for namespace in new:
                channel.send(_opened(namespace))

    async def run(self) -> None:
        """Have sockets made for workers, until cancelled."""
        try:
            while True:
                channel, question = await self._questions.get()
                sockets: Sequence[socket.socket] = ()
                try:
                    sockets = await asyncio.to_thread(self._supply, question.id, question.ipv6, question.count)
                except OSError as error:
                    _log.error("no sockets in the network namespace of a workload: %s", error)
                _answer(channel, question, sockets)
        finally:
            for channel in self._channels:
                channel.close()

    def _heard(self, channel: _Channel, packet: bytes) -> None:
        try:
            question = pb.WantSockets.FromString(packet)
        except DecodeError:
            channel.close()
            return
        question.count = min(question.count, LARGEST_BATCH)
        if question.id in self._namespaces and not self._questions.full():
            self._questions.put_nowait((channel, question))
        else:
            _answer(channel, question, ())


def _opened(namespace: OpenNamespace) -> _Packet:
    kinds = [kind for kind, _ in namespace.listeners]
    message = pb.ToWorker(opened=pb.Opened(id=namespace.id, number=namespace.number, kinds=kinds))
    # Copies: the packet may wait longer than the listener is there.
    return _Packet(message.SerializeToString(), tuple(sock.dup() for _, sock in namespace.listeners))


def _answer(channel: _Channel, question: pb.WantSockets, sockets: Sequence[socket.socket]) -> None:
    message = pb.ToWorker(supplied=pb.Supplied(id=question.id, ipv6=question.ipv6))
    channel.send(_Packet(message.SerializeToString(), tuple(sockets)))
