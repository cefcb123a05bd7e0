"""The doors' HTTP/1.1 server, spoken to byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE

from hostmesh.admin import server
from hostmesh.admin.app import ANY, GET, App, BadRequest, Request, Response, Route, encoding, parse
from hostmesh.admin.server import serving

LARGE = "hostmesh " * 100_000


async def _hello(request: Request) -> Response:
    return Response(f"hello {request.query.get('name', 'you')}\n")


async def _large(_: Request) -> Response:
    return Response(LARGE)


async def _broken(_: Request) -> Response:
    raise LookupError("nobody knows")


APP = App(Route("/hello", ANY, _hello), Route("/large", GET, _large), Route("/broken", GET, _broken), compresses=True)


async def say(*parts: bytes, app: App = APP, end: bool = True) -> bytes:
    """What the door answers to these bytes until it closes, or until it has answered after they have ended."""
    async with serving(app, ["127.0.0.1"], 0, "test") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in parts:
            writer.write(part)
            await writer.drain()
        if end:
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET /hello HTTP/1.0\r\n\r\n", b"200"),
        (b"GET http://a/hello HTTP/1.1\r\nHost: b\r\n\r\n", b"200"),
        (b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"200"),
        (b"POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"200"),
        (b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"POST /large HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
        (b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n", b"500"),
        (b"GET /hello HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /hello HTTP/1.1\r\nHost: [\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"404"),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2 * server.MAX_HEAD + b"\r\n\r\n", b"431"),
        (
            b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + bytes(70_000),
            b"400",
        ),
        (b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", b"400"),
        (b"GET /hello", b"400"),
    ],
)
def test_what_is_asked_and_what_is_nonsense(sent: bytes, status: bytes) -> None:
    """Everything that is no request is told so, and the connection ends."""
    answer = asyncio.run(say(sent))
    assert answer.split(b" ", 2)[1] == status


def test_a_connection_carries_one_request_after_the_other() -> None:
    """Also those that come before their predecessors are answered, in whatever pieces they come."""
    first, second = (f"GET /hello?name={name} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for name in ("a%20b", "c"))
    answer = asyncio.run(say(first[:9], first[9:] + second))
    assert [line for line in answer.split(b"\r\n") if line.startswith(b"hello")] == [
        b"hello a b\nHTTP/1.1 200 OK",
        b"hello c\n",
    ]


def test_a_client_that_asks_for_the_end_gets_it() -> None:
    """`Connection: close` ends the connection after the answer."""
    answer = asyncio.run(say(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", end=False))
    assert answer.endswith(b"hello you\n")


def test_head_has_no_body() -> None:
    """But its length."""
    answer = asyncio.run(say(b"HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert f"content-length: {len(LARGE)}".encode() in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("accepted", "undone"), [("gzip, br", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_large_body_is_compressed(accepted: str, undone: object) -> None:
    """In a thread, and whole."""
    asked = f"GET /large HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepted}\r\n\r\n".encode()
    answer = asyncio.run(say(asked))
    assert callable(undone)
    assert undone(answer.partition(b"\r\n\r\n")[2]) == LARGE.encode()


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [("", ""), ("gzip", "gzip"), ("deflate, GZIP;q=0.5", "gzip"), ("gzip;q=0, deflate", "deflate"), ("br, zstd", "")],
)
def test_encoding(accepted: str, chosen: str) -> None:
    """Of what is accepted, gzip first."""
    assert encoding(accepted) == chosen


@pytest.mark.parametrize(
    ("sent", "timeout"),
    [
        (b"", "IDLE_TIMEOUT"),
        (b"GET /hel", "HEAD_TIMEOUT"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", "HEAD_TIMEOUT"),
    ],
)
def test_who_does_not_finish_a_request_is_cut_off(sent: bytes, timeout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stats door is open to everybody: neither silence nor half a request holds a connection."""
    monkeypatch.setattr(server, timeout, 0.05)
    assert asyncio.run(say(sent, end=False)) == b""


def test_a_request_that_comes_byte_by_byte_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is counted from its first byte, so that nobody holds a connection by dripping."""
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 0.3)

    async def run() -> int:
        async with serving(APP, ["127.0.0.1"], 0, "test") as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            ended = asyncio.get_running_loop().create_task(reader.read())
            dripped = 0
            while not ended.done() and dripped < 100:
                writer.write(b"G")
                dripped += 1
                await asyncio.wait([ended], timeout=0.05)
            writer.transport.abort()
            await asyncio.wait([ended])
            return dripped

    assert asyncio.run(run()) < 100


def test_more_connections_than_a_door_has_room_for_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are answered once others end, and take nothing until then."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)

    async def run() -> bytes:
        async with serving(APP, ["127.0.0.1"], 0, "test") as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /hello HTTP/1.0\r\n\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.1)
            silent[0][1].close()
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            for _, other in (*silent, (reader, writer)):
                other.close()
            return answer

    assert asyncio.run(run()).endswith(b"hello you\n")


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def until_cut_off() -> None:
    """A connection of the door has begun, and has ended."""
    for ended in (False, True):
        while any(task.get_name() == "test connection" for task in asyncio.all_tasks()) == ended:
            await asyncio.sleep(0.01)


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer does not wait for ever, and its socket is not kept for what was written of it."""
    monkeypatch.setattr(server, "WRITE_TIMEOUT", 0.05)

    async def huge(_: Request) -> Response:
        return Response(bytes(64 << 20))

    async def run() -> None:
        async with serving(App(Route("/", GET, huge)), ["127.0.0.1"], 0, "test") as port:
            before = descriptors()
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            try:
                async with asyncio.timeout(PATIENCE):
                    await until_cut_off()
                    while descriptors() > before + 1:  # the client's
                        await asyncio.sleep(0.01)
            finally:
                writer.transport.abort()

    asyncio.run(run())


def test_an_answer_on_its_way_is_finished_and_not_waited_for_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that closes lets go as soon as nobody is being answered."""
    monkeypatch.setattr(server, "LAST_ANSWERS", 60.0)
    asked = asyncio.Event()

    async def slow(_: Request) -> Response:
        asked.set()
        await asyncio.sleep(0.1)
        return Response("done\n")

    async def run() -> bytes:
        async with asyncio.timeout(PATIENCE):
            async with serving(App(Route("/", GET, slow)), ["127.0.0.1"], 0, "test") as port:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await asked.wait()
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(run()).endswith(b"done\n")


def test_only_a_target_is_parsed() -> None:
    """An IPv6 host keeps no brackets, and a port is no part of it."""
    request = parse("GET", "/a%2Fb?reset&level=a=b", {"host": "[::1]:15000"})
    assert (request.path, request.query, request.host) == ("/a/b", {"reset": "", "level": "a=b"}, "::1")
    with pytest.raises(BadRequest):
        parse("GET", "http://[", {})
