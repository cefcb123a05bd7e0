"""Outbound: connections of captured workloads, redirected here (15001), on their way to the next hop."""

from __future__ import annotations

import _socket
from collections.abc import Sequence

from hostmesh.kernel.sockets import local_address
from hostmesh.model.address import SocketAddress
from hostmesh.proxy import failure as failures
from hostmesh.proxy.account import Account
from hostmesh.proxy.ahead import send_ahead
from hostmesh.proxy.connections import OpenConnection
from hostmesh.proxy.context import Context
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.handlers import Fields
from hostmesh.proxy.locals import Local
from hostmesh.proxy.nested import Nested, tell_beyond
from hostmesh.proxy.pool import Pool
from hostmesh.proxy.prepared import Beyond, Prepared
from hostmesh.proxy.relay import Relay
from hostmesh.proxy.route import Refused, Unknown, Unresolved
from hostmesh.proxy.routes import Routes
from hostmesh.proxy.sockets import Connect, reset
from hostmesh.proxy.splice import Splice
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.telemetry.access_log import Parties, early_failure
from hostmesh.telemetry.metrics import Traffic
from hostmesh.transport.timers import Timer
from hostmesh.wire import hbone
from hostmesh.wire.hbone import BadResponse, encode_connect, forwarded, new_traceparent
from hostmesh.wire.http2.errors import ErrorCode

MAX_TRIES = 3
"""Tunnels that one connection is tried on when peers go away before they look at it."""

MAX_LOOKUPS = 8
"""Hostnames and addresses that one connection waits for, one after the other."""


class Outbound:
    """Accepts for the outbound listener."""

    def __init__(self, context: Context, pool: Pool, listener: SocketAddress) -> None:
        self.context = context
        self.pool = pool
        self.routes = Routes(context)
        self._listener = listener

    def accepted(self, sock: _socket.socket, peer: SocketAddress) -> None:
        """A captured connection."""
        self.context.metrics.sockets_open["source"] += 1
        OutboundConnection(self, sock, peer).begin()

    def negotiated(self, sock: _socket.socket, peer: SocketAddress, local: Local, destination: SocketAddress) -> None:
        """A connection whose destination its application has said; it was counted when it was accepted."""
        OutboundConnection(self, sock, peer).begin_to(local, destination)

    def loops_back(self, sock: _socket.socket, destination: SocketAddress) -> bool:
        """Whether the connection was made to the listener itself, and not redirected here."""
        if destination.port != self._listener.port:
            return destination.port in self.context.config.illegal_ports and destination.ip.is_loopback
        return destination == self._listener or destination == local_address(sock)


