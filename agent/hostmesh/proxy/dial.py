"""Dial: makes one client tunnel: certificate, TCP, TLS with the right peer, the peer's SETTINGS."""

from __future__ import annotations

import _socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.proxy import failure as failures
from hostmesh.proxy.certificates import Certificate
from hostmesh.proxy.context import Context
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.handlers import Fields
from hostmesh.proxy.handshake import Handshake, verified_peer
from hostmesh.proxy.proof import Parties
from hostmesh.proxy.sockets import Connect
from hostmesh.proxy.tls_socket import TlsSocket
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.transport.timers import Timer
from hostmesh.transport.tls.engine import TlsError
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.errors import ErrorCode
from hostmesh.wire.http2.limits import CLIENT_LIMITS, Role


@dataclass(frozen=True, slots=True)
class Target:
    """What tells tunnels apart: who calls, who may answer (in order), where, and which name is asked for."""

    source: Identity
    expected: tuple[Identity, ...]
    address: SocketAddress
    server_name: str | None

    @property
    def key(self) -> str:
        """A string, because its hash is computed once."""
        expected = ",".join(map(str, self.expected))
        return f"{self.source}|{expected}|{self.address}|{self.server_name or ''}"


class Dial:
    """Calls `then` once, with a tunnel whose peer has shown its SETTINGS, or with what failed.

    Only then is it known that the peer accepts our certificate: in TLS 1.3 a refusal comes after the handshake.
    `over` is a socket that leads to the peer already; the dial owns it.
    """

    def __init__(
        self,
        context: Context,
        target: Target,
        then: Callable[[Tunnel | None, Failure | None], None],
        over: _socket.socket | None = None,
    ) -> None:
        self._context = context
        self._over = over
        self._target = target
        self._then: Callable[[Tunnel | None, Failure | None], None] | None = then
        self._certificate: Certificate | None = None
        self._handshake: Handshake | None = None
        self._tunnel: Tunnel | None = None
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin; `then` is never called before this returns to the loop or fails at once."""
        self._context.certificates.get(self._target.source, self._with_certificate)

    def _with_certificate(self, certificate: Certificate | None, reason: str) -> None:
        over = self._over
        if certificate is None:
            if over is not None:
                self._context.loop.close_later(over)
            self._finish(None, failures.no_credentials(reason))
            return
        self._certificate = certificate
        if over is not None:
            self._context.loop.register(over.fileno(), _ignore)
            self._secure(over)
            return
        config = self._context.config
        Connect(
            self._context.loop,
            self._target.address,
            config.connect_timeout,
            self._connected,
            self._context.mark(),
            stock=self._context.stock,
            config=config,
        )

    def _connected(self, connect: Connect, number: int) -> None:
        if number:
            self._finish(None, failures.hbone_connect(number, self._target.address.port))
        else:
            self._secure(connect.sock)

    def _secure(self, sock: _socket.socket) -> None:
        target, context = self._target, self._context
        assert self._certificate is not None
        try:
            engine = self._certificate.client().engine(target.server_name)
        except TlsError as error:
            context.loop.close_later(sock)
            self._finish(None, failures.tls_config(error.reason))
            return
        self._timer = context.loop.call_later(context.config.handshake_timeout, self._expired)
        self._handshake = Handshake(context.loop, TlsSocket(context.loop, context.buffers, sock, engine), self._secured)
        self._handshake.start()

    def _secured(self, handshake: Handshake, reason: str | None) -> None:
        self._handshake = None
        if reason is not None:
            self._finish(None, failures.tls_handshake(reason))
            return
        context, target = self._context, self._target
        try:
            proof = verified_peer(handshake.tls.engine)
        except TlsError as error:
            handshake.tls.close()
            self._finish(None, failures.tls_handshake(error.reason))
            return
        assert self._certificate is not None
        own = self._certificate
        parties = Parties(proof, own.keys, own.identities)
        objection = context.revocation.objection(parties, "source")
        if objection is not None:
            handshake.tls.close()
            self._finish(None, failures.not_trusted(objection))
            return
        meant = next((identity for identity in proof.identities if identity in target.expected), None)
        if meant is None:
            handshake.tls.close()
            self._finish(None, failures.tls_handshake(_mismatch(target.expected, proof.identities)))
            return
        self._tunnel = tunnel = Tunnel(context.loop, handshake.tls, _http2(context), self)
        tunnel.peer = meant
        tunnel.parties = parties
        tunnel.expire_at(min(proof.expires_at, own.credentials.not_after), context.clock)
        tunnel.start()

    def _expired(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel("TLS handshake timed out")
        elif self._tunnel is not None:
            self._tunnel.close(failures.http2("no SETTINGS from the peer in time"))

    def _finish(self, tunnel: Tunnel | None, failure: Failure | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        then, self._then, self._tunnel = self._then, None, None
        if then is not None:
            then(tunnel, failure)

    # As the tunnel's owner until it is handed over

    def accept_stream(self, tunnel: Tunnel, stream: int, fields: Fields, end: bool) -> None:
        """A server opens no streams."""
        del fields, end
        tunnel.abandon(stream, ErrorCode.PROTOCOL_ERROR)

    def settled(self, tunnel: Tunnel) -> None:
        """The peer accepted us."""
        config = self._context.config
        tunnel.keep_alive(config.keepalive_ping_interval, config.keepalive_ping_timeout)
        self._finish(tunnel, None)

    def going_away(self, tunnel: Tunnel) -> None:
        """Before its SETTINGS: it takes nothing."""
        tunnel.close(failures.http2("the peer goes away"))

    def stream_ended(self, tunnel: Tunnel) -> None:
        """There are none yet."""

    def closed(self, tunnel: Tunnel, failure: Failure | None) -> None:
        """Before its SETTINGS: the peer does not want us."""
        del tunnel
        reason = failure.error.removeprefix("h2 failed: ") if failure is not None else "connection closed by peer"
        self._finish(None, failures.http2_handshake(reason))


def _ignore(mask: int) -> None:
    """The handshake reads what this event announced."""


def _http2(context: Context) -> Http2Connection:
    config = context.config
    return Http2Connection(
        Role.CLIENT,
        replace(
            CLIENT_LIMITS,
            stream_window=config.stream_window,
            connection_window=config.connection_window,
            max_frame_size=config.max_frame_size,
            max_concurrent_streams=config.pool_max_streams,
        ),
    )


def _mismatch(expected: tuple[Identity, ...], found: tuple[Identity, ...]) -> str:
    wanted = ", ".join(map(str, expected))
    presented = ", ".join(map(str, found)) or "no SPIFFE identity"
    return f"identity verification error: peer did not present the expected SAN ({wanted}), got {presented}"
