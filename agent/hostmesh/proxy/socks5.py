"""SOCKS5 (15080): connections of applications that ask for a destination by name; otherwise outbound.

Only a caller whose workload the kernel attests is served: whoever is not captured would get somebody's identity.
"""

from __future__ import annotations

import _socket
from ipaddress import IPv4Address

from hostmesh.model.address import IPAddress, SocketAddress
from hostmesh.model.service import hostname_alias
from hostmesh.model.workload import Workload
from hostmesh.proxy.locals import Local
from hostmesh.proxy.outbound import Outbound
from hostmesh.proxy.sockets import DONTWAIT, DONTWAIT_NOSIGNAL
from hostmesh.state.store import MeshState
from hostmesh.telemetry.access_log import early_failure
from hostmesh.transport.timers import Timer
from hostmesh.wire.hbone import HostPort
from hostmesh.wire.socks5 import NOTHING_ACCEPTABLE, Refusal, Reply, Socks5, encode_reply


class SocksListener:
    """Accepts for the SOCKS5 listener; what is negotiated goes on as an outbound connection."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    def accepted(self, sock: _socket.socket, peer: SocketAddress) -> None:
        """An application, or somebody else."""
        self._outbound.context.metrics.sockets_open["source"] += 1
        SocksClient(self._outbound, sock, peer).begin()


class SocksClient:
    """Owns the socket until an outbound connection does. Reads no byte that is not the negotiation's."""

    __slots__ = ("_context", "_local", "_negotiation", "_outbound", "_over", "_peer", "_sock", "_timer", "_where")

    def __init__(self, outbound: Outbound, sock: _socket.socket, peer: SocketAddress) -> None:
        self._outbound = outbound
        self._context = outbound.context
        self._sock = sock
        self._peer = peer
        self._negotiation = Socks5()
        self._local: Local | None = None
        self._where = ""
        self._timer: Timer | None = None
        self._over = False

    def begin(self) -> None:
        """Find out who calls before a word is said."""
        context = self._context
        try:
            number = context.attribution(self._sock).number
        except OSError as error:
            self._refuse(f"caller unknown: {error.strerror}", b"")
            return
        if not number:
            self._refuse("SOCKS5 is for captured workloads: the caller is none", NOTHING_ACCEPTABLE)
            return
        self._timer = context.loop.call_later(context.config.handshake_timeout, self._expired)
        local = context.locals.by_number(number)
        if local is not None:
            self._with_local(local, "")
        else:
            context.locals.wait_for(number, self._with_local)

    def _with_local(self, local: Local | None, reason: str) -> None:
        if self._over:
            return
        if local is None:
            self._refuse(reason, NOTHING_ACCEPTABLE)
            return
        self._local = local
        self._context.loop.register(self._sock.fileno(), self._ready)

    def _ready(self, mask: int) -> None:
        del mask
        while not self._over and self._negotiation.wanted:
            try:
                data = self._sock.recv(self._negotiation.wanted, DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                self._refuse(f"SOCKS client gone: {error.strerror}", b"")
                return
            if not data:
                self._refuse("SOCKS client gone before it said where to", b"")
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            step = self._negotiation.receive(data)
        except Refusal as refusal:
            self._refuse(refusal.reason, refusal.answer)
            return
        if step.answer and not self._say(step.answer):
            self._refuse("SOCKS client does not read", b"")
            return
        if isinstance(step.destination, HostPort):
            self._find(step.destination)
        elif step.destination is not None:
            self._go(step.destination)

    def _find(self, wanted: HostPort) -> None:
        """The mesh's own names first, then the host's resolver."""
        if self._over:
            return
        assert self._local is not None
        self._where = str(wanted)
        context = self._context
        if not context.state.knows_hostname(wanted.hostname):
            context.demand.wait_for(hostname_alias(wanted.hostname), lambda _, reason: self._heard(wanted, reason))
            return
        ip = address_of(context.state, self._local.workload, wanted.hostname)
        if ip is not None:
            self._go(SocketAddress(ip, wanted.port))
            return
        known = context.names.get(wanted.hostname)
        if known is not None:
            self._resolved(known, "it has no address", wanted.port)
        else:
            context.names.wait_for(
                wanted.hostname, lambda found, reason: self._resolved(found or (), reason, wanted.port)
            )

    def _heard(self, wanted: HostPort, reason: str) -> None:
        """The control plane has said which services have the name, or it does not say it."""
        if reason:
            self._refuse(reason, encode_reply(Reply.HOST_UNREACHABLE))
        else:
            self._find(wanted)

    def _resolved(self, addresses: tuple[IPAddress, ...], reason: str, port: int) -> None:
        if self._over:
            return
        if addresses:
            self._go(SocketAddress(addresses[0], port))
        else:
            self._refuse(f"dns lookup: {reason}", encode_reply(Reply.HOST_UNREACHABLE))

    def _go(self, destination: SocketAddress) -> None:
        """Success is said before anything is connected, as ztunnel says it."""
        if not self._say(encode_reply(Reply.SUCCEEDED)):
            self._refuse("SOCKS client does not read", b"")
            return
        assert self._local is not None
        self._finish()
        self._context.loop.unregister(self._sock.fileno())
        self._outbound.negotiated(self._sock, self._peer, self._local, destination)

    def _say(self, answer: bytes) -> bool:
        """A few bytes into an empty socket: they fit, or nobody is there."""
        try:
            return self._sock.send(answer, DONTWAIT_NOSIGNAL) == len(answer)
        except OSError:
            return False

    def _expired(self) -> None:
        self._refuse("SOCKS client too slow", b"")

    def _refuse(self, reason: str, answer: bytes) -> None:
        if self._over:
            return
        self._finish()
        if answer:
            self._say(answer)
        self._context.journal.add(early_failure(str(self._peer), self._where, "outbound", reason))
        self._context.metrics.sockets_open["source"] -= 1
        self._context.loop.close_later(self._sock)

    def _finish(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()


def address_of(state: MeshState, source: Workload, hostname: str) -> IPAddress | None:
    """What a name of the mesh means to a workload: a service's VIP on its network, else an endpoint's address."""
    for service in state.services_by_host(hostname, source.namespace):
        vips = [vip.ip for vip in service.vips if vip.network == source.network]
        near = [endpoint for endpoint in state.endpoints(service) if endpoint.network == source.network]
        found = vips or [ip for endpoint in near for ip in endpoint.addresses]
        if found:
            return next((ip for ip in found if isinstance(ip, IPv4Address)), found[0])
    return None