class OutboundConnection:
    """Owns the application's socket until a splice or relay does."""

    __slots__ = (
        "_account",
        "_ahead",
        "_began",
        "_connect",
        "_context",
        "_destination",
        "_ended",
        "_lookups",
        "_nested",
        "_outbound",
        "_prepared",
        "_relay",
        "_sock",
        "_source",
        "_splice",
        "_stream",
        "_timer",
        "_tries",
        "_tunnel",
    )

    def __init__(self, outbound: Outbound, sock: _socket.socket, peer: SocketAddress) -> None:
        self._outbound = outbound
        self._context = outbound.context
        self._sock = sock
        self._source = str(peer)
        self._destination: SocketAddress | None = None
        self._prepared: Prepared | None = None
        self._account: Account | None = None
        self._connect: Connect | None = None
        self._relay: Relay | None = None
        self._splice: Splice | None = None
        self._nested: Nested | None = None
        self._began: float | None = None
        self._tunnel: Tunnel | None = None
        self._stream = 0
        self._ahead = 0
        self._timer: Timer | None = None
        self._tries = 0
        self._lookups = 0
        self._ended = False

    def begin(self) -> None:
        """Find out who calls and where to."""
        try:
            attributed = self._context.attribution(self._sock)
            self._destination = attributed.destination
            loops = self._outbound.loops_back(self._sock, attributed.destination)
        except OSError as error:
            self._refuse(f"original destination unknown: {error.strerror}")
            return
        if loops:
            self._refuse(failures.RECURSIVE_CALL)
            return
        local = self._context.locals.by_number(attributed.number)
        if local is not None:
            self._with_local(local, "")
        else:
            self._context.locals.wait_for(attributed.number, self._with_local)

    def begin_to(self, local: Local, destination: SocketAddress) -> None:
        """Who calls and where to are known."""
        self._destination = destination
        if destination.ip.is_loopback and destination.port in self._context.config.illegal_ports:
            self._refuse(failures.RECURSIVE_CALL)
        else:
            self._with_local(local, "")

    def describe(self) -> OpenConnection:
        """For the admin's list."""
        prepared = self._prepared
        return OpenConnection(
            direction="outbound",
            source=self._source,
            original_destination=str(self._destination),
            actual_destination=prepared.connect_text if prepared is not None else "",
            protocol=prepared.protocol if prepared is not None else "",
            workload=prepared.source if prepared is not None else "",
        )

    def close(self, failure: Failure) -> None:
        """End it now."""
        if self._splice is not None:
            self._splice.abort(failure)
        elif self._relay is not None:
            self._end(self._relay.bytes_up, self._relay.bytes_down, failure)
            self._relay.abort()
        else:
            self._fail(failure)

    def _with_local(self, local: Local | None, reason: str) -> None:
        if local is None:
            self._refuse(reason)
            return
        assert self._destination is not None
        prepared = self._outbound.routes.find(local, self._destination)
        if isinstance(prepared, Refused):
            self._refuse(prepared.reason)
        elif isinstance(prepared, Unresolved | Unknown):
            self._look_up(local, prepared)
        else:
            self._go(prepared)

    def _look_up(self, local: Local, missing: Unresolved | Unknown) -> None:
        """What is found may lead to another name or address that is not known either; not for ever."""
        self._lookups += 1
        name = missing.hostname if isinstance(missing, Unresolved) else missing.name
        if self._lookups > MAX_LOOKUPS:
            self._refuse(f"too many names had to be looked up, the last one {name}")
        elif isinstance(missing, Unresolved):
            self._context.names.wait_for(name, lambda found, reason: self._resolved(local, found, reason))
        else:
            self._context.demand.wait_for(name, lambda _, reason: self._with_local(None if reason else local, reason))

    def _resolved(self, local: Local, addresses: object, reason: str) -> None:
        why = f"no ip addresses were resolved for workload: {reason}"
        self._with_local(None if addresses is None else local, why)

    def _go(self, prepared: Prepared) -> None:
        context = self._context
        self._prepared = prepared
        tunnelled = prepared.tunnelled
        if prepared.beyond is None and prepared.otherwise is None and prepared.following is None:
            self._open_account(prepared, prepared.traffic, prepared.parties)
        else:
            self._began = context.loop.now()
        context.connections.add(self)
        if tunnelled is not None:
            self._outbound.pool.acquire(tunnelled.target, tunnelled.key, self)
        else:
            self._connect = Connect(
                context.loop,
                prepared.connect,
                context.config.connect_timeout,
                self._connected,
                context.mark(),
                stock=context.stock,
                config=context.config,
            )

    def _open_account(self, prepared: Prepared, traffic: Traffic, parties: Parties) -> None:
        authority = prepared.tunnelled.authority if prepared.tunnelled is not None else ""
        self._account = Account(
            self._context, traffic, parties, self._source, prepared.connect_text, authority, self._began
        )

    # Through a tunnel

    def tunnel_ready(self, tunnel: Tunnel) -> None:
        """Ask the peer's proxy for the application."""
        if self._ended:
            return
        assert self._prepared is not None
        assert self._prepared.tunnelled is not None
        self._tries += 1
        tunnelled, config = self._prepared.tunnelled, self._context.config
        client = forwarded(self._source, tunnelled.forwarded_host)
        network = config.network if self._nested is not None else None
        block = encode_connect(tunnelled.prefix, client, new_traceparent(), network)
        self._tunnel = tunnel
        self._stream = tunnel.open(block, self)
        within = self._prepared.beyond is None or self._nested is not None  # else there is a gateway to get past first
        self._ahead = send_ahead(self._sock, tunnel.http2, self._stream) if within else 0
        # The peer may need all of its own time for the application's TCP connection.
        limit = config.connect_timeout + config.handshake_timeout
        self._timer = self._context.loop.call_later(limit, self._no_response)

    def tunnel_failed(self, failure: Failure) -> None:
        """No tunnel could be made."""
        self._fail_here(failure, or_next=failure.unproven)

    def _fail_here(self, failure: Failure, *, or_next: bool) -> None:
        """If nobody knows whose port it is, a neighbour of who could not be asked may be the right one."""
        following = self._prepared.following if self._prepared is not None else None
        if or_next and following is not None and not self._ended:
            self._go(following)
        else:
            self._fail(failure)

    def headers(self, fields: Fields, end: bool) -> None:
        """The peer's proxy has answered."""
        self._cancel_timer()
        assert self._tunnel is not None
        try:
            status = hbone.parse_response(fields)
        except BadResponse as error:
            self._fail(failures.http2(str(error)))
            return
        assert self._prepared is not None
        if status != 200:
            # A peer whose identity is proven may say that at this port of its host listens nobody of the mesh.
            theirs = self._prepared.otherwise if hbone.is_hosts_port(fields) else None
            instead = theirs or self._prepared.following
            if instead is not None:
                self._go_instead(instead)
            else:
                self._fail(failures.http_status(status, hbone.stated_reason(fields)))
            return
        traffic = self._prepared.traffic
        if self._prepared.beyond is not None:
            if self._nested is None:
                self._enter(self._prepared.beyond, end)
                return
            stated = [value for name, value in fields if name == b"baggage"]
            traffic, parties = tell_beyond(self._context, self._prepared.beyond, self._tunnel.peer, stated)
            self._open_account(self._prepared, traffic, parties)
        elif self._account is None:
            self._open_account(self._prepared, traffic, self._prepared.parties)
        self._splice = Splice(
            self._context.loop, self._sock, self._tunnel, self._stream, self, traffic.received, traffic.sent
        )
        self._splice.start(ahead=self._ahead, peer_ended=end)

    def _go_instead(self, prepared: Prepared) -> None:
        tunnel, self._tunnel = self._tunnel, None
        assert tunnel is not None
        tunnel.abandon(self._stream, ErrorCode.CANCEL)
        self._go(prepared)

    def _enter(self, beyond: Beyond, peer_ended: bool) -> None:
        """The gateway is there: inside of this stream, reach who serves behind it."""
        outer, self._tunnel = self._tunnel, None
        assert outer is not None
        self._nested = Nested(self._outbound.pool, beyond, outer, self._stream, self)
        self._nested.start(peer_ended=peer_ended)

    def data(self, views: Sequence[memoryview], size: int, end: bool) -> None:
        """Payload before the response: HTTP/2 does not let it through."""
        raise AssertionError(f"{len(views)} pieces, {size} bytes, end={end} before the response")

    def writable(self) -> None:
        """Nothing has been written yet."""

    def reset(self, code: ErrorCode) -> None:
        """The peer ended the stream without an answer; what it has not looked at may be tried elsewhere."""
        self._cancel_timer()
        self._tunnel = None
        again = self._tries < MAX_TRIES and self._nested is None and not self._ended
        if code is ErrorCode.REFUSED_STREAM and again:
            assert self._prepared is not None
            assert self._prepared.tunnelled is not None
            tunnelled = self._prepared.tunnelled
            self._outbound.pool.acquire(tunnelled.target, tunnelled.key, self)
        else:
            self._fail(failures.http2(f"stream error received: {code.name}"))

    def lost(self, failure: Failure) -> None:
        """The tunnel died before the answer."""
        self._cancel_timer()
        self._tunnel = None
        self._fail_here(failure, or_next=True)

    def spliced(self, splice: Splice, failure: Failure | None) -> None:
        """Both ways are done; the socket is closed."""
        self._end(splice.bytes_from_app, splice.bytes_to_app, failure)

    def _no_response(self) -> None:
        self._timer = None
        self._fail(failures.http2("no response to CONNECT in time"))

    # In plaintext

    def _connected(self, connect: Connect, number: int) -> None:
        self._connect = None
        if number:
            self._fail(failures.connect(number))
            return
        assert self._prepared is not None
        traffic = self._prepared.traffic
        self._relay = Relay(self._context.loop, self._sock, connect.sock, self._relayed, traffic.received, traffic.sent)
        self._relay.start()

    def _relayed(self, failure: Failure | None) -> None:
        assert self._relay is not None
        self._end(self._relay.bytes_up, self._relay.bytes_down, failure)

    # Ends

    def _refuse(self, reason: str) -> None:
        """Nothing is known that could be counted: only the log says it."""
        self._context.journal.add(early_failure(self._source, str(self._destination or ""), "outbound", reason))
        self._fail(Failure(reason))

    def _fail(self, failure: Failure) -> None:
        if self._ended:
            return
        self._cancel_timer()
        if self._connect is not None:
            self._connect.cancel()
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.abandon(self._stream, ErrorCode.CANCEL)
        if self._nested is not None:
            self._nested.abort(failure)
        if self._began is not None and self._account is None and self._prepared is not None:
            self._open_account(self._prepared, self._prepared.traffic, self._prepared.parties)
        reset(self._context.loop, self._sock)
        self._end(0, 0, failure)

    def _end(self, sent: int, received: int, failure: Failure | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._context.metrics.sockets_open["source"] -= 1
        self._context.connections.remove(self)
        if self._account is not None:
            self._account.close(sent, received, failure)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
