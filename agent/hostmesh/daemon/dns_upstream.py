"""Questions of others, passed on to the host's resolvers as they are (resolv.conf(5), RFC 5452)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from hostmesh.model.address import IPAddress, SocketAddress
from hostmesh.wire.dns import (
    MAX_MESSAGE,
    NOTIMP,
    REFUSED,
    SERVFAIL,
    Query,
    answers,
    outcome,
    truncated,
    with_id,
)

_log = logging.getLogger("hostmesh.dns")

STUB = ip_address("127.0.0.53")
"""systemd-resolved's own address; it would ask us about the mesh, so its upstreams are asked instead."""
UPLINKS = Path("/run/systemd/resolve/resolv.conf")
TIMEOUT = 5.0
"""Seconds for one server, as resolv.conf has it."""
ATTEMPTS = 2
FAILURES = frozenset({SERVFAIL, NOTIMP, REFUSED})
"""After which the next server is asked, as the C library does."""


class Unanswered(Exception):
    """No resolver has answered; the text says why."""


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """Where the host's resolvers are written. `own` are addresses of this agent, which never asks itself."""

    file: Path = Path("/etc/resolv.conf")
    uplinks: Path = UPLINKS
    own: frozenset[IPAddress] = frozenset()

    def servers(self) -> tuple[SocketAddress, ...]:
        """Read again each time: networks come and go."""
        found = name_servers(self.file)
        if STUB in found:
            found = name_servers(self.uplinks) or found
        return tuple(SocketAddress(ip, 53) for ip in found if ip not in self.own)


def name_servers(file: Path) -> tuple[IPAddress, ...]:
    """Those of resolv.conf(5); lines that are none are passed over, as the C library does."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    found: list[IPAddress] = []
    for words in map(str.split, lines):
        if len(words) >= 2 and words[0] == "nameserver":
            with suppress(ValueError):
                found.append(ip_address(words[1].partition("%")[0]))
    return tuple(found)


class Upstream:
    """Asks one server after the other.

    Args:
        fixed: those to ask; none means those of `conf`.
        conf: of the host.
        mark: SO_MARK of what leaves, or 0.
        timeout: seconds for one server.
    """

    def __init__(
        self,
        fixed: Sequence[SocketAddress] = (),
        conf: ResolvConf = ResolvConf(),
        mark: int = 0,
        timeout: float = TIMEOUT,
    ) -> None:
        self._fixed = tuple(fixed)
        self._conf = conf
        self._mark = mark
        self._timeout = timeout

    async def ask(self, query: Query, *, tcp: bool) -> bytes:
        """The answer, byte for byte, under the id of the question.

        Raises:
            Unanswered: nobody answers, or there is nobody to ask.
        """
        servers = self._fixed or await asyncio.to_thread(self._conf.servers)
        failure = b""
        why = "there is no name server but this one in resolv.conf"
        for _ in range(ATTEMPTS):
            for server in servers:
                try:
                    async with asyncio.timeout(self._timeout):
                        answer = await (self._over_tcp if tcp else self._over_udp)(query, server)
                except TimeoutError:
                    why = f"{server} does not answer"
                    continue
                except (OSError, asyncio.IncompleteReadError) as error:
                    why = f"{server}: {error}"
                    continue
                whole = with_id(answer, query.message.id)
                whole = whole if tcp else truncated(query, whole)
                if outcome(whole)[0] not in FAILURES:
                    return whole
                failure = failure or whole
            if failure:
                return failure
        raise Unanswered(why)

    async def _over_udp(self, query: Query, server: SocketAddress) -> bytes:
        loop = asyncio.get_running_loop()
        number = secrets.randbelow(1 << 16)
        with self._socket(server, socket.SOCK_DGRAM) as sock:
            sock.connect((str(server.ip), server.port))  # a fresh port for each question: harder to forge
            await loop.sock_sendall(sock, with_id(query.data, number))
            while True:
                answer = await loop.sock_recv(sock, MAX_MESSAGE)
                if answers(answer, query, number):
                    return answer

    async def _over_tcp(self, query: Query, server: SocketAddress) -> bytes:
        loop = asyncio.get_running_loop()
        number = secrets.randbelow(1 << 16)
        with self._socket(server, socket.SOCK_STREAM) as sock:
            await loop.sock_connect(sock, (str(server.ip), server.port))
            data = with_id(query.data, number)
            await loop.sock_sendall(sock, len(data).to_bytes(2, "big") + data)
            length = int.from_bytes(await _exactly(sock, 2), "big")
            answer = await _exactly(sock, length)
        if not answers(answer, query, number):
            raise OSError("the answer is none to the question")
        return answer

    def _socket(self, server: SocketAddress, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET6 if server.ip.version == 6 else socket.AF_INET
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if self._mark:
            with suppress(PermissionError):  # only rules of ours look at it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
        return sock


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise asyncio.IncompleteReadError(data, count)
        data += more
    return data
