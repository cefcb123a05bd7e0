"""Inbound: HBONE peers on 15008, from the first byte to a tunnel whose peer is known."""

from __future__ import annotations

import _socket
import errno
import os
from contextlib import suppress
from dataclasses import replace

from hostmesh.kernel.sockets import local_address
from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.model.node import inbound_identity
from hostmesh.proxy import failure as failures
from hostmesh.proxy.certificates import Certificate
from hostmesh.proxy.context import Context
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.handlers import Fields
from hostmesh.proxy.handshake import Handshake, verified_peer
from hostmesh.proxy.inbound_stream import InboundStream, Place
from hostmesh.proxy.locals import Local, Shared
from hostmesh.proxy.proof import Parties
from hostmesh.proxy.sockets import DONTWAIT, DONTWAIT_NOSIGNAL
from hostmesh.proxy.tls_socket import TlsSocket
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.telemetry.access_log import early_failure
from hostmesh.transport.timers import Timer
from hostmesh.transport.tls.engine import TlsError
from hostmesh.wire.client_hello import (
    CERTIFICATE_UNOBTAINABLE,
    MAX_CLIENT_HELLO,
    UNRECOGNIZED_NAME,
    BadClientHello,
    Incomplete,
    peek_server_name,
)
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.limits import SERVER_LIMITS, Role

MAX_UNPROVEN = 4096
"""Peers of a listener that have not proven who they are; one more, and the oldest has to go. Each has a descriptor and,
from its ClientHello on, some 60 KiB of the TLS library's. Real ones take milliseconds, and so are never the oldest."""


class Inbound:
    """Accepts for the HBONE listener and knows every peer that is connected."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._draining = False
        self._peers: dict[InboundPeer, None] = {}
        self._unproven: dict[InboundPeer, None] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, peer: InboundPeer) -> bool:
        return peer in self._peers

    def accepted(self, sock: _socket.socket, address: SocketAddress) -> None:
        """A peer."""
        self.context.metrics.sockets_open["destination"] += 1
        peer = InboundPeer(self, sock, address)
        self._peers[peer] = self._unproven[peer] = None
        if len(self._unproven) > MAX_UNPROVEN:
            next(iter(self._unproven)).close(failures.CROWDED_OUT)
        peer.begin()

    def gone(self, peer: InboundPeer) -> None:
        """The peer's socket is closed."""
        if self._peers.pop(peer, self) is None:
            self.context.metrics.sockets_open["destination"] -= 1
            self._unproven.pop(peer, None)

    def drain(self) -> None:
        """Ask every peer to go."""
        self._draining = True
        for peer in list(self._peers):
            peer.drain()

    def locals_changed(self) -> None:
        """Let go the peers of workloads that are not captured any more."""
        for peer in list(self._peers):
            peer.known.clear()
            if isinstance(peer.local, Local) and not self.context.locals.is_captured(peer.local.captured):
                peer.drain()

    def settled(self, peer: InboundPeer) -> None:
        """A peer has become a tunnel."""
        del self._unproven[peer]
        if self._draining:
            peer.drain()

    def tunnels(self) -> list[Tunnel]:
        """Of all peers that have one."""
        return [peer.tunnel for peer in self._peers if peer.tunnel is not None]

    def close_all(self, failure: Failure) -> None:
        """End every peer, streams included."""
        for peer in list(self._peers):
            peer.close(failure)


