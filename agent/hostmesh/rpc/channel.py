"""ControlPlane: opens gRPC channels to it, with this node's certificate where there is one."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.exceptions import H2Error

from hostmesh.model.endpoint import Endpoint
from hostmesh.rpc.connection import Connection
from hostmesh.rpc.failure import (
    ControlPlaneError,
    Failure,
    Validity,
    alert_text,
    clock_text,
    connect_text,
    hung_up_text,
    is_clock,
    untrusted_text,
)
from hostmesh.rpc.roots import Roots

CONNECT_TIMEOUT = 5.0
_SHUTDOWN_TIMEOUT = 1.0
_NOT_ADMITTED = frozenset((Status.UNAUTHENTICATED,))
_REFUSED = frozenset((Status.PERMISSION_DENIED, Status.INVALID_ARGUMENT, Status.FAILED_PRECONDITION, Status.NOT_FOUND))

_CONFIGURATION = Configuration(
    _keepalive_time=30,
    _keepalive_timeout=10,
    _keepalive_permit_without_calls=True,
    _http2_max_pings_without_data=0,  # an idle xDS stream is the normal case: never stop asking
    _http2_min_sent_ping_interval_without_data=10,
)


_FAILURES = (OSError, GRPCError, StreamTerminatedError, H2Error)


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """PEM files of the node's own credentials; they need not exist yet."""

    key: Path
    chain: Path


