"""InboundStream: one CONNECT at the server's side, from the request to the application.

The order of the checks decides which status a peer sees: 400 for what is no CONNECT to us, 503 for what cannot be
found, 401 for what policies forbid, 503 for an application that does not accept, 200 once it has.
"""

from __future__ import annotations

import errno
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
from hostmesh.proxy.handlers import Fields
from hostmesh.proxy.locals import Local, Shared
from hostmesh.proxy.origin import describe_origin, find_origin
from hostmesh.proxy.proxy_header import proxy_header
from hostmesh.proxy.sockets import Connect, reset, seen_source
from hostmesh.proxy.splice import Splice
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.proxy.upstream import Unknown
from hostmesh.rbac.decide import Verdict, decide
from hostmesh.telemetry.access_log import End, Parties, early_failure
from hostmesh.telemetry.labels import Peer, traffic_labels
from hostmesh.telemetry.metrics import Traffic
from hostmesh.telemetry.reasons import reason_of
from hostmesh.wire import baggage
from hostmesh.wire.hbone import (
    BadConnect,
    ConnectRequest,
    encode_hosts_port,
    encode_refusal,
    encode_response,
    parse_connect,
)
from hostmesh.wire.http2.errors import ErrorCode, Http2Error

MAX_KNOWN = 256
"""Places that one tunnel's requests may name before what was worked out for them is forgotten."""


class Arrival(Protocol):
    """The tunnel's end as its streams see it. `known` is theirs to keep, for one generation of the state."""

    context: Context
    local: Local | Shared | None
    address: SocketAddress
    address_text: str
    local_address: SocketAddress
    local_text: str
    identity: Identity | None
    known: dict[tuple[str, str, str | None, str | None], Place]
    known_at: int


@dataclass(frozen=True, slots=True)
class Told:
    """What one peer's connections to one place share: labels and log fields."""

    traffic: Traffic
    parties: Parties


@dataclass(frozen=True, slots=True)
class Place:
    """Where one peer's requests with one authority lead, and whether they may: the same until the state changes."""

    local: Local
    destination: Destination
    facts: Connection
    verdict: Verdict
    told: Told
    accepted: bytes


class InboundStream:
    """Handles one stream. Owns the application's socket until a splice does."""

    __slots__ = (
        "_account",
        "_authority",
        "_connect",
        "_context",
        "_denied",
        "_early",
        "_ended",
        "_peer",
        "_peer_ended",
        "_place",
        "_splice",
        "_stream",
        "_tunnel",
    )

    def __init__(self, peer: Arrival, tunnel: Tunnel, stream: int) -> None:
        self._peer = peer
        self._context = peer.context
        self._tunnel = tunnel
        self._stream = stream
        self._authority = ""
        self._place: Place | None = None
        self._account: Account | None = None
        self._connect: Connect | None = None
        self._splice: Splice | None = None
        self._denied: Failure | None = None
        self._early: list[memoryview] = []
        self._peer_ended = False
        self._ended = False

    @property
    def facts(self) -> Connection:
        """What policies judge."""
        assert self._place is not None
        return self._place.facts

    @property
    def workload(self) -> Workload:
        """The destination as it was when the stream was accepted."""
        assert self._place is not None
        return self._place.local.workload

    def begin(self, fields: Fields, end: bool) -> None:
        """Take the request."""
        self._tunnel.attach(self._stream, self)
        self._peer_ended = end
        try:
            request = parse_connect(fields)
        except BadConnect as error:
            self._decline(error.status, error.reason)
            return
        self._authority = request.authority
        place = _place(self._peer, request)
        if isinstance(place, Unknown):
            self._context.demand.wait_for(place.name, lambda _, reason: self._heard(request, reason))
        else:
            self._take(place)

    def _heard(self, request: ConnectRequest, reason: str) -> None:
        """It is known whose the address is, or it is not said."""
        if self._ended:
            return
        place = Declined(503, reason) if reason else _place(self._peer, request)
        if isinstance(place, Unknown):
            place = Declined(503, f"it is not known whose {place.name} is")
        try:
            self._take(place)
        except Http2Error as error:
            self._tunnel.broken(error)

    def _take(self, place: Place | Declined) -> None:
        """Judge the request and connect to the application."""
        if isinstance(place, Declined):
            self._decline(place.status, place.reason)
            return
        context, peer = self._context, self._peer
        self._place = place
        self._account = Account(
            context, place.told.traffic, place.told.parties, peer.address_text, peer.local_text, self._authority
        )
        context.connections.add_judged(self)
        self._account.audit(place.verdict.would_refuse)
        if not place.verdict.allowed:
            self._denied = failures.denied(place.verdict.reason, place.verdict.policies)
            if not self._perhaps_hosts:
                self._answer_and_end(401, self._denied)
                return
        connect = Connect(
            context.loop,
            place.destination.connect,
            context.config.connect_timeout,
            self._connected,
            context.mark(place.local.captured.number),
            local=True,
            stock=context.stock,
            source=seen_source(context.original_source, self._peer.address, place.destination.connect),
        )
        if connect.connected:
            self._connected(connect, 0)
        else:
            self._connect = connect

    def describe(self) -> OpenConnection:
        """For the admin's list."""
        assert self._place is not None
        return OpenConnection(
            direction="inbound",
            source=self._peer.address_text,
            original_destination=self._authority,
            actual_destination=str(self._place.destination.connect),
            protocol="HBONE",
            workload=self._place.local.workload.uid,
        )

    def close(self, failure: Failure) -> None:
        """End it now."""
        if self._splice is not None:
            self._splice.abort(failure)
        elif not self._ended:
            self._tunnel.abandon(self._stream, ErrorCode.CANCEL)
            self._end(0, 0, failure)

    def _connected(self, connect: Connect, number: int) -> None:
        self._connect = None
        try:
            self._answer(connect, number)
        except Http2Error as error:
            self._tunnel.broken(error)

    @property
    def _perhaps_hosts(self) -> bool:
        """Whether the port may be that of a service of the host that is no workload: then the guard says so.

        In a network namespace of its own a workload has no neighbours.
        """
        place, context = self._place, self._context
        return (
            place is not None and not context.namespace and place.destination.connect.port in context.locals.host_ports
        )

    def _answer(self, connect: Connect, number: int) -> None:
        if number == errno.ECONNREFUSED and self._perhaps_hosts:
            self._answer_and_end(503, failures.HOSTS_PORT, encode_hosts_port())
            return
        if self._denied is not None:
            if not number:
                reset(self._context.loop, connect.sock)
            self._answer_and_end(401, self._denied)
            return
        if number:
            self._answer_and_end(503, failures.app_connect(number))
            return
        place = self._place
        assert place is not None
        if place.destination.proxied is not None:
            connect.sock.send(proxy_header(self._peer.address, place.destination.proxied, self._peer.identity))
        self._tunnel.hold.answer(self._stream, place.accepted, self._tunnel.wake)
        traffic = place.told.traffic
        self._splice = Splice(
            self._context.loop, connect.sock, self._tunnel, self._stream, self, traffic.sent, traffic.received
        )
        early, self._early = self._early, []
        self._splice.start(connect.seen, early, peer_ended=self._peer_ended)

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
        record = early_failure(self._peer.address_text, self._peer.local_text, "inbound", reason)
        self._context.journal.add(record)
        self._answer_and_end(status, Failure(reason))

    def _answer_and_end(self, status: int, failure: Failure, block: bytes | None = None) -> None:
        block = block or encode_refusal(status, reason_of(failure.error, failure.flags).name)
        self._tunnel.http2.send_headers(self._stream, block, end=True)
        self._tunnel.abandon(self._stream, ErrorCode.NO_ERROR)
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