class InboundPeer:
    """One accepted connection: reads the ClientHello, chooses the workload, owns the tunnel that results."""

    __slots__ = (
        "_certificate",
        "_first",
        "_handshake",
        "_inbound",
        "_sock",
        "_timer",
        "_tunnel",
        "address",
        "address_text",
        "context",
        "identity",
        "known",
        "known_at",
        "local",
        "local_address",
        "local_text",
    )

    def __init__(self, inbound: Inbound, sock: _socket.socket, address: SocketAddress) -> None:
        self._inbound = inbound
        self.context = inbound.context
        self._sock = sock
        self.address = address
        self.address_text = str(address)
        self.local_address = SocketAddress(address.ip, 0)
        self.local_text = ""
        self.local: Local | Shared | None = None
        self.identity: Identity | None = None
        self.known: dict[tuple[str, str, str | None, str | None], Place] = {}
        self.known_at = -1
        self._certificate: Certificate | None = None
        self._first = bytearray()
        self._handshake: Handshake | None = None
        self._tunnel: Tunnel | None = None
        self._timer: Timer | None = None

    @property
    def tunnel(self) -> Tunnel | None:
        """Once the handshake is over."""
        return self._tunnel

    def begin(self) -> None:
        """Wait for the ClientHello."""
        try:
            self.local_address = local_address(self._sock)
            self.local_text = str(self.local_address)
        except OSError as error:
            self._refuse(_reason(error))
            return
        loop = self.context.loop
        self._timer = loop.call_later(self.context.config.handshake_timeout, self._expired)
        loop.register(self._sock.fileno(), self._hello)

    def drain(self) -> None:
        """Take no new streams and end after the last one; before the handshake is over: end."""
        if self._tunnel is not None:
            self._tunnel.drain()

    def close(self, failure: Failure) -> None:
        """End now."""
        if self._tunnel is not None:
            self._tunnel.close(failure)
        elif self._handshake is not None:
            self._handshake.cancel(failure.error)
        else:
            self._refuse(failure.error)

    # Until the workload is known

    def _hello(self, mask: int) -> None:
        del mask
        buffer = self.context.buffers.ciphertext
        while True:
            try:
                n = self._sock.recv_into(buffer, 0, DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                self._refuse(_reason(error))
                return
            if not n:
                self._refuse("closed by peer before its ClientHello")
                return
            self._first += buffer[:n]
            if self._look():
                return

    def _look(self) -> bool:
        """Whether the question is settled."""
        try:
            name = peek_server_name(bytes(self._first))
        except Incomplete:
            if len(self._first) <= 2 * MAX_CLIENT_HELLO:
                return False
            self._refuse("ClientHello is too long")
            return True
        except BadClientHello as error:
            self._refuse(str(error))
            return True
        # What arrives from now on waits in the socket until the engine asks for it.
        self.context.loop.replace_handler(self._sock.fileno(), _ignore)
        context = self.context
        context.locals.wait_for_server(
            name,
            self.local_address.ip,
            context.namespace,
            lambda found: self._with_local(name, found),
            shared=context.config.shared_inbound,
        )
        return True

    def _with_local(self, name: str | None, found: Local | Shared | None) -> None:
        if self._inbound_gone():
            return
        context = self.context
        self.local = found
        if found is None:
            asked = f"server name {name}" if name is not None else f"address {self.local_address.ip}"
            self._say(UNRECOGNIZED_NAME)
            self._refuse(f"no single captured workload of this host has the {asked}")
        else:
            everybody = inbound_identity(context.config.trust_domain, context.config.node)
            identity = everybody if isinstance(found, Shared) else found.identity
            context.certificates.get(identity, self._with_certificate)

    def _with_certificate(self, certificate: Certificate | None, reason: str) -> None:
        if self._inbound_gone():
            return
        if certificate is None:
            self._say(CERTIFICATE_UNOBTAINABLE)
            self._refuse(f"identity error: {reason}")
            return
        try:
            engine = certificate.server().engine()
        except TlsError as error:
            self._say(CERTIFICATE_UNOBTAINABLE)
            self._refuse(f"tls error: {error.reason}")
            return
        self._certificate = certificate
        loop, buffers = self.context.loop, self.context.buffers
        self._handshake = Handshake(loop, TlsSocket(loop, buffers, self._sock, engine), self._secured)
        first, self._first = bytes(self._first), bytearray()
        self._handshake.start(first)

    def _secured(self, handshake: Handshake, reason: str | None) -> None:
        self._handshake = None
        if reason is not None:
            self._refuse(reason, closed=True)
            return
        assert self._certificate is not None
        credentials = self._certificate.credentials
        try:
            proof = verified_peer(handshake.tls.engine)
        except TlsError as error:
            self._refuse(error.reason)
            return
        parties = Parties(proof, self._certificate.keys, self._certificate.identities)
        objection = self.context.revocation.objection(parties, "destination")
        if objection is not None:
            self._refuse(objection.error.removeprefix("connection closed: "))
            return
        trust_domain = credentials.identity.trust_domain
        if not any(identity.trust_domain == trust_domain for identity in proof.identities):
            presented = ", ".join(map(str, proof.identities)) or "no SPIFFE identity"
            self._refuse(f"identity verification error: peer is not of trust domain {trust_domain}: {presented}")
            return
        self.identity = proof.identities[0]
        context, config = self.context, self.context.config
        self._cancel_timer()
        limits = replace(
            SERVER_LIMITS,
            stream_window=config.stream_window,
            connection_window=config.connection_window,
            max_frame_size=config.max_frame_size,
        )
        http2 = Http2Connection(Role.SERVER, limits)
        self._tunnel = Tunnel(context.loop, handshake.tls, http2, self)
        self._tunnel.peer = self.identity
        self._tunnel.parties = parties
        self._tunnel.expire_at(min(proof.expires_at, credentials.not_after), context.clock)
        self._tunnel.keep_alive(config.keepalive_ping_interval, config.keepalive_ping_timeout)
        self._tunnel.start()
        self._inbound.settled(self)

    # As the tunnel's owner

    def accept_stream(self, tunnel: Tunnel, stream: int, fields: Fields, end: bool) -> None:
        """A CONNECT, or what should be one."""
        if tunnel.expired:
            tunnel.close(failures.CERTIFICATE_EXPIRED)
        else:
            InboundStream(self, tunnel, stream).begin(fields, end)

    def settled(self, tunnel: Tunnel) -> None:
        """The peer's settings matter to the streams only."""

    def going_away(self, tunnel: Tunnel) -> None:
        """The client opens no more streams; it closes when its last one is done."""

    def stream_ended(self, tunnel: Tunnel) -> None:
        """Nothing waits for room."""

    def closed(self, tunnel: Tunnel, failure: Failure | None) -> None:
        """The socket is gone; the streams have said what there was to say."""
        del tunnel, failure
        self._inbound.gone(self)

    # Ends

    def _expired(self) -> None:
        self._timer = None
        if self._handshake is not None:
            self._handshake.cancel("timed out")
        else:
            self._refuse("timed out")

    def _say(self, alert: bytes) -> None:
        """Tell the peer why there will be no handshake, if its socket takes that much."""
        with suppress(OSError):
            self._sock.send(alert, DONTWAIT_NOSIGNAL)

    def _refuse(self, reason: str, *, closed: bool = False) -> None:
        """No HTTP has been spoken: the peer sees a close, the log says why."""
        if self._inbound_gone():
            return
        self._cancel_timer()
        error = f"tls handshake error: {reason}"
        self.context.journal.add(early_failure(self.address_text, self.local_text, "inbound", error))
        if not closed:
            self.context.loop.close_later(self._sock)
        self._inbound.gone(self)

    def _inbound_gone(self) -> bool:
        return self not in self._inbound

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ignore(mask: int) -> None:
    """The next read will find what this event announced."""


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
