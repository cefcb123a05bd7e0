"""An HTTP/1.1 server for the agent's doors: h11 says what bytes mean, asyncio moves them.

A whole web framework would be an eighth of main's memory, for a dozen paths.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import h11

from hostmesh.admin.app import App, BadRequest, Request, Response, encoding, parse

_log = logging.getLogger("hostmesh.admin")

MAX_HEAD = 8 << 10
"""Bytes of a request's line and headers, as with ztunnel."""

MAX_BODY = 64 << 10
"""Bytes of a body, which no path reads."""

MAX_CONNECTIONS = 128
"""Of one door; the stats door is open to everybody, and who comes later waits in the listener's queue."""

HEAD_TIMEOUT = 10.0
"""Seconds for a request, once it has begun."""

IDLE_TIMEOUT = 75.0
"""Seconds a connection is kept for the next request: longer than scrapers wait between two."""

WRITE_TIMEOUT = 30.0
"""Seconds for the client to read an answer; then it is not reading."""

LAST_ANSWERS = 0.5
"""Seconds that answers get which are on their way when the door closes."""

COMPRESSED_ELSEWHERE = 1 << 16
"""Bytes of an answer that a thread compresses, so that the loop goes on."""

_CHUNK = 1 << 16
_READ = 4 << 10


class PortInUse(OSError):
    """A door could not be opened; the message names the port and the next step."""


@asynccontextmanager
async def serving(
    app: App, hosts: list[str], port: int, purpose: str, kept: dict[str, socket.socket] | None = None
) -> AsyncIterator[int]:
    """Serve until the context ends; yields the port (the kernel's choice if `port` is 0).

    Args:
        app: what answers.
        hosts: IP addresses.
        port: for all of them.
        purpose: for messages.
        kept: listeners that are open already, by `ip:port`; those that are opened here are added to it.

    Raises:
        PortInUse: another program has the port.
    """
    kept = {} if kept is None else kept
    listeners = bound(hosts, port, purpose, kept)
    door = _Door(app, purpose)
    failure: Exception | None = None  # raised in the group it would come out wrapped, and callers name what they expect
    async with asyncio.TaskGroup() as tasks:
        accepting = [tasks.create_task(door.run(listener), name=f"{purpose} door") for listener in listeners]
        try:
            yield listeners[0].getsockname()[1]
        except Exception as error:  # noqa: BLE001 -- raised below
            failure = error
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_ANSWERS):
                    await door.quiet.wait()
            for task in accepting:
                task.cancel()
            for listener in listeners:
                listener.close()
    if failure is not None:
        raise failure