def _place(peer: Arrival, request: ConnectRequest) -> Place | Declined | Unknown:
    """Remembered for the tunnel until the state changes: the first request of a kind pays for the others."""
    state = peer.context.state
    if peer.known_at != state.generation or len(peer.known) >= MAX_KNOWN:
        peer.known.clear()
        peer.known_at = state.generation
    key = (request.authority, request.baggage, request.forwarded_host, request.network)
    place = peer.known.get(key)
    if place is not None:
        return place
    found = _find_place(peer, request)
    if isinstance(found, Place):
        peer.known[key] = found
    return found


def _find_place(peer: Arrival, request: ConnectRequest) -> Place | Declined | Unknown:
    context = peer.context
    meant = _meant(peer, request.authority)
    if isinstance(meant, Declined):
        return meant
    # The workload may have been described anew since the tunnel was made.
    local = context.locals.by_number(meant.captured.number)
    if local is None or local.captured != meant.captured:
        return Declined(503, f"workload {meant.captured.key} is not captured any more")
    workload = local.workload
    destination = validate_destination(
        context.state, workload, request.authority, peer.local_address.ip, context.config.illegal_ports
    )
    if isinstance(destination, Declined | Unknown):
        return destination
    facts = Connection(peer.address, destination.address, peer.identity, context.config.network)
    return Place(
        local,
        destination,
        facts,
        decide(context.connections.policies(workload), facts),
        _tell(peer, local, request, destination),
        encode_response(200, baggage.encode(workload) if context.config.response_baggage else ""),
    )


def _meant(peer: Arrival, authority: str) -> Local | Declined:
    """Whom a request is for; where a certificate names several, the only one of them with a service at the port.

    A port that no service leads to is nobody's here, whoever listens: the peer could not tell whom it talks to.
    """
    assert peer.local is not None
    if isinstance(peer.local, Local):
        return peer.local
    state, config = peer.context.state, peer.context.config
    serving = []
    for local in peer.context.locals.at(peer.local.ip):
        found = validate_destination(state, local.workload, authority, peer.local_address.ip, config.illegal_ports)
        if isinstance(found, Destination) and local_service(state, local.workload, found.address.port, None):
            serving.append(local)
    if len(serving) == 1:
        return serving[0]
    ip = peer.local_address.ip
    return Declined(503, f"the peer named no server, and no single workload of {ip} has a service at {authority}")


def _tell(peer: Arrival, local: Local, request: ConnectRequest, destination: Destination) -> Told:
    context = peer.context
    network = context.config.network
    from_gateway = request.network is not None and request.network.lower() != network.lower()
    known = None if from_gateway else find_origin(context.state, network, peer.address.ip, peer.identity)
    stated = [request.baggage] if context.config.response_baggage else []
    source, source_end = describe_origin(known, peer.identity, baggage.parse(stated))
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
