"""EtcdClient: calls to an etcd cluster (API v3 over gRPC); a member that does not answer is passed over."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.exceptions import H2Error

from hostmesh.control.records import StoreUnavailable
from hostmesh.model.endpoint import Endpoint
from hostmesh.rpc.connection import Connection

CALL_TIMEOUT = 2.0
"""Seconds for one member; a cluster that has lost its leader answers nobody for about as long."""
CONNECT_TIMEOUT = 1.5
DEFAULT_PORT = 2379
_FAREWELL = 1.0

LEADER_NEEDED = {"hasleader": "true"}
"""Metadata of streams: a member that has lost its cluster ends them instead of saying nothing."""

_ELSEWHERE = frozenset(
    (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED, Status.UNKNOWN, Status.INTERNAL)
)

_CONFIGURATION = Configuration(
    _keepalive_time=10,  # etcd ends connections that ask more often than every 5 s
    _keepalive_timeout=5,
    _keepalive_permit_without_calls=True,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=6,
)

ResultT = TypeVar("ResultT")
_TRANSPORT = (OSError, StreamTerminatedError, H2Error)


@dataclass(frozen=True, slots=True)
class EtcdEndpoints:
    """Members, and how to speak to them: TLS with `root_cert`, as somebody with `cert` and `key`; plain without."""

    members: tuple[Endpoint, ...]
    root_cert: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __str__(self) -> str:
        return "etcd at " + ", ".join(map(str, self.members))


class Refused(Exception):
    """etcd has answered, and does not do it; the text is etcd's."""

    def __init__(self, error: GRPCError) -> None:
        super().__init__(error.message or error.status.name)
        self.status = error.status


class EtcdClient:
    """For the event loop that it is made in. Close it there.

    Args:
        endpoints: of the cluster.
    """

    def __init__(self, endpoints: EtcdEndpoints) -> None:
        self.where = str(endpoints)
        self._channels = [_Channel(member, endpoints) for member in endpoints.members]
        self._current = 0

    async def call(self, invoke: Callable[[Channel], Awaitable[ResultT]]) -> tuple[ResultT, bool]:
        """What the first member says that answers, and whether one before it may have done it too.

        Raises:
            StoreUnavailable: none answers; one may have done it.
            Refused: the cluster does not do it.
        """
        tried: list[str] = []
        for _ in self._channels:
            channel = self._channels[self._current]
            try:
                async with asyncio.timeout(CALL_TIMEOUT):
                    return await invoke(channel), bool(tried)
            except GRPCError as error:
                if error.status not in _ELSEWHERE:
                    raise Refused(error) from error
                tried.append(f"{channel.member} answers {error.message or error.status.name}")
            except _TRANSPORT as error:
                tried.append(f"{channel.member}: {channel.why(error)}")
            self._go_on(channel)
        raise StoreUnavailable(self.where, "; ".join(tried))

    @asynccontextmanager
    async def member(self) -> AsyncIterator[Channel]:
        """A member for streams; failures in the body are those of the store, and the next call is another's.

        Raises:
            StoreUnavailable: the stream has ended.
        """
        channel = self._channels[self._current]
        try:
            yield channel
        except GRPCError as error:
            self._go_on(channel)
            raise StoreUnavailable(self.where, f"{channel.member} answers {error.message or error.status}") from error
        except _TRANSPORT as error:
            self._go_on(channel)
            raise StoreUnavailable(self.where, f"{channel.member}: {channel.why(error)}") from error

    async def end(self) -> None:
        """End all connections, and wait for their farewells."""
        for channel in self._channels:
            channel.close()
        for channel in self._channels:
            await channel.wait_ended()

    def _go_on(self, channel: _Channel) -> None:
        """Leave a member that did not serve; a stream that fails later than a call has must not move us again."""
        channel.close()
        if self._channels[self._current] is channel:
            self._current = (self._current + 1) % len(self._channels)


class _Channel(Channel):
    """Connects when it is used, again after `close`, and gives up in time.

    Its files are read at each connection, so that those that are replaced need no restart.
    """

    def __init__(self, member: Endpoint, endpoints: EtcdEndpoints) -> None:
        super().__init__(member.host, member.port, ssl=endpoints.root_cert is not None, config=_CONFIGURATION)
        self.member = member
        self._endpoints = endpoints
        self._open: list[Connection] = []

    def why(self, error: BaseException) -> str:
        """What an operator should know of a failure; that etcd does not accept us shows after the handshake."""
        last = self._open[-1] if self._open else None
        if last is None or last.heard or not last.ended.is_set() or self._endpoints.root_cert is None:
            return _reason(error)
        said = f" ({last.lost.reason})" if isinstance(last.lost, ssl.SSLError) else ""
        wanted = "does not accept cert and key" if self._endpoints.cert is not None else "may want cert and key"
        return f"etcd ends the connection as soon as it knows us{said}: it {wanted} of store.etcd"

    async def wait_ended(self) -> None:
        """After `close`; as long as a farewell may take."""
        for protocol in self._open:
            await protocol.ended.wait()

    async def _create_connection(self) -> H2Protocol:
        name = self.member.server_name or self.member.host
        context = tls_context(self._endpoints)
        self._open = [protocol for protocol in self._open if not protocol.ended.is_set()]
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, made = await self._loop.create_connection(
                lambda: Connection(self._config, self._h2_config),
                self.member.host,
                self.member.port,
                ssl=context,
                server_hostname=name if context is not None else None,
                ssl_shutdown_timeout=_FAREWELL if context is not None else None,
            )
        self._open.append(made)
        return made


def tls_context(endpoints: EtcdEndpoints) -> ssl.SSLContext | None:
    """How to speak to the members; None for plain connections.

    Raises:
        StoreUnavailable: a file is not usable.
    """
    if endpoints.root_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    path = endpoints.root_cert
    try:
        context.load_verify_locations(path)
        if endpoints.cert is not None:
            path = endpoints.cert
            context.load_cert_chain(endpoints.cert, endpoints.key)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise StoreUnavailable(str(path), f"cannot be used for the connection to etcd ({why})") from error
    return context


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, StoreUnavailable):
        return str(error)
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def members(texts: Sequence[str]) -> tuple[Endpoint, ...]:
    """Read `host`, `host:port` or `[v6]:port`.

    Raises:
        ValueError: not one of these.
    """
    found = []
    for text in texts:
        bare = text.removeprefix("https://").removeprefix("http://")
        endpoint = Endpoint.parse(bare)
        given = bare.rpartition("]")[2].count(":") == 1
        found.append(endpoint if given else Endpoint(endpoint.host, DEFAULT_PORT))
    return tuple(found)
