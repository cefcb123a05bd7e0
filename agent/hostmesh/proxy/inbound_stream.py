"""InboundStream: one CONNECT at the server's side, from the request to the application.

The order of the checks decides which status a peer sees: 400 for what is no CONNECT to us, 503 for what cannot be
found, 401 for what policies forbid, 503 for an application that does not accept, 200 once it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hostmesh.model.address import SocketAddress
from hostmesh.model.connection import Connection
from hostmesh.model.identity import Identity
from hostmesh.model.workload import Workload
from hostmesh.proxy import failure as failures
from hostmesh.proxy.account import Account
from hostmesh.proxy.connections import OpenConnection
from hostmesh.proxy.context import Context
from hostmesh.proxy.destination import Declined, Destination, local_service, validate_destination
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.locals import Local
from hostmesh.proxy.origin import describe_origin, find_origin
from hostmesh.proxy.proxy_header import proxy_header
from hostmesh.proxy.sockets import LOCAL_ATTEMPTS, Connect
from hostmesh.proxy.splice import Splice
from hostmesh.proxy.tunnel import Fields, Tunnel
from hostmesh.rbac.decide import decide
from hostmesh.telemetry.access_log import End, Parties, early_failure
from hostmesh.telemetry.labels import Peer, traffic_labels
from hostmesh.telemetry.metrics import Traffic
from hostmesh.wire import baggage
from hostmesh.wire.hbone import BadConnect, ConnectRequest, encode_response, parse_connect
from hostmesh.wire.http2.errors import ErrorCode, Http2Error


class Arrival(Protocol):
    """The tunnel's end as its streams see it."""

    context: Context
    local: Local | None
    address: SocketAddress
    local_address: SocketAddress
    identity: Identity | None


@dataclass(frozen=True, slots=True)
class Told:
    """What one peer's connections to one place share: labels and log fields."""

    traffic: Traffic
    parties: Parties


