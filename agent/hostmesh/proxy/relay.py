"""Relay: two plain TCP connections joined (passthrough, and plaintext that arrives at a captured workload).

Each direction ends on its own: FIN goes on as FIN. What breaks before its end, by a reset or because a peer is gone
without a word, resets both: half an answer must not look like a whole. A reset after its own end says only that this
side takes no more.
"""

from __future__ import annotations

import _socket
import errno
from collections.abc import Callable

from hostmesh.proxy.failure import Failure, relayed
from hostmesh.proxy.sockets import DONTWAIT, DONTWAIT_NOSIGNAL, TOOK_NO_MORE, error_of, reset
from hostmesh.telemetry.metrics import Counter
from hostmesh.transport.loop import BROKEN, PEER_SHUT, READABLE, WRITABLE, Loop
from hostmesh.transport.scratch import shared

CHUNK = 1 << 18
"""Bytes moved at once through the process's one scratch buffer; also the most that waits for one blocked reader."""

MOVES_PER_EVENT = 16
"""Chunks moved in one direction before other connections get their turn."""

_READ = READABLE | PEER_SHUT | BROKEN
_scratch = shared(CHUNK)


class _Direction:
    """Bytes from `source` to `sink`."""

    __slots__ = ("broken", "counter", "ended", "fault", "moved", "pending", "refused", "sink", "source")

    def __init__(self, source: _socket.socket, sink: _socket.socket, counter: Counter | None) -> None:
        self.source = source
        self.sink = sink
        self.counter = counter
        self.moved = 0
        self.pending: memoryview | None = None
        self.ended = False
        self.broken = 0
        """The error instead of an end."""
        self.fault = 0
        """What the source is known to suffer from; what it sent before is still to be read."""
        self.refused = 0
        """The error of a sink that takes no more."""

    def pump(self) -> bool:
        """Move what can be moved; False when more may be there, because a turn's share is used up."""
        for _ in range(MOVES_PER_EVENT):
            if self.ended:
                return True
            if self.pending is not None:
                data, n = self.pending, len(self.pending)
            else:
                try:
                    n = self.source.recv_into(_scratch, 0, DONTWAIT)
                except BlockingIOError:
                    return True
                except OSError as error:
                    self._break(error.errno or errno.EIO)
                    return True
                if not n:
                    if self.fault:
                        self._break(self.fault)
                    else:
                        self._end()
                    return True
                data = _scratch[:n]
            if not self._write(data):
                return True
        return self.ended

    def _write(self, data: memoryview) -> bool:
        """Whether the sink took all of it."""
        try:
            n = self.sink.send(data, DONTWAIT_NOSIGNAL)
        except BlockingIOError:
            n = 0
        except OSError as error:
            self.pending = None
            self.ended = True
            self.refused = error.errno or errno.EIO
            return True
        self.moved += n
        if self.counter is not None:
            self.counter.value += n
        if n == len(data):
            self.pending = None
            return True
        self.pending = data[n:] if self.pending is not None else memoryview(bytes(data[n:]))
        return False

    def _break(self, number: int) -> None:
        self.ended = True
        self.broken = number

    def _end(self) -> None:
        self.ended = True
        try:
            self.sink.shutdown(_socket.SHUT_WR)
        except OSError:
            return  # it has reset its connection meanwhile and needs no FIN


class Relay:
    """Owns both sockets until the end.

    Args:
        loop: the worker's.
        client: who connected; not registered yet.
        server: who was connected to; registered by the connect, watched for writing.
        done: called once when both sockets are closed, with what went wrong.
        from_client: counts bytes.
        to_client: counts bytes.
    """

    __slots__ = ("_client", "_done", "_down", "_loop", "_server", "_up")

    def __init__(
        self,
        loop: Loop,
        client: _socket.socket,
        server: _socket.socket,
        done: Callable[[Failure | None], None],
        from_client: Counter | None = None,
        to_client: Counter | None = None,
    ) -> None:
        self._loop = loop
        self._client = client
        self._server = server
        self._done: Callable[[Failure | None], None] | None = done
        self._up = _Direction(client, server, from_client)
        self._down = _Direction(server, client, to_client)

    @property
    def bytes_up(self) -> int:
        """Bytes that went from the client to the server."""
        return self._up.moved

    @property
    def bytes_down(self) -> int:
        """Bytes that went from the server to the client."""
        return self._down.moved

    def start(self) -> None:
        """Begin to carry."""
        self._loop.register(self._client.fileno(), self._client_ready)
        self._loop.replace_handler(self._server.fileno(), self._server_ready)
        self._pump(self._up)
        self._pump(self._down)

    def abort(self) -> None:
        """End it now, both ways, visibly."""
        self._cut(None)

    def _cut(self, failure: Failure | None) -> None:
        if self._done is not None:
            reset(self._loop, self._client)
            reset(self._loop, self._server)
            self._finish(failure)

    def _client_ready(self, mask: int) -> None:
        self._move(self._up, self._down, mask)

    def _server_ready(self, mask: int) -> None:
        self._move(self._down, self._up, mask)

    def _move(self, reading: _Direction, writing: _Direction, mask: int) -> None:
        if mask & WRITABLE and writing.pending is not None:
            self._pump(writing)
        if mask & _READ:
            self._pump(reading)
        if mask & BROKEN and reading.ended and not writing.ended:
            # What would be written to it has no reader.
            writing.pending = None
            writing.ended = True
            writing.refused = error_of(writing.sink)
            self._pump(writing)

    def _pump(self, direction: _Direction) -> None:
        if self._done is None:
            return
        if not direction.pump():
            self._loop.call_later(0, lambda: self._pump(direction))
        elif direction.broken:
            self._cut(relayed(direction.broken, upwards=direction is self._up))
        elif direction.refused:
            self._refused(direction, self._down if direction is self._up else self._up)
        elif direction.pending is not None:
            self._loop.watch_writable(direction.sink.fileno())
        self._close_if_done()

    def _refused(self, direction: _Direction, back: _Direction) -> None:
        number, direction.refused = direction.refused, 0
        if number not in TOOK_NO_MORE:
            self._cut(relayed(number, upwards=direction is self._up))
        elif not back.ended:
            back.fault = number
            self._pump(back)

    def _close_if_done(self) -> None:
        if self._done is not None and self._up.ended and self._down.ended:
            self._loop.close_later(self._client)
            self._loop.close_later(self._server)
            self._finish(None)

    def _finish(self, failure: Failure | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(failure)
