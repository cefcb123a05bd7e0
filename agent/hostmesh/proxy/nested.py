"""Nested: an HBONE connection inside a stream of another, through a network gateway (Istio ambient multi-network).

A pair of sockets joins them: a splice carries the outer stream on one end, on the other one is a tunnel like any
other. It has one stream and ends with it, as ztunnel's.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from hostmesh.model.identity import Identity
from hostmesh.proxy.context import Context
from hostmesh.proxy.dial import Dial
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.handlers import Fields
from hostmesh.proxy.origin import describe_origin
from hostmesh.proxy.pool import Pool, Waiter
from hostmesh.proxy.prepared import Beyond
from hostmesh.proxy.splice import Splice
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.telemetry.access_log import End, Parties
from hostmesh.telemetry.labels import Peer, traffic_labels
from hostmesh.telemetry.metrics import Counter, Traffic
from hostmesh.wire import baggage
from hostmesh.wire.http2.errors import ErrorCode


class Nested:
    """Answers the waiter once, with a tunnel to the peer beyond or with what failed.

    Args:
        pool: lists the tunnel, so that it is judged when trust changes.
        beyond: who must answer.
        outer: the tunnel to the gateway.
        stream: open both ways.
        waiter: opens one stream.
    """

    def __init__(self, pool: Pool, beyond: Beyond, outer: Tunnel, stream: int, waiter: Waiter) -> None:
        self._pool = pool
        self._waiter: Waiter | None = waiter
        self._failure: Failure | None = None
        self._tunnel: Tunnel | None = None
        context = pool.context
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        self._theirs.setblocking(False)
        self._carrier: Splice | None = Splice(context.loop, ours, outer, stream, self, Counter(), Counter())
        self._dial = Dial(context, beyond.target, self._dialled, self._theirs)

    def start(self, *, peer_ended: bool) -> None:
        """Begin; `peer_ended` says that the gateway has hung up already."""
        assert self._carrier is not None
        self._carrier.start(peer_ended=peer_ended)
        self._dial.start()

    def abort(self, failure: Failure) -> None:
        """Nobody wants it any more; the waiter is not told."""
        self._waiter = None
        if self._tunnel is not None:
            self._tunnel.close(failure)
        if self._carrier is not None:
            self._carrier.abort(failure)

    def _dialled(self, tunnel: Tunnel | None, failure: Failure | None) -> None:
        waiter, self._waiter = self._waiter, None
        if tunnel is not None:
            revoked = self._pool.context.revocation.objection(tunnel.parties, "source")  # perhaps while it came up
            if revoked is None and waiter is not None:
                self._tunnel = tunnel
                self._pool.nested[tunnel] = None
                tunnel.hand_over(self)
                waiter.tunnel_ready(tunnel)
                return
            tunnel.close(revoked)
            failure = revoked
        if waiter is not None:
            failure = self._failure or failure
            assert failure is not None
            waiter.tunnel_failed(failure)

    # As the owner of the outer stream

    def spliced(self, splice: Splice, failure: Failure | None) -> None:
        """The gateway has ended the stream: the tunnel inside finds out by itself, but not why."""
        del splice
        self._carrier = None
        self._failure = failure

    # As the owner of the tunnel

    def accept_stream(self, tunnel: Tunnel, stream: int, fields: Fields, end: bool) -> None:
        """A server opens no streams."""
        del fields, end
        tunnel.abandon(stream, ErrorCode.PROTOCOL_ERROR)

    def settled(self, tunnel: Tunnel) -> None:
        """Its one stream is open already."""

    def going_away(self, tunnel: Tunnel) -> None:
        """No second stream was wanted."""

    def stream_ended(self, tunnel: Tunnel) -> None:
        """At the end of the turn: the stream that ended may still have frames to send before."""
        self._pool.context.loop.at_turn_end(tunnel.close)

    def closed(self, tunnel: Tunnel, failure: Failure | None) -> None:
        """With it the outer stream ends."""
        del failure
        self._pool.nested.pop(tunnel, None)


def tell_beyond(
    context: Context, beyond: Beyond, identity: Identity | None, stated: Sequence[bytes]
) -> tuple[Traffic, Parties]:
    """Labels and log fields of a connection whose real destination only its own answer tells.

    Args:
        context: the worker's.
        beyond: what was known before.
        identity: who answered.
        stated: what its baggage says.
    """
    lines = [line.decode("ascii", "replace") for line in stated]
    destination, end = describe_origin(None, identity, baggage.parse(lines))
    source, service = beyond.source, beyond.service
    labels = traffic_labels(
        "source", (Peer.of(source), source.identity), (destination, identity), service, "mutual_tls"
    )
    parties = Parties.of("outbound", End(source, source.identity), end, service)
    return context.metrics.traffic(labels), parties
