"""Passthrough: plaintext that arrives at a captured workload (15006), judged without an identity."""

from __future__ import annotations

import _socket

from hostmesh.model.address import SocketAddress
from hostmesh.model.connection import Connection
from hostmesh.model.workload import Workload
from hostmesh.proxy import failure as failures
from hostmesh.proxy.account import Account
from hostmesh.proxy.connections import OpenConnection
from hostmesh.proxy.context import Context
from hostmesh.proxy.destination import local_service
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.inbound_stream import Told
from hostmesh.proxy.locals import Local
from hostmesh.proxy.origin import describe_origin, find_origin
from hostmesh.proxy.relay import Relay
from hostmesh.proxy.sockets import Connect, reset, seen_source
from hostmesh.rbac.decide import decide
from hostmesh.telemetry.access_log import End, Parties, early_failure
from hostmesh.telemetry.labels import Peer, traffic_labels


class Passthrough:
    """Accepts for the plaintext listener."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def accepted(self, sock: _socket.socket, peer: SocketAddress) -> None:
        """A client without HBONE."""
        self._context.metrics.sockets_open["destination"] += 1
        PlaintextConnection(self._context, sock, peer).begin()


class PlaintextConnection:
    """Owns the client's socket until a relay does."""

    __slots__ = (
        "_account",
        "_connect",
        "_context",
        "_destination",
        "_ended",
        "_local",
        "_number",
        "_peer",
        "_relay",
        "_sock",
        "_told",
        "facts",
    )

    def __init__(self, context: Context, sock: _socket.socket, peer: SocketAddress) -> None:
        self._context = context
        self._sock = sock
        self._peer = peer
        self._destination = SocketAddress(peer.ip, 0)
        self.facts = Connection(peer, self._destination)
        self._local: Local | None = None
        self._number = 0
        self._told: Told | None = None
        self._account: Account | None = None
        self._connect: Connect | None = None
        self._relay: Relay | None = None
        self._ended = False

    @property
    def workload(self) -> Workload:
        """The destination as it was when the connection was accepted."""
        assert self._local is not None
        return self._local.workload

    def begin(self) -> None:
        """Find out who is meant."""
        try:
            attributed = self._context.attribution(self._sock)
        except OSError as error:
            self._refuse(f"original destination unknown: {error.strerror}")
            return
        self._destination, self._number = attributed.destination, attributed.number
        if self._destination.port in self._context.config.illegal_ports:
            self._refuse(failures.RECURSIVE_CALL)
            return
        local = self._context.locals.by_number(self._number)
        if local is not None:
            self._with_local(local, "")
        else:
            self._context.locals.wait_for(self._number, self._with_local)

    def describe(self) -> OpenConnection:
        """For the admin's list."""
        return OpenConnection(
            direction="inbound",
            source=str(self._peer),
            original_destination=str(self._destination),
            actual_destination=str(self._destination),
            protocol="TCP",
            workload=self.workload.uid,
        )

    def close(self, failure: Failure) -> None:
        """End it now."""
        if self._relay is not None:
            self._end(self._relay.bytes_down, self._relay.bytes_up, failure)
            self._relay.abort()
        else:
            self._fail(failure)

    def _with_local(self, local: Local | None, reason: str) -> None:
        if local is None:
            self._refuse(reason)
            return
        context = self._context
        self._local = local
        self.facts = Connection(self._peer, self._destination, None, context.config.network)
        key = ("plaintext", local.workload.uid, self._peer.ip, self._destination.port)
        self._told = told = context.state.derive(key, lambda: _tell(context, local, self._peer, self._destination))
        self._account = Account(context, told.traffic, told.parties, str(self._peer), str(self._destination))
        context.connections.add_judged(self)
        verdict = decide(context.connections.policies(local.workload), self.facts)
        self._account.audit(verdict.would_refuse)
        if not verdict.allowed:
            self._fail(failures.denied(verdict.reason, verdict.policies))
            return
        connect = Connect(
            context.loop,
            self._destination,
            context.config.connect_timeout,
            self._connected,
            context.mark(self._number),
            local=True,
            stock=context.stock,
            source=seen_source(context.original_source, self._peer, self._destination),
        )
        if connect.connected:
            self._connected(connect, 0)
        else:
            self._connect = connect

    def _connected(self, connect: Connect, number: int) -> None:
        self._connect = None
        if number:
            self._fail(failures.app_connect(number))
            return
        assert self._told is not None
        traffic = self._told.traffic
        self._relay = Relay(self._context.loop, self._sock, connect.sock, self._relayed, traffic.received, traffic.sent)
        self._relay.start()

    def _relayed(self, failure: Failure | None) -> None:
        assert self._relay is not None
        self._end(self._relay.bytes_down, self._relay.bytes_up, failure)

    def _refuse(self, reason: str) -> None:
        """Nothing is known that could be counted: only the log says it."""
        self._context.journal.add(early_failure(str(self._peer), str(self._destination), "inbound", reason))
        self._fail(Failure(reason))

    def _fail(self, failure: Failure) -> None:
        if self._ended:
            return
        if self._connect is not None:
            self._connect.cancel()
        reset(self._context.loop, self._sock)
        self._end(0, 0, failure)

    def _end(self, sent: int, received: int, failure: Failure | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._context.metrics.sockets_open["destination"] -= 1
        self._context.connections.remove_judged(self)
        if self._account is not None:
            self._account.close(sent, received, failure)


def _tell(context: Context, local: Local, peer: SocketAddress, destination: SocketAddress) -> Told:
    workload = local.workload
    known = find_origin(context.state, context.config.network, peer.ip, None)
    source, source_end = describe_origin(known, None, None)
    service = local_service(context.state, workload, destination.port, None)
    labels = traffic_labels("destination", (source, None), (Peer.of(workload), workload.identity), service, "unknown")
    parties = Parties.of("inbound", source_end, End(workload, None), service)
    return Told(context.metrics.traffic(labels), parties)
