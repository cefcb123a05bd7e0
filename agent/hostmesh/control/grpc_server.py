"""GrpcServer: the control plane's TLS port (15012) with a certificate of its own that never runs out."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
import weakref
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, cast

from grpclib.config import Configuration
from grpclib.protocol import H2Protocol
from grpclib.server import Server

from hostmesh.control.ca import CaBroken, CertificateAuthority
from hostmesh.rpc.late_writes import LateWrites

if TYPE_CHECKING:
    from grpclib._typing import IServable

_log = logging.getLogger(__name__)

SSLProtocol.max_size = 32 << 10
"""What asyncio sets aside for each connection, and again for each read: two TLS records instead of its 256 KiB."""

_HANDSHAKE_TIMEOUT = 10.0
_SHUTDOWN_TIMEOUT = 1.0
_LONGEST_SLEEP = 3600.0
_SHORTEST_SLEEP = 60.0  # also between failures, and when the root itself is about to expire
_CONFIGURATION = Configuration(
    _keepalive_time=30,
    _keepalive_timeout=10,
    _keepalive_permit_without_calls=True,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=10,
)


class CannotListen(Exception):
    """The address cannot be listened on; the text says which and why."""


class _Protocol(H2Protocol):
    """A connection that this end may have closed while something is still to be said, or comes in, on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.BaseTransport", LateWrites(transport)))

    def data_received(self, data: bytes) -> None:
        if not self.connection.is_closing():  # grpclib takes a closed connection apart
            super().data_received(data)


class _Server(Server):
    """grpclib's server, with time-outs for handshakes, and connections that end when it does."""

    def __init__(self, handlers: Collection[IServable]) -> None:
        super().__init__(handlers, config=_CONFIGURATION)
        self._protocols: weakref.WeakSet[H2Protocol] = weakref.WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        made = super()._protocol_factory()
        protocol = _Protocol(made.handler, made.config, made.h2_config)
        self._protocols.add(protocol)
        return protocol

    async def listen(self, host: str | None, port: int, context: ssl.SSLContext) -> int:
        self._server = listener = await self._loop.create_server(
            self._protocol_factory,
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT,
            ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
            backlog=1024,  # all nodes come back at once after a restart
        )
        self._server_closed_fut = self._loop.create_future()
        return int(listener.sockets[0].getsockname()[1])

    def close(self) -> None:
        super().close()
        for protocol in list(self._protocols):
            if hasattr(protocol, "processor"):  # set once the handshake is over
                protocol.processor.close("the control plane is stopping")


class GrpcServer:
    """Serves until `stop`; client certificates are asked for, checked against the root, and not required by TLS.

    Args:
        ca: issues the server's own certificate.
        services: grpclib service implementations.
        hosts: DNS names and IP addresses that hosts reach this control plane by.
        bind: address to listen on; None is all, IPv4 and IPv6.
        port: 0 takes any free one.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        ca: CertificateAuthority,
        services: Sequence[IServable],
        *,
        hosts: Sequence[str],
        bind: str | None = None,
        port: int = 15012,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ca = ca
        self._hosts = tuple(hosts)
        self._services = tuple(services)
        self._bind = bind
        self._now = now
        self._server: _Server | None = None
        self._context = _context(ca)
        self._renew_at = 0.0
        self._door = _context(ca)
        self._door.sni_callback = self._show_in
        self.port = port

    async def start(self) -> None:
        """Listen; `port` is then the real one.

        Raises:
            CannotListen: the address is taken or not ours.
            CaBroken: the server's certificate cannot be written.
        """
        logging.getLogger("grpclib").setLevel(logging.WARNING)  # it reports every client that goes away
        self._load_certificate()
        server = _Server(self._services)
        try:
            self.port = await server.listen(self._bind, self.port, self._door)
        except OSError as error:
            address = f"{self._bind or '*'}:{self.port}"
            raise CannotListen(
                f"cannot listen on {address}: {error.strerror or error}; stop what uses the port "
                f"(ss -tlnp 'sport = :{self.port}') or set another one"
            ) from error
        self._server = server

    async def run(self) -> None:
        """Renew the server's certificate in time until cancelled; connections notice nothing."""
        while True:
            await asyncio.sleep(min(max(self._renew_at - self._now(), _SHORTEST_SLEEP), _LONGEST_SLEEP))
            try:
                if self._now() >= self._renew_at:
                    self._load_certificate()
            except CaBroken as error:
                _log.error("the control plane's own certificate could not be renewed: %s", error)

    def reload(self) -> None:
        """The authority has other roots or another signer: new connections are judged and answered by those.

        Raises:
            CaBroken: the server's certificate cannot be written; the former roots and certificate stay in use.
        """
        former, self._context = self._context, _context(self._ca)
        try:
            self._load_certificate()
        except CaBroken:
            self._context = former
            raise

    async def stop(self) -> None:
        """Close the port and every connection; drain the services first."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def _show_in(self, connection: ssl.SSLObject, name: str | None, door: ssl.SSLContext) -> None:
        """Called for each ClientHello: roots can be added to a context that is in use, but not taken away."""
        del name, door
        connection.context = self._context

    def _load_certificate(self) -> None:
        file = self._ca.server_file(self._hosts)
        self._context.load_cert_chain(file.path)
        self._renew_at = file.renew_at


def _context(ca: CertificateAuthority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=ca.roots_pem.decode())
    context.set_alpn_protocols(["h2"])
    context.num_tickets = 0  # a resumed session would not be judged again
    return context
