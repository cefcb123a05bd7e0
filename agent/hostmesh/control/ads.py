"""AdsService: serves the mesh to its nodes over delta ADS (envoy.service.discovery.v3; rules as istiod's)."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from hostmesh.control.aliases import Aliases, node_alias
from hostmesh.control.debounce import Debounce
from hostmesh.control.peer import (
    Authenticate,
    IsRevoked,
    NodePeer,
    by_certificate,
    receive_bounded,
    send_serialized,
)
from hostmesh.control.resource_set import Difference, ResourceSet
from hostmesh.control.responses import Responses, nonce_field
from hostmesh.control.snapshot import News, Snapshot, joined, news
from hostmesh.control.watch import Watch
from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceBase
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from hostmesh.xds.types import ADDRESS_TYPE, TRUST_TYPE

_log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 32 << 20
"""A reconnect names all that the node holds: about 100 bytes for each of 300,000 resources."""
_MAX_TYPES = 16
_MAX_NAMES = 300_000
_MAX_LOGGED = 1024
_MAX_SAID = 64
_SAID = ("CLUSTER_ID", "HOSTMESH_VERSION", "ISTIO_VERSION")
_DRAIN_TIMEOUT = 2.0
_NO_ALIASES = Aliases()

_Stream = Stream[DeltaDiscoveryRequest, DeltaDiscoveryResponse]


@dataclass(frozen=True, slots=True)
class ConnectedNode:
    """A node with an open stream. `settled` if it has answered all that it was sent; `since` is epoch seconds.

    `cluster` and `version` are what it says of itself, `types` the short names of what it follows.
    """

    node: str
    address: str
    since: float
    settled: bool
    nacks: int
    last_nack: str
    cluster: str = ""
    version: str = ""
    types: tuple[str, ...] = ()


class _Session:
    """One stream: what it watches, and a bell that its writer waits for."""

    def __init__(self, peer: NodePeer, since: float) -> None:
        self.peer = peer
        self.since = since
        self.watches: dict[str, Watch] = {}
        self.bell = asyncio.Event()
        self.ended = False
        self.nacks = 0
        self.last_nack = ""
        self._cluster = ""
        self._version = ""
        self._sent = 0

    def end(self) -> None:
        """Let the writer finish, so that the client sees a clean end."""
        self.ended = True
        self.bell.set()

    def concerned(self, changed: Mapping[str, frozenset[str]]) -> bool:
        return any(watch.concerned(changed.get(type_url, frozenset())) for type_url, watch in self.watches.items())

    def next_nonce(self) -> str:
        self._sent += 1
        return f"{self._sent:x}"

    def describe(self) -> ConnectedNode:
        settled = bool(self.watches) and all(watch.settled for watch in self.watches.values())
        return ConnectedNode(
            self.peer.node,
            self.peer.address,
            self.since,
            settled,
            self.nacks,
            self.last_nack,
            self._cluster,
            self._version,
            tuple(sorted(type_url.rpartition(".")[2] for type_url in self.watches)),
        )

    def introduce(self, node: Node) -> None:
        """What a client says of itself with its first request; for people only, so it is cut short."""
        said = {key: value.string_value[:_MAX_SAID] for key, value in node.metadata.fields.items() if key in _SAID}
        self._cluster = said.get("CLUSTER_ID", "")
        self._version = said.get("HOSTMESH_VERSION") or said.get("ISTIO_VERSION", "")


class AdsService(AggregatedDiscoveryServiceBase):
    """Give it to the gRPC server, run `run` beside it, and `publish` each new state of the mesh.

    Nobody is answered before the first `publish`: an empty mesh and one that is not known yet are not the same.

    Args:
        trust_domain: nodes of other trust domains are refused.
        debounce: how bursts of publications are joined.
        authenticate: tells the calling node or raises; by default its client certificate decides.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        trust_domain: str,
        *,
        debounce: Debounce = Debounce(),  # noqa: B008  # a frozen value
        authenticate: Authenticate | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._authenticate = authenticate or by_certificate(trust_domain)
        self._debounce = debounce
        self._now = now
        self._current: Snapshot | None = None
        self._pending: Snapshot | None = None
        self._news: News | None = {}
        """Since what was pushed last; None if that is not known."""
        self._first_change = self._last_change = 0.0
        self._pushed = -math.inf
        self._published = asyncio.Event()
        self._sessions: set[_Session] = set()
        self._left = asyncio.Event()
        self._responses = Responses()
        self._trust: ResourceSet | None = None
        self._draining = False

    def publish(self, snapshot: Snapshot) -> None:
        """Serve this from now on; nodes get the difference after the debounce."""
        self._last_change = time.monotonic()
        if self._pending is None:
            self._first_change = self._last_change
        before = self._pending or self._current
        follows = before is not None and snapshot.after is before.mark and self._news is not None
        self._news = joined(self._news or {}, snapshot.news) if follows else None
        self._pending = snapshot
        self._published.set()

    def publish_trust(self, bundle: ResourceSet) -> None:
        """Roots and revocations from now on: nodes that follow them get them at once, whatever else is going on."""
        self._trust = bundle
        for session in self._sessions:
            session.bell.set()

    def trust_sessions(self) -> dict[str, tuple[bool, bool]]:
        """For each connected node whether it follows trust bundles, and whether it holds the present one."""
        found: dict[str, tuple[bool, bool]] = {}
        for session in self._sessions:
            watch = session.watches.get(TRUST_TYPE)
            trust = self._trust.versions.items() if self._trust is not None else ()
            current = watch is not None and all(watch.holds(name, version) for name, version in trust)
            follows, was_current = found.get(session.peer.node, (False, True))
            found[session.peer.node] = (follows or watch is not None, was_current and current)
        return found

    def end_revoked(self, is_revoked: IsRevoked) -> None:
        """End the streams of nodes that may not call any more."""
        for session in self._sessions:
            if is_revoked(session.peer):
                _log.warning("xds: node %s is revoked: its stream ends", session.peer.node)
                session.end()

    def connected_nodes(self) -> list[ConnectedNode]:
        """Open streams, by node and age."""
        return sorted((s.describe() for s in self._sessions), key=lambda node: (node.node, node.since))

    async def run(self) -> None:
        """Push what is published until cancelled."""
        while True:
            await self._published.wait()
            if self._current is not None:
                await self._wait_for_quiet()
            self._published.clear()
            self._push()

    def _push(self) -> None:
        """Wake the writers of those whom the change concerns."""
        before, after, changed = self._current, self._pending, self._news
        self._current, self._pending, self._news = after, None, {}
        self._pushed = time.monotonic()
        if before is None or after is None:
            changed = None
        elif changed is None:
            changed = news(before, after)
        for session in self._sessions:
            if changed is None or session.concerned(changed):
                session.bell.set()

    async def drain(self) -> None:
        """End all streams cleanly, so that nodes reconnect without counting a failure; two seconds at most."""
        self._draining = True
        for session in self._sessions:
            session.end()
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT):
                while self._sessions:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            _log.warning("xds: %d nodes did not let go of their streams in time", len(self._sessions))

    async def DeltaAggregatedResources(self, stream: _Stream) -> None:  # noqa: N802
        """One client's stream, to its end."""
        peer = self._authenticate(stream)
        session = _Session(peer, self._now())
        await stream.send_initial_metadata()
        if self._draining:
            return
        self._sessions.add(session)
        _log.info("xds: node %s connected from %s", peer.node, peer.address)
        # a stream must not outlive the certificate that opened it; the node comes back with its new one
        expiry = asyncio.get_running_loop().call_later(max(peer.not_after - self._now(), 0), session.end)
        try:
            await self._serve(stream, session)
        finally:
            expiry.cancel()
            self._sessions.discard(session)
            self._left.set()
            _log.info("xds: node %s disconnected", peer.node)

    async def _serve(self, stream: _Stream, session: _Session) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(stream, session), name=f"xds requests of {session.peer.node}")
                await self._write(stream, session)
                reader.cancel()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None

    async def _read(self, stream: _Stream, session: _Session) -> None:
        try:
            while (request := await receive_bounded(stream, DeltaDiscoveryRequest, MAX_REQUEST_BYTES)) is not None:
                self._receive(request, session)
                if self._is_due(session.watches[request.type_url]):
                    session.bell.set()
        finally:
            session.end()

    def _is_due(self, watch: Watch) -> bool:
        if watch.type_url == TRUST_TYPE:
            return watch.due(self._trust, _NO_ALIASES)
        snapshot = self._current
        return snapshot is not None and watch.due(snapshot.of_type(watch.type_url), snapshot.aliases)

    def _receive(self, request: DeltaDiscoveryRequest, session: _Session) -> None:
        watch = session.watches.get(request.type_url)
        if request.HasField("node"):
            session.introduce(request.node)
        if watch is None:
            if len(session.watches) >= _MAX_TYPES:
                raise GRPCError(Status.RESOURCE_EXHAUSTED, f"more than {_MAX_TYPES} types on one stream")
            unasked = [node_alias(session.peer.node)] if request.type_url == ADDRESS_TYPE else []
            session.watches[request.type_url] = Watch(request, unasked)
            return
        nack = watch.receive(request)
        if watch.names > _MAX_NAMES:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"more than {_MAX_NAMES} names on one stream")
        if nack is not None:
            session.nacks += 1
            session.last_nack = nack.detail[:_MAX_LOGGED]
            _log.warning(
                "xds: node %s rejected resources of %s (it keeps their last good state): %s",
                session.peer.node,
                request.type_url.rpartition("/")[2],
                session.last_nack,
            )

    async def _write(self, stream: _Stream, session: _Session) -> None:
        while not session.ended:
            session.bell.clear()
            snapshot = self._current
            for watch in list(session.watches.values()):
                if watch.type_url == TRUST_TYPE:
                    await self._send_trust(stream, session, watch)
                elif snapshot is not None:
                    await self._send_news(stream, session, watch, snapshot)
            await session.bell.wait()

    async def _send_trust(self, stream: _Stream, session: _Session, watch: Watch) -> None:
        trust = self._trust
        found = watch.next_difference(trust, _NO_ALIASES) if trust is not None else None
        if trust is None or found is None:
            return
        nonce = session.next_nonce()
        watch.sent(trust, found, nonce)
        await self._send(stream, watch.type_url, trust, found, nonce)

    async def _send_news(self, stream: _Stream, session: _Session, watch: Watch, snapshot: Snapshot) -> None:
        target = snapshot.of_type(watch.type_url)
        found = watch.next_difference(target, snapshot.aliases, self._responses.compare)
        if found is None:
            return
        nonce = session.next_nonce()
        watch.sent(target, found, nonce)  # before the await: the answer may be quicker than its return
        await self._send(stream, watch.type_url, target, found, nonce)

    async def _send(self, stream: _Stream, type_url: str, target: ResourceSet, found: Difference, nonce: str) -> None:
        await send_serialized(stream, self._responses.body(type_url, target, found), nonce_field(nonce))

    async def _wait_for_quiet(self) -> None:
        wait = self._due() - time.monotonic()
        while wait > 0:
            await asyncio.sleep(wait)
            wait = self._due() - time.monotonic()

    def _due(self) -> float:
        return self._debounce.due(self._first_change, self._last_change, self._pushed)
