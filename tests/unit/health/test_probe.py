"""Probes against real listeners and commands."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.support.addresses import free_port

from hostmesh.health.probe import answer, request, run_probe
from hostmesh.model.health import ExecProbe, HttpProbe, TcpProbe


def probe_server(answered: bytes, probe: type[TcpProbe | HttpProbe], timeout: float = 5.0) -> str:
    async def main() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await reader.read(4096)
                writer.write(answered)
                if not answered:
                    await reader.read()  # to the end: the prober gives up
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await run_probe(probe(server.sockets[0].getsockname()[1]), timeout)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("answered", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 302 Found\r\n\r\n", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP status 503"),
        (b"HTTP/1.1 404\r\n", "HTTP status 404"),
        (b"SSH-2.0-x\r\n", "the answer is not HTTP/1"),
        (b"HTTP/1.1 2", "bytes read"),
        (b"x" * 9000, "limit"),
    ],
)
def test_http(answered: bytes, why: str) -> None:
    """200 to 399 is healthy; nonsense, and too much of it, is not."""
    assert why in probe_server(answered, HttpProbe)
    assert bool(probe_server(answered, HttpProbe)) == bool(why)


def test_who_says_nothing_is_not_waited_for() -> None:
    """The time-out is the probe's."""
    assert probe_server(b"", HttpProbe, 0.1) == "no answer within 0.1 s"


def test_tcp() -> None:
    """Accepting is enough."""
    assert probe_server(b"", TcpProbe) == ""
    assert "refused" in asyncio.run(run_probe(TcpProbe(free_port()), 5.0)).lower()


@pytest.mark.parametrize(
    ("script", "timeout", "why"),
    [("true", 50.0, ""), ("exit 3", 50.0, "/bin/sh ended with 3"), ("sleep 60", 0.3, "no answer within 0.3 s")],
)
def test_exec(script: str, timeout: float, why: str) -> None:
    """A command that hangs is killed with all that it started."""
    assert asyncio.run(run_probe(ExecProbe(("/bin/sh", "-c", script)), timeout)) == why


def test_a_command_that_is_not_there_is_a_failure() -> None:
    """And not an error of the prober."""
    assert asyncio.run(run_probe(ExecProbe(("/no/such/command",)), 5.0)) == "No such file or directory"


def test_the_request_is_what_the_check_says() -> None:
    """Headers replace our own."""
    probe = HttpProbe(8080, "::1", "/healthz?x=1", (("host", "web"), ("X-Probe", "1")))
    assert request(probe) == (
        b"GET /healthz?x=1 HTTP/1.1\r\nUser-Agent: hostmesh-probe\r\nConnection: close\r\n"
        b"host: web\r\nX-Probe: 1\r\n\r\n"
    )
    assert b"Host: [::1]:8080\r\n" in request(HttpProbe(8080, "::1"))


def test_a_status_is_three_digits() -> None:
    """Anything else is not HTTP."""
    assert answer(b"HTTP/1.1 OK\r\n") == "the answer is not HTTP/1"
