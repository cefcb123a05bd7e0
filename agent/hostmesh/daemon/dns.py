"""The agent's DNS server: names of services from the mesh's state, everything else from the host's resolvers.

It runs in main, on asyncio: the byte path is not concerned. Who asks is told by the address that was asked: captured
workloads have one each (`redirect/dns_plan`), all others are the host.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType
from typing import Any

from hostmesh.daemon.dns_metrics import DnsMetrics
from hostmesh.daemon.dns_upstream import Unanswered, Upstream
from hostmesh.daemon.name_demand import NameDemand
from hostmesh.dns.answer import Client, meant, resolve
from hostmesh.dns.names import is_within
from hostmesh.dns.shares import Shares
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

MAX_WAITING = 512
"""Questions that wait for a resolver or the control plane, of all clients; one more is told to come back."""
MAX_CONNECTIONS = 256
"""Of all clients."""
MAX_DATAGRAMS = 64
"""Read in one turn of the loop."""
Sender = tuple[Any, ...]

Place = IPAddress | str
"""An address of this host, or the name of sockets elsewhere."""
Door = tuple[Client, socket.socket, socket.socket]
"""Who asks there; datagrams, and a listener."""
_NOBODY: Mapping[str, Door] = MappingProxyType({})

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
        gate: opens what captures questions on this host; it is closed when they are not answered any more.
        demand: asks for names where only a part of the mesh is known.
    """

    def __init__(
        self,
        state: MeshState,
        upstream: Upstream,
        metrics: DnsMetrics,
        settings: DnsSettings,
        host: Client,
        known: Callable[[], bool] = lambda: True,
        gate: Callable[[], socket.socket] | None = None,
        demand: NameDemand | None = None,
    ) -> None:
        self._state = state
        self._upstream = upstream
        self._metrics = metrics
        self._settings = settings
        self._host = host
        self._known = known
        self._doors: dict[Place, Door] = {}
        self._demand = demand
        self._wanted: Mapping[IPAddress, Client] = {}
        self._inside: Mapping[str, Door] = {}
        self._make_gate = gate
        self._gate: socket.socket | None = None
        self._changed = asyncio.Event()
        self._waiting = Shares(MAX_WAITING)
        self._connections = Shares(MAX_CONNECTIONS)
        self.problem = ""

    def follow(self, captured: Mapping[IPAddress, Client], inside: Mapping[str, Door] = _NOBODY) -> None:
        """Listen for these workloads, each at its own address, and for the host.

        Args:
            captured: by address.
            inside: sockets in other network namespaces, which stay the caller's, by a name that no other ones get.
        """
        self._wanted, self._inside = captured, inside
        self._changed.set()

    async def run(self, host: Sequence[IPAddress]) -> None:
        """Serve at the host's addresses and those of captured workloads until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                running: dict[Place, list[asyncio.Task[None]]] = {}
                while True:
                    self._changed.clear()
                    wanted: dict[Place, Client] = dict.fromkeys(host, self._host)
                    wanted.update((address, client) for address, client in self._wanted.items())
                    wanted.update((name, door[0]) for name, door in self._inside.items())
                    for place in [one for one in running if one not in wanted or self._doors[one][0] != wanted[one]]:
                        for task in running.pop(place):
                            task.cancel()
                        self._close(place)
                    self.problem = ""
                    for place, client in wanted.items():
                        if place not in running and self._open(place, client):
                            running[place] = self._serve(place, tasks)
                    self._see_to_gate()
                    await self._changed.wait()
        finally:
            self._close_gate()
            for address in list(self._doors):
                self._close(address)

    def _see_to_gate(self) -> None:
        """It is open while somebody's questions are captured and everybody is answered."""
        if not self._wanted or self.problem:
            self._close_gate()
        elif self._gate is None and self._make_gate is not None:
            try:
                self._gate = self._make_gate()
            except OSError as error:
                self.problem = f"questions of workloads are not captured: {error.strerror or error}"
                _log.error("%s", self.problem)

    def _close_gate(self) -> None:
        if self._gate is not None:
            self._gate.close()
            self._gate = None

    def _open(self, place: Place, client: Client) -> bool:
        if isinstance(place, str):
            return self._open_inside(place)
        return self._open_here(place, client)

    def _open_inside(self, name: str) -> bool:
        client, *theirs = self._inside[name]
        made: list[socket.socket] = []
        try:
            made += (sock.dup() for sock in theirs)
        except OSError:  # closed meanwhile, and so gone from the next `follow`
            for sock in made:
                sock.close()
            return False
        for sock in made:
            sock.setblocking(False)
        self._doors[name] = client, made[0], made[1]
        return True

    def _open_here(self, address: IPAddress, client: Client) -> bool:
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

    def _close(self, place: Place) -> None:
        _, datagrams, listener = self._doors.pop(place)
        datagrams.close()
        listener.close()

    def _serve(self, address: Place, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
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
                self._metrics.asked(query.type_name, "udp", client)
                own = self._own_answer(query, client, query.limit) if not self._missing(query, client) else None
                if own is not None:
                    _send(sock, own, sender)
                elif not self._waiting.take(client):
                    _send(sock, _too_many(query, client), sender)
                else:
                    tasks.create_task(self._answer_datagram(sock, query, client, sender), name="DNS question")
            await asyncio.sleep(0)

    async def _answer_datagram(self, sock: socket.socket, query: Query, client: Client, sender: Sender) -> None:
        _send(sock, await self._answer(query, client, query.limit, "udp"), sender)

    async def _accept(self, listener: socket.socket, client: Client, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            if not self._connections.take(client):
                connection.close()
                continue
            tasks.create_task(self._converse(connection, client), name="DNS connection")

    async def _converse(self, connection: socket.socket, client: Client) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_MESSAGE + 2)
        except OSError:
            connection.close()
            self._connections.give_back(client)
            return
        try:
            while await self._exchange(reader, writer, client):
                pass
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()  # what it does not read is kept no longer
        finally:
            writer.close()
            self._connections.give_back(client)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: Client) -> bool:
        """One question and its answer; False when nothing more is to be said to this client."""
        async with asyncio.timeout(IDLE):
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        query = parse_query(data)
        reply = query.reply if isinstance(query, Refused) else await self._answer_stream(query, client)
        if not reply:
            return False
        writer.write(len(reply).to_bytes(2, "big") + reply)
        async with asyncio.timeout(IDLE):
            await writer.drain()
        return True

    async def _answer_stream(self, query: Query, client: Client) -> bytes:
        self._metrics.asked(query.type_name, "tcp", client)
        own = self._own_answer(query, client, MAX_MESSAGE) if not self._missing(query, client) else None
        if own is not None:
            return own
        if not self._waiting.take(client):
            return _too_many(query, client)
        return await self._answer(query, client, MAX_MESSAGE, "tcp")

    async def _answer(self, query: Query, client: Client, limit: int, protocol: str) -> bytes:
        """What the mesh says once it is known, else the host's resolvers; gives back what the question holds."""
        try:
            if missing := self._missing(query, client):
                assert self._demand is not None
                if not await self._demand.ask(missing) and is_within(query.name, self._settings.domains):
                    return status(query, SERVFAIL)  # nobody else may say that it is not there
            own = self._own_answer(query, client, limit)
            return own if own is not None else await self._forward(query, client, protocol)
        finally:
            self._waiting.give_back(client)

    def _missing(self, query: Query, client: Client) -> Sequence[str]:
        """Names that the question may mean, and of which nobody has said yet whether a service has them."""
        if self._demand is None or not (query.type in (A, AAAA) or is_within(query.name, self._settings.domains)):
            return ()
        return self._demand.missing(meant(query.name, client, self._settings.domain))

    def _own_answer(self, query: Query, client: Client, limit: int) -> bytes | None:
        """What the mesh itself says; None is for others to say."""
        found = None
        if query.type in (A, AAAA):
            version = 6 if query.type == AAAA else 4
            settings = self._settings
            found = resolve(self._state, client, query.name, version, domain=settings.domain, ipv6=settings.ipv6)
        if found is not None:
            _tell(query, client, found.service, "success" if found.addresses else "no records")
            drawn = random.sample(found.addresses, len(found.addresses))  # what has no room is another one each time
            return answer(query, drawn, found.alias, limit)
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
        began = monotonic()
        try:
            data = await self._upstream.ask(query, tcp=protocol == "tcp")
        except Unanswered as error:
            _tell(query, client, "", f"forwarding failed ({error})")
            self._metrics.forwarded(query.type_name, protocol, client, monotonic() - began, failed=True)
            return status(query, SERVFAIL)
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


def _too_many(query: Query, client: Client) -> bytes:
    _tell(query, client, "", "too many questions of this client wait already")
    return status(query, SERVFAIL)


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
