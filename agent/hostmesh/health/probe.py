"""One probe: a connection, a request or a command, and why it failed. Bounded in time and in what it reads."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from contextlib import suppress

from hostmesh.model.health import ExecProbe, HttpProbe, TcpProbe

_MAX_LINE = 4096
_MAX_SAID = 200


async def run_probe(probe: TcpProbe | HttpProbe | ExecProbe, timeout: float) -> str:  # noqa: ASYNC109 -- it is part of the verdict
    """Why it failed; empty if it did not."""
    try:
        async with asyncio.timeout(timeout):
            match probe:
                case TcpProbe():
                    return await _tcp(probe)
                case HttpProbe():
                    return await _http(probe)
                case ExecProbe():
                    return await _exec(probe)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        number = getattr(error, "errno", None)
        return (os.strerror(number) if number else str(error))[:_MAX_SAID]


async def _tcp(probe: TcpProbe) -> str:
    _, writer = await asyncio.open_connection(probe.host, probe.port)
    await _close(writer)
    return ""


async def _http(probe: HttpProbe) -> str:
    context = _unverified() if probe.tls else None
    reader, writer = await asyncio.open_connection(probe.host, probe.port, ssl=context, limit=_MAX_LINE)
    try:
        writer.write(request(probe))
        await writer.drain()
        return answer(await reader.readuntil(b"\n"))
    finally:
        await _close(writer)


def request(probe: HttpProbe) -> bytes:
    """What is sent."""
    given = {name.lower() for name, _ in probe.headers}
    host = f"[{probe.host}]" if ":" in probe.host else probe.host
    own = [("Host", f"{host}:{probe.port}"), ("User-Agent", "hostmesh-probe"), ("Connection", "close")]
    fields = [*(field for field in own if field[0].lower() not in given), *probe.headers]
    lines = [f"GET {probe.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(line: bytes) -> str:
    """Why a status line does not say that all is well; empty if it does."""
    version, _, rest = line.decode("latin-1").strip().partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdigit():
        return "the answer is not HTTP/1"
    return "" if 200 <= int(status) < 400 else f"HTTP status {status}"


async def _exec(probe: ExecProbe) -> str:
    process = await asyncio.create_subprocess_exec(
        *probe.command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too
        await process.wait()
    return "" if code == 0 else f"{probe.command[0]} ended with {code}"


async def _close(writer: asyncio.StreamWriter) -> None:
    """At once: a probe has nothing to say in the end."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