class _Channel(Channel):
    """A channel with time-outs for connecting and closing, which the base class leaves to asyncio's minutes."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext) -> None:
        super().__init__(endpoint.host, endpoint.port, ssl=context, config=_CONFIGURATION)
        self.endpoint = endpoint
        self._context = context
        self.current: Connection | None = None

    async def _create_connection(self) -> H2Protocol:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, self.current = await self._loop.create_connection(
                lambda: Connection(self._config, self._h2_config),
                self.endpoint.host,
                self.endpoint.port,
                ssl=self._context,
                server_hostname=self.endpoint.server_name or self.endpoint.host,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
            )
        return self.current

    async def end(self) -> None:
        """Close, and wait for the peer's farewell as long as the shutdown's time-out: whoever opened it, closes it."""
        self.close()
        if self.current is not None:
            await self.current.ended.wait()


class ControlPlane:
    """Opens channels and turns every failure into a `ControlPlaneError`.

    The files are read at each connection, so that a renewed node certificate or a new root needs no restart.

    Of several control planes one is stayed with until a connection or a call to it fails; then the next is tried.

    Args:
        endpoints: where to connect: one, or several that serve the same mesh.
        root_cert: PEM file with the roots that the control plane's certificate must chain to, or those themselves.
        node: this node's credentials; None connects without (enrolment).
        now: this host's clock, seconds since the epoch.
    """

    def __init__(
        self,
        endpoints: Endpoint | Sequence[Endpoint],
        root_cert: Path | Roots,
        node: NodeFiles | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoints = (endpoints,) if isinstance(endpoints, Endpoint) else tuple(endpoints)
        assert self._endpoints, "a control plane is somewhere"
        self._current = 0
        self._roots = root_cert if isinstance(root_cert, Roots) else Roots(root_cert)
        self._node = node
        self._now = now

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Channel]:
        """A connected channel for the body of the `async with`; what the body raises is explained too.

        Raises:
            ControlPlaneError: for every failure of connection or call.
        """
        channel = await self._first_that_answers()
        try:
            yield channel
        except _FAILURES as error:
            explained = await self._explain(error, channel)
            self._leave(channel.endpoint, explained)
            raise explained from error
        finally:
            await channel.end()

    @property
    def endpoint(self) -> Endpoint:
        """Where the last connection went, or the next one will."""
        return self._endpoints[self._current]

    def pass_over(self) -> None:
        """The next connection is another control plane's: what this one gave was of no use."""
        self._current = (self._current + 1) % len(self._endpoints)

    async def _first_that_answers(self) -> _Channel:
        """A connection to the present endpoint, or else to the first one after it that can be had."""
        problems: list[ControlPlaneError] = []
        for _ in self._endpoints:
            channel = _Channel(self.endpoint, self._context())
            try:
                await channel.__connect__()
            except _FAILURES as error:
                explained = await self._explain(error, channel)
                await channel.end()
                self._leave(channel.endpoint, explained)
                problems.append(explained)
                continue
            except BaseException:
                channel.close()
                raise
            return channel
        if len(problems) == 1:
            raise problems[0] from problems[0].__cause__
        told = next((one for one in problems if one.failure is not Failure.UNREACHABLE), problems[0])
        raise ControlPlaneError(told.failure, "\n".join(str(one) for one in problems), told.status, told.detail)

    def _leave(self, endpoint: Endpoint, why: ControlPlaneError) -> None:
        """The next connection is another control plane's, unless they would all say the same."""
        if endpoint == self.endpoint and why.failure not in (Failure.REFUSED, Failure.LOCAL):
            self.pass_over()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.hostname_checks_common_name = False
        context.set_alpn_protocols(["h2"])
        try:
            context.load_verify_locations(cadata=self._roots.pem())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ControlPlaneError(
                Failure.LOCAL,
                f"{self._roots.given}: the control plane's root certificate cannot be read ({why}); "
                "copy ca/root-cert.pem from the state directory of the control plane",
            ) from error
        if self._node is not None:
            try:
                context.load_cert_chain(self._node.chain, self._node.key)
            except OSError as error:
                raise ControlPlaneError(
                    Failure.LOCAL,
                    f"{self._node.chain}: this node's certificate or its key cannot be read "
                    f"({error.strerror or error}); enrol this node with a new join token",
                ) from error
        return context

    async def _explain(self, error: Exception, channel: _Channel) -> ControlPlaneError:
        lost = channel.current.lost if channel.current is not None else None
        if isinstance(lost, ssl.SSLError) and not isinstance(error, GRPCError):
            error = lost
        match error:
            case GRPCError():
                return _explain_status(error, channel.endpoint)
            case ssl.SSLCertVerificationError():
                return await self._explain_verification(error, channel.endpoint)
            case ssl.SSLError():
                text = alert_text(str(channel.endpoint), error, self._node_validity(), self._now())
                if text is not None:
                    return ControlPlaneError(Failure.NOT_ADMITTED, text)
                return _lost(channel.endpoint, f"TLS failed: {error.reason or error}")
            case OSError() if channel.current is None:
                return ControlPlaneError(Failure.UNREACHABLE, connect_text(str(channel.endpoint), error))
            case TimeoutError():
                text = f"the control plane {channel.endpoint} did not answer in time; look at its log"
                return ControlPlaneError(Failure.LOST, text)
            case _ if self._node is not None and channel.current is not None and not channel.current.heard:
                text = hung_up_text(str(channel.endpoint), self._node_validity(), self._now())
                return ControlPlaneError(Failure.NOT_ADMITTED, text)
            case _:
                return _lost(channel.endpoint, str(lost or error) or type(error).__name__)

    async def _explain_verification(self, error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> ControlPlaneError:
        if is_clock(error):
            shown = await _presented(endpoint)
            text = clock_text(f"the certificate of the control plane {endpoint}", shown, self._now()) if shown else None
            if text is not None:
                return ControlPlaneError(Failure.CLOCK, text)
        return ControlPlaneError(Failure.UNTRUSTED, untrusted_text(str(endpoint), str(self._roots.given), error))

    def _node_validity(self) -> Validity | None:
        if self._node is None:
            return None
        try:
            return _validity(x509.load_pem_x509_certificate(self._node.chain.read_bytes()))
        except (OSError, ValueError):
            return None


def _lost(endpoint: Endpoint, why: str) -> ControlPlaneError:
    return ControlPlaneError(Failure.LOST, f"the connection to the control plane {endpoint} was lost: {why}")


def _explain_status(error: GRPCError, endpoint: Endpoint) -> ControlPlaneError:
    if error.status in _NOT_ADMITTED:
        failure = Failure.NOT_ADMITTED
    else:
        failure = Failure.REFUSED if error.status in _REFUSED else Failure.BROKEN
    text = f"the control plane {endpoint} answered {error.status.name}: {error.message or 'no reason given'}"
    return ControlPlaneError(failure, text, error.status, error.message)


def _validity(certificate: x509.Certificate) -> Validity:
    return Validity(certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())


async def _presented(endpoint: Endpoint) -> Validity | None:
    """The validity of the certificate shown there, believed for the text of an error only; nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, ssl=context, ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT
            )
            try:
                der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            finally:
                writer.transport.abort()  # nothing was said, so nothing needs a farewell
                with suppress(OSError):
                    await writer.wait_closed()
    except OSError:
        return None
    return _validity(x509.load_der_x509_certificate(der)) if der else None