class _Door:
    """All connections to one app; `quiet` is set while none of them is being answered."""

    def __init__(self, app: App, purpose: str) -> None:
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._app = app
        self._purpose = purpose
        self._busy = 0
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    async def run(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._room.acquire()
                try:
                    sock, _ = await loop.sock_accept(listener)
                except BaseException as error:
                    self._room.release()
                    if not isinstance(error, OSError):
                        raise
                    _log.warning("%s door: a connection could not be accepted: %s", self._purpose, error)
                    await asyncio.sleep(1)  # out of descriptors, as a rule
                    continue
                tasks.create_task(self._serve(sock), name=f"{self._purpose} connection")

    async def _serve(self, sock: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                await self._converse(_Peer(reader, writer))
            except BaseException:
                writer.transport.abort()  # what it does not read is kept no longer
                raise
            finally:
                writer.close()
        except (OSError, TimeoutError):
            pass  # the client is gone, or does not read
        finally:
            self._room.release()

    async def _converse(self, peer: _Peer) -> None:
        while True:
            try:
                request = await peer.request()
            except (BadRequest, h11.RemoteProtocolError) as error:
                hint = getattr(error, "error_status_hint", 400)
                await peer.send(Response(f"{error}\n", status=hint), head_only=False, compresses=False, accepted="")
                return
            if request is None:
                return
            self._busy += 1
            self.quiet.clear()
            try:
                again = await peer.send(
                    await self._answer(request),
                    head_only=request.method == "HEAD",
                    compresses=self._app.compresses,
                    accepted=request.headers.get("accept-encoding", ""),
                )
            finally:
                self._busy -= 1
                if not self._busy:
                    self.quiet.set()
            if not again:
                return

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._app.answer(request)
        except Exception as error:  # noqa: BLE001 -- one path's mistake must not end the agent
            _log.exception("%s door: %s %s failed", self._purpose, request.method, request.path)
            return Response(f"{type(error).__name__}: {error}\n", status=500)


class _Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def request(self) -> Request | None:
        """The next one, or none if there will not be one.

        Raises:
            BadRequest: what came is none.
            h11.RemoteProtocolError: what came is not even HTTP.
            TimeoutError: it does not come to an end.
        """
        first = await self._first()
        if first is None:
            return None
        body = 0
        async with asyncio.timeout(HEAD_TIMEOUT):
            while not isinstance(event := await self._next(), h11.EndOfMessage):
                if isinstance(event, h11.ConnectionClosed):
                    return None
                body += len(event.data) if isinstance(event, h11.Data) else 0
                if body > MAX_BODY:
                    raise BadRequest("no path takes a body that large")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in first.headers}
        return parse(first.method.decode("ascii"), first.target.decode("ascii"), headers)

    async def send(self, response: Response, *, head_only: bool, compresses: bool, accepted: str) -> bool:
        """Send an answer; whether another request may follow."""
        body, headers = response.content, dict(response.headers)
        if compresses and (chosen := encoding(accepted)):
            large = len(body) > COMPRESSED_ELSEWHERE
            body = await asyncio.to_thread(_compressed, body, chosen) if large else _compressed(body, chosen)
            headers["Content-Encoding"] = chosen
        if compresses:
            headers["Vary"] = "Accept-Encoding"
        headers |= {"Content-Type": response.content_type, "Content-Length": str(len(body))}
        if not self._is_in(h11.SERVER, h11.IDLE, h11.SEND_RESPONSE):
            return False
        async with asyncio.timeout(WRITE_TIMEOUT):
            reason = HTTPStatus(response.status).phrase.encode()
            self._write(h11.Response(status_code=response.status, headers=list(headers.items()), reason=reason))
            for at in range(0, 0 if head_only else len(body), _CHUNK):
                self._write(h11.Data(data=body[at : at + _CHUNK]))
                await self._writer.drain()
            self._write(h11.EndOfMessage())
            await self._writer.drain()
        if not (self._is_in(h11.SERVER, h11.DONE) and self._is_in(h11.CLIENT, h11.DONE)):
            return False
        self._http.start_next_cycle()
        return True

    async def _first(self) -> h11.Request | None:
        """The head of the next request: its first byte may take long, its last one may not."""
        begun = False
        async with asyncio.timeout(IDLE_TIMEOUT) as limit:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    return event
                if event is not h11.NEED_DATA:
                    return None
                data = await self._reader.read(_READ)
                if data and not begun:
                    begun = True
                    limit.reschedule(asyncio.get_running_loop().time() + HEAD_TIMEOUT)
                self._http.receive_data(data)

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ))
        return event

    def _is_in(self, who: type[h11.SERVER | h11.CLIENT], *states: object) -> bool:
        return self._http.states[who] in states

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)


def _compressed(body: bytes, chosen: str) -> bytes:
    """By zlib: its wrapper is what HTTP calls deflate, 31 asks for gzip's."""
    packer = zlib.compressobj(wbits=31 if chosen == "gzip" else 15)
    return packer.compress(body) + packer.flush()


def bound(hosts: list[str], port: int, purpose: str, kept: dict[str, socket.socket]) -> list[socket.socket]:
    """A door's listeners, opened where `kept` has none yet; nobody accepts from new ones.

    Raises:
        PortInUse: another program has the port.
    """
    for host in hosts:
        name = f"{host}:{port}"
        if name not in kept:
            kept[name] = _listen(host, port, purpose)
    return [kept[f"{host}:{port}"] for host in hosts]


def _listen(host: str, port: int, purpose: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(MAX_CONNECTIONS)
    except OSError as error:
        sock.close()
        why = f"{purpose} cannot listen on port {port}: {error.strerror}; see who has it: ss -ltnp 'sport = :{port}'"
        raise PortInUse(error.errno, why) from error
    return sock
