"""The agent's DNS server: names of services from the mesh's state, everything else from the host's resolvers.

It runs in main, on asyncio: the byte path is not concerned. Who asks is told by the address that was asked: captured
workloads have one each (`redirect/dns_plan`), all others are the host.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from hostmesh.daemon.dns_metrics import DnsMetrics
from hostmesh.daemon.dns_upstream import Unanswered, Upstream
from hostmesh.dns.answer import Client, resolve
from hostmesh.dns.names import is_within
from hostmesh.model.address import IPAddress
from hostmesh.state.store import MeshState
from hostmesh.wire.dns import (
    AAAA,
    MAX_MESSAGE,
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    A,
    Query,
    Refused,
    answer,
    outcome,
    parse_query,
    status,
)

_log = logging.getLogger("hostmesh.dns")

MAX_FORWARDED = 512
"""Questions that wait for a resolver; one more is told to come back."""
MAX_CONNECTIONS = 256
MAX_DATAGRAMS = 64
"""Read in one turn of the loop."""
Sender = tuple[Any, ...]

IDLE = 5.0
"""Seconds that a connection may be silent (ztunnel's)."""


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """`domain` is the cluster's; for `domains` nobody else is asked where the host's resolver sends them to us."""

    domain: str = "cluster.local"
    domains: tuple[str, ...] = ("svc.cluster.local",)
    port: int = 15053
    ipv6: bool = True


class DnsServer:
    """Owns its sockets; `run` serves until cancelled.

    Args:
        state: the mesh's.
        upstream: where other names are asked for.
        metrics: counts.
        settings: of this host.
        host: the client that the host itself is.
        known: whether the mesh is known; before that it cannot be said what is no name of it.
    """

    def __init__(
        self,
        state: MeshState,
        upstream: Upstream,
        metrics: DnsMetrics,
        settings: DnsSettings,
        host: Client,
        known: Callable[[], bool] = lambda: True,
    ) -> None:
        self._state = state
        self._upstream = upstream
        self._metrics = metrics
        self._settings = settings
        self._host = host
        self._known = known
        self._doors: dict[IPAddress, tuple[Client, socket.socket, socket.socket]] = {}
        self._wanted: Mapping[IPAddress, Client] = {}
        self._changed = asyncio.Event()
        self._forwarded = 0
        self._connections = 0
        self.problem = ""

    def follow(self, captured: Mapping[IPAddress, Client]) -> None:
        """Listen for these workloads, each at its own address, and for the host."""
        self._wanted = captured
        self._changed.set()

    async def run(self, host: Sequence[IPAddress]) -> None:
        """Serve at the host's addresses and those of captured workloads until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                running: dict[IPAddress, list[asyncio.Task[None]]] = {}
                while True:
                    self._changed.clear()
                    wanted = {**dict.fromkeys(host, self._host), **self._wanted}
                    for address in [one for one in running if one not in wanted or self._doors[one][0] != wanted[one]]:
                        for task in running.pop(address):
                            task.cancel()
                        self._close(address)
                    self.problem = ""
                    for address, client in wanted.items():
                        if address not in running and self._open(address, client):
                            running[address] = self._serve(address, tasks)
                    await self._changed.wait()
        finally:
            for address in list(self._doors):
                self._close(address)

    def _open(self, address: IPAddress, client: Client) -> bool:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        made: list[socket.socket] = []
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                made.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
                sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)  # the link of split DNS may come later
                sock.bind((str(address), self._settings.port))
            made[1].listen(MAX_CONNECTIONS)
        except OSError as error:
            for sock in made:
                sock.close()
            self.problem = f"names are not answered at {address} port {self._settings.port}: {error.strerror}"
            _log.error("%s; next: ss -lunp 'sport = :%d'", self.problem, self._settings.port)
            return False
        self._doors[address] = client, made[0], made[1]
        return True

    def _close(self, address: IPAddress) -> None:
        _, datagrams, listener = self._doors.pop(address)
        datagrams.close()
        listener.close()

    def _serve(self, address: IPAddress, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        client, datagrams, listener = self._doors[address]
        return [
            tasks.create_task(self._datagrams(datagrams, client, tasks), name=f"DNS over UDP at {address}"),
            tasks.create_task(self._accept(listener, client, tasks), name=f"DNS over TCP at {address}"),
        ]

    async def _datagrams(self, sock: socket.socket, client: Client, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(MAX_DATAGRAMS):
                try:
                    data, sender = await loop.sock_recvfrom(sock, MAX_MESSAGE)
                except OSError as error:
                    _log.debug("a client went away: %s", error)
                    continue
                query = parse_query(data)
                if isinstance(query, Refused):
                    _send(sock, query.reply, sender)
                    continue
                own = self._own_answer(query, client, query.limit, "udp")
                if own is not None:
                    _send(sock, own, sender)
                elif self._forwarded >= MAX_FORWARDED:
                    _send(sock, status(query, SERVFAIL), sender)
                else:
                    tasks.create_task(self._forward_datagram(sock, query, client, sender), name="DNS question")
            await asyncio.sleep(0)

    async def _forward_datagram(self, sock: socket.socket, query: Query, client: Client, sender: Sender) -> None:
        _send(sock, await self._forward(query, client, "udp"), sender)

    async def _accept(self, listener: socket.socket, client: Client, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            if self._connections >= MAX_CONNECTIONS:
                connection.close()
                continue
            self._connections += 1
            tasks.create_task(self._converse(connection, client), name="DNS connection")

    async def _converse(self, connection: socket.socket, client: Client) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_MESSAGE + 2)
        except OSError:
            connection.close()
            self._connections -= 1
            return
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer, client):
                    pass
        finally:
            writer.close()
            self._connections -= 1

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client) -> bool:
        """One question and its answer; False when nothing more is to be said to this client."""
        async with asyncio.timeout(IDLE):
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        query = parse_query(data)
        reply = query.reply if isinstance(query, Refused) else await self._answer(query, client)
        if not reply:
            return False
        writer.write(len(reply).to_bytes(2, "big") + reply)
        async with asyncio.timeout(IDLE):
            await writer.drain()
        return True

    async def _answer(self, query: Query, client: Client) -> bytes:
        own = self._own_answer(query, client, MAX_MESSAGE, "tcp")
        if own is not None:
            return own
        if self._forwarded >= MAX_FORWARDED:
            return status(query, SERVFAIL)
        return await self._forward(query, client, "tcp")

    def _own_answer(self, query: Query, client: Client, limit: int, protocol: str) -> bytes | None:
        """What the mesh itself says; None is for others to say."""
        self._metrics.asked(query.type_name, protocol, client)
        found = None
        if query.type in (A, AAAA):
            version = 6 if query.type == AAAA else 4
            settings = self._settings
            found = resolve(self._state, client, query.name, version, domain=settings.domain, ipv6=settings.ipv6)
        if found is not None:
            _tell(query, client, found.service, "success" if found.addresses else "no records")
            return answer(query, found.addresses, found.alias, limit)
        if client is self._host and is_within(query.name, self._settings.domains):
            # the host's resolver has sent it to us: to ask it would be a circle
            _tell(query, client, "", "no such service")
            return self._denied(query, client)
        return None

    def _denied(self, query: Query, client: Client) -> bytes:
        """A name of the mesh's own domain: it is there if a service has it, whatever was asked about it."""
        if not self._known():
            return status(query, SERVFAIL)
        known = resolve(self._state, client, query.name, 4, domain=self._settings.domain) is not None
        return status(query, NOERROR if known else NXDOMAIN, authoritative=True)

    async def _forward(self, query: Query, client: Client, protocol: str) -> bytes:
        self._forwarded += 1
        began = monotonic()
        try:
            data = await self._upstream.ask(query, tcp=protocol == "tcp")
        except Unanswered as error:
            _tell(query, client, "", f"forwarding failed ({error})")
            self._metrics.forwarded(query.type_name, protocol, client, monotonic() - began, failed=True)
            return status(query, SERVFAIL)
        finally:
            self._forwarded -= 1
        rcode, has_records = outcome(data)
        failed = rcode != NOERROR or not has_records
        self._metrics.forwarded(query.type_name, protocol, client, monotonic() - began, failed=failed)
        _tell(query, client, "", "forwarded")
        return data


_IP_FREEBIND = 15


def _send(sock: socket.socket, data: bytes, receiver: Sender) -> None:
    if data:
        with suppress(OSError):  # full, or the client is gone: it asks again
            sock.sendto(data, receiver)


def _tell(query: Query, client: Client, service: str, result: str) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug(
            "src.workload=%s src.namespace=%s query=%s domain=%s service=%s result=%s",
            client.workload or "-",
            client.namespace,
            query.type_name,
            query.name,
            service or "-",
            result,
        )