class InboundStream:
    """Handles one stream. Owns the application's socket until a splice does."""

    __slots__ = (
        "_account",
        "_authority",
        "_connect",
        "_context",
        "_destination",
        "_early",
        "_ended",
        "_local",
        "_peer",
        "_peer_ended",
        "_splice",
        "_stream",
        "_traffic",
        "_tunnel",
        "facts",
    )

    def __init__(self, peer: Arrival, tunnel: Tunnel, stream: int) -> None:
        assert peer.local is not None
        self._peer = peer
        self._context = peer.context
        self._local: Local = peer.local
        self._tunnel = tunnel
        self._stream = stream
        self._authority = ""
        self._destination: Destination | None = None
        self.facts = Connection(peer.address, peer.local_address, peer.identity)
        self._account: Account | None = None
        self._traffic: Traffic | None = None
        self._connect: Connect | None = None
        self._splice: Splice | None = None
        self._early: list[memoryview] = []
        self._peer_ended = False
        self._ended = False

    @property
    def workload(self) -> Workload:
        """The destination as it was when the stream was accepted."""
        return self._local.workload

    def begin(self, fields: Fields, end: bool) -> None:
        """Judge the request and connect to the application."""
        context, peer = self._context, self._peer
        self._tunnel.attach(self._stream, self)
        self._peer_ended = end
        # The workload may have been described anew since the tunnel was made.
        self._local = context.locals.by_number(self._local.captured.number) or self._local
        try:
            request = parse_connect(fields)
        except BadConnect as error:
            self._decline(error.status, error.reason)
            return
        self._authority = request.authority
        destination = validate_destination(
            context.state,
            self._local.workload,
            request.authority,
            peer.local_address.ip,
            context.config.illegal_ports,
        )
        if isinstance(destination, Declined):
            self._decline(destination.status, destination.reason)
            return
        self._destination = destination
        self._let_in(request, destination)

    def _let_in(self, request: ConnectRequest, destination: Destination) -> None:
        context, peer = self._context, self._peer
        self.facts = Connection(peer.address, destination.address, peer.identity, context.config.network)
        told = _told(self._peer, self._local, request, destination)
        self._traffic = told.traffic
        self._account = Account(
            context, told.traffic, told.parties, str(peer.address), str(peer.local_address), request.authority
        )
        # Registered before it is judged: a policy that comes later finds it.
        context.connections.add_judged(self)
        verdict = decide(context.connections.policies(self._local.workload), self.facts)
        if not verdict.allowed:
            self._answer_and_end(401, failures.denied(verdict.reason, verdict.policies))
            return
        self._connect = Connect(
            context.loop,
            destination.connect,
            context.config.connect_timeout,
            self._connected,
            context.mark(self._local.captured.number),
            LOCAL_ATTEMPTS,
        )

    def describe(self) -> OpenConnection:
        """For the admin's list."""
        destination = self._destination
        return OpenConnection(
            direction="inbound",
            source=str(self._peer.address),
            original_destination=self._authority,
            actual_destination=str(destination.connect) if destination is not None else "",
            protocol="HBONE",
            workload=self._local.workload.uid,
        )

    def close(self, failure: Failure) -> None:
        """End it now."""
        if self._splice is not None:
            self._splice.abort(failure)
        elif not self._ended:
            self._tunnel.http2.reset_stream(self._stream, ErrorCode.CANCEL)
            self._end(0, 0, failure)

    def _connected(self, connect: Connect, number: int) -> None:
        self._connect = None
        try:
            self._answer(connect, number)
        except Http2Error as error:
            self._tunnel.broken(error)

    def _answer(self, connect: Connect, number: int) -> None:
        if number:
            self._answer_and_end(503, failures.app_connect(number))
            return
        assert self._traffic is not None
        assert self._destination is not None
        if self._destination.proxied is not None:
            connect.sock.send(proxy_header(self._peer.address, self._destination.proxied, self._peer.identity))
        self._tunnel.http2.send_headers(self._stream, self._accepted())
        self._tunnel.wake()
        traffic = self._traffic
        self._splice = Splice(
            self._context.loop, connect.sock, self._tunnel, self._stream, self, traffic.sent, traffic.received
        )
        early, self._early = self._early, []
        self._splice.start(connect.seen, early, peer_ended=self._peer_ended)

    def _accepted(self) -> bytes:
        if not self._context.config.response_baggage:
            return encode_response(200)
        workload = self._local.workload
        return self._context.state.derive(
            ("accepted", workload.uid), lambda: encode_response(200, baggage.encode(workload))
        )

    # While the application is being connected to

    def headers(self, fields: Fields, end: bool) -> None:
        """A second request on one stream: HTTP/2 does not let it through."""
        raise AssertionError(f"headers on a running stream: {fields}, end={end}")

    def data(self, views: Sequence[memoryview], size: int, end: bool) -> None:
        """An eager peer; its window bounds what is kept."""
        if size:
            self._early.append(memoryview(b"".join(views)))
        self._peer_ended = self._peer_ended or end

    def writable(self) -> None:
        """Nothing has been written yet."""

    def reset(self, code: ErrorCode) -> None:
        """The peer does not want it any more."""
        self._end(0, 0, failures.receive(f"stream error received: {code.name}"))

    def lost(self, failure: Failure) -> None:
        """The tunnel died."""
        self._end(0, 0, failure)

    def spliced(self, splice: Splice, failure: Failure | None) -> None:
        """Both ways are done; the socket is closed."""
        self._end(splice.bytes_from_app, splice.bytes_to_app, failure)

    # Ends

    def _decline(self, status: int, reason: str) -> None:
        """Nothing is known that could be counted: only the log says it."""
        record = early_failure(str(self._peer.address), str(self._peer.local_address), "inbound", reason)
        self._context.journal.add(record)
        self._answer_and_end(status, Failure(reason))

    def _answer_and_end(self, status: int, failure: Failure) -> None:
        http2 = self._tunnel.http2
        http2.send_headers(self._stream, encode_response(status), end=True)
        http2.reset_stream(self._stream, ErrorCode.NO_ERROR)
        self._end(0, 0, failure)

    def _end(self, sent: int, received: int, failure: Failure | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._connect is not None:
            self._connect.cancel()
        self._early.clear()
        self._tunnel.detach(self._stream)
        self._context.connections.remove_judged(self)
        if self._account is not None:
            self._account.close(sent, received, failure)


def _told(peer: Arrival, local: Local, request: ConnectRequest, destination: Destination) -> Told:
    """Remembered until the state changes; what peers may vary freely is part of the key and bounded with it."""
    key = (
        "inbound",
        local.workload.uid,
        peer.identity,
        peer.address.ip,
        destination.address.port,
        destination.service.namespaced_hostname if destination.service is not None else request.forwarded_host,
        request.baggage,
        request.network,
    )
    return peer.context.state.derive(key, lambda: _tell(peer, local, request, destination))


def _tell(peer: Arrival, local: Local, request: ConnectRequest, destination: Destination) -> Told:
    context = peer.context
    network = context.config.network
    from_gateway = request.network is not None and request.network.lower() != network.lower()
    known = None if from_gateway else find_origin(context.state, network, peer.address.ip, peer.identity)
    source, source_end = describe_origin(known, peer.identity, baggage.parse([request.baggage]))
    workload = local.workload
    service = destination.service or local_service(
        context.state, workload, destination.address.port, request.forwarded_host
    )
    labels = traffic_labels(
        "destination",
        (source, peer.identity),
        (Peer.of(workload), workload.identity),
        service,
        "mutual_tls",
    )
    parties = Parties.of("inbound", source_end, End(workload, workload.identity), service)
    return Told(context.metrics.traffic(labels), parties)
