"""XdsClient: keeps this host's picture of the mesh up to date over delta ADS (envoy.service.discovery.v3)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grpclib.client import Channel, Stream

from hostmesh.model.node import NODE_NAMESPACE
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.transport.backoff import Backoff
from hostmesh.wire.proto.discovery_grpc import AggregatedDiscoveryServiceStub
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from hostmesh.xds.codec import ADDRESS_TYPE, NETWORK_POLICY_TYPE, OWN_TYPES, TYPES, WAYPOINT_TYPE
from hostmesh.xds.counts import ANSWERED, ASKED, COMPLETE, CONNECTION_ERROR, ERROR, REFUSED, XdsCounts
from hostmesh.xds.held import KEY_OF, Held, XdsUpdate
from hostmesh.xds.interest import Interest, NotAsked
from hostmesh.xds.snapshot import SnapshotWriter, load_snapshot
from hostmesh.xds.subscription import Outcome, Subscription, nack_text

__all__ = ["NodeInfo", "XdsClient", "XdsStatus", "XdsUpdate"]

_log = logging.getLogger(__name__)

BACKOFF_INITIAL = 0.1
BACKOFF_MAXIMUM = 15.0
_HEALTHY = 5.0
"""A stream that lived so long was no failure: the next one is opened after the shortest back-off."""
_CHUNK = 256
"""Resources judged between two turns of the event loop: a push of 10,000 must not stall the rest of the agent."""

_LET_GO_INTERVAL = 30.0
"""Seconds between two looks for names that nobody uses."""

Companion = Callable[[Channel], Coroutine[Any, Any, None]]
"""What else is done on a connection."""

_Stream = Stream[DeltaDiscoveryRequest, DeltaDiscoveryResponse]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who asks, as istiod reads it: a proxy of the ztunnel kind on node `name`."""

    name: str
    ip: str
    namespace: str = NODE_NAMESPACE
    metadata: Mapping[str, str] = field(default_factory=dict)

    def message(self) -> Node:
        """The node that rides on the first request of each type."""
        node = Node(id=f"ztunnel~{self.ip}~{self.name}.{self.namespace}~{self.namespace}.svc.cluster.local")
        own = {"NAME": self.name, "NAMESPACE": self.namespace, "INSTANCE_IPS": self.ip, "NODE_NAME": self.name}
        node.metadata.update({**own, **self.metadata})
        return node


@dataclass(frozen=True, slots=True)
class XdsStatus:
    """A snapshot for readiness, status and metrics.

    `synced` once the mesh's types have been answered since the start, and from then on; `restored` if state came from
    the disk; `error` is why there is no connection, `not_admitted` says that it is this node's certificate; `since`
    (epoch seconds) is when `connected` last changed. `network_policies` once those have been answered since the start.
    """

    connected: bool
    synced: bool
    restored: bool
    error: str
    since: float
    connections: int
    responses: int
    rejected_resources: int
    addresses: int
    authorizations: int
    not_admitted: bool = False
    network_policies: bool = False


class XdsClient:
    """Subscribes to everything, or on demand to what is used, and hands on what the codec accepts.

    Args:
        control_plane: with the node's files.
        node: who asks.
        on_update: takes each change; called on the loop, must be quick and must not raise.
        on_status: told when the connection comes or goes and when it is in sync.
        types: what to subscribe to, in that order.
        snapshot_path: where the state is cached between starts; None keeps none.
        backoff: between connections that fail.
        headers: what goes with each call; may raise ControlPlaneError.
        on_demand: names that are always followed, where of addresses nothing else is but what connections ask for.
        companion: what else is to be done on each connection that the control plane has admitted, until it ends.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        node: NodeInfo,
        on_update: Callable[[XdsUpdate], None],
        *,
        on_status: Callable[[XdsStatus], None] | None = None,
        types: Sequence[str] = TYPES,
        snapshot_path: Path | None = None,
        backoff: Backoff | None = None,
        headers: Callable[[], Mapping[str, str]] = dict,
        on_demand: Sequence[str] | None = None,
        companion: Companion | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._headers = headers
        self._control_plane = control_plane
        self._node = node
        self._on_update = on_update
        self._on_status = on_status
        self._backoff = backoff or Backoff(BACKOFF_INITIAL, BACKOFF_MAXIMUM)
        self._companion = companion
        self._now = now
        if snapshot_path is not None:
            self._held = load_snapshot(snapshot_path, on_demand)
        else:
            self._held = Held(Interest(on_demand) if on_demand is not None else None)
        self._restored = any(self._held.counts()) or bool(self._held.by_type[WAYPOINT_TYPE])
        self._writer = SnapshotWriter(snapshot_path, self._held) if snapshot_path is not None else None
        self._subscriptions = {url: Subscription(url, KEY_OF[url], self._held.by_type[url]) for url in types}
        if ADDRESS_TYPE in types:
            self._subscriptions[ADDRESS_TYPE].interest = self._held.interest
        self._connected = False
        self._synced = False
        self._failure: ControlPlaneError | None = None
        self._since = now()
        self._connections = self._rejected = 0
        self.counts = XdsCounts()
        self._wake = asyncio.Event()
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether the control plane has admitted this node to a stream that is still open."""
        return self._connected

    @property
    def synced(self) -> bool:
        """Whether the mesh's own types have been answered since the start."""
        return self._synced

    @property
    def anew(self) -> bool:
        """Whether what was known before this start does not count: the mesh was followed in another way then."""
        return self._held.anew

    def want(self, name: str) -> None:
        """A connection waits to hear whose an address is; what is known is told again, to whoever has missed it."""
        interest = self._held.interest
        if interest is None:
            if self._synced or self._restored:
                self._on_update(XdsUpdate(learned=(name,)))
            return
        if interest.knows(name):
            self._on_update(XdsUpdate(on_demand=True, learned=(name,)))
            return
        try:
            if interest.want(name):
                self.counts.on_demand[ASKED] += 1
                self._wanted.set()
        except NotAsked as error:
            self.counts.on_demand[REFUSED] += 1
            self._on_update(XdsUpdate(on_demand=True, refused={name: str(error)}))

    def used(self, names: Iterable[str]) -> None:
        """Connections went to these addresses."""
        if self._held.interest is not None:
            self._held.interest.used(names, time.monotonic())

    def everything(self) -> XdsUpdate:
        """All that is held, for a new worker."""
        return self._held.everything()

    def status(self) -> XdsStatus:
        """A snapshot."""
        addresses, authorizations = self._held.counts()
        return XdsStatus(
            connected=self._connected,
            synced=self._synced,
            restored=self._restored,
            error=str(self._failure) if self._failure is not None else "",
            since=self._since,
            connections=self._connections,
            responses=self.counts.messages.total(),
            rejected_resources=self._rejected,
            addresses=addresses,
            authorizations=authorizations,
            network_policies=NETWORK_POLICY_TYPE in self._subscriptions
            and self._subscriptions[NETWORK_POLICY_TYPE].answered,
            not_admitted=self._failure is not None and self._failure.failure is Failure.NOT_ADMITTED,
        )

    def retry(self) -> None:
        """Connect now instead of after the back-off: what was in the way is gone."""
        self._backoff.reset()
        self._wake.set()

    async def run(self) -> None:
        """Hand on what the disk had, then stay connected until cancelled."""
        if self._restored:
            _log.info("xds: starting with the cached state: %d addresses, %d policies", *self._held.counts())
            self._on_update(self._held.everything())
        async with asyncio.TaskGroup() as group:
            if self._writer is not None:
                group.create_task(self._writer.run(), name="xds snapshot")
            await self._stay_connected()

    async def _stay_connected(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._one_connection()
                failure, reason = ControlPlaneError(Failure.LOST, "the control plane ended the stream"), COMPLETE
            except ControlPlaneError as error:
                failure, reason = error, ERROR if self._connected else CONNECTION_ERROR
            self.counts.terminations[reason] += 1
            self._disconnected(failure)
            await self._pause(self._backoff.next())

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _one_connection(self) -> None:
        async with self._control_plane.connect() as channel:
            stub = AggregatedDiscoveryServiceStub(channel)
            async with stub.DeltaAggregatedResources.open(metadata=dict(self._headers())) as stream:
                node = self._node.message()
                for subscription in self._subscriptions.values():
                    await stream.send_message(subscription.first_request(node))
                await stream.recv_initial_metadata()
                self._admitted()
                await self._follow(stream, channel)
                await stream.end()  # or leaving would be taken for a breach of the protocol

    async def _follow(self, stream: _Stream, channel: Channel) -> None:
        """To the end of the stream, with the companion beside it."""
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._companion(channel), name="beside xds")] if self._companion else []
                beside.append(group.create_task(self._ask(stream), name="xds on demand"))
                while (response := await stream.recv_message()) is not None:
                    await self._respond(stream, response)
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _ask(self, stream: _Stream) -> None:
        """Tell the control plane what is newly wanted, and what is not any more."""
        interest = self._held.interest
        if interest is None:
            return
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LET_GO_INTERVAL):
                    await self._wanted.wait()
            self._wanted.clear()
            forgotten = interest.expire(time.monotonic())
            if forgotten:  # nobody relies on them before the control plane ceases to keep them up to date
                self._on_update(XdsUpdate(on_demand=True, forgotten=tuple(forgotten)))
            subscribe, let_go = interest.news()
            if subscribe or let_go:
                await self._send(
                    stream,
                    DeltaDiscoveryRequest(
                        type_url=ADDRESS_TYPE, resource_names_subscribe=subscribe, resource_names_unsubscribe=let_go
                    ),
                )

    async def _send(self, stream: _Stream, request: DeltaDiscoveryRequest) -> None:
        """One at a time: a message may leave in several frames."""
        async with self._turn:
            await stream.send_message(request)

    async def _respond(self, stream: _Stream, response: DeltaDiscoveryResponse) -> None:
        self.counts.response(response)
        subscription = self._subscriptions.get(response.type_url)
        if subscription is None:
            acknowledged = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
            await self._send(stream, acknowledged)
            return
        outcome, fresh = Outcome(), not subscription.answered
        for start in range(0, len(response.resources), _CHUNK):
            subscription.take(response.resources[start : start + _CHUNK], outcome)
            await asyncio.sleep(0)
        answer = subscription.finish(response, outcome)
        self._hand_on(self._with_answers(subscription, response, outcome))
        if outcome.rejected:
            self._rejected += len(outcome.rejected)
            _log.warning(
                "xds: rejected resources, their last good state stays; a policy without one refuses everybody: %s",
                nack_text(outcome.rejected),
            )
        await self._send(stream, answer)
        if fresh and response.type_url == NETWORK_POLICY_TYPE:
            self._tell()
        self._note_sync()

    def _with_answers(
        self, subscription: Subscription, response: DeltaDiscoveryResponse, outcome: Outcome
    ) -> XdsUpdate:
        """The update, with the names that are known when it has been applied."""
        update, interest = outcome.update(response.type_url), subscription.interest
        if interest is None:
            return update
        spoken = set(response.removed_resources)
        for resource in response.resources:
            spoken.update((resource.name, *resource.aliases))
        if outcome.rejected:  # perhaps it is just what was asked for
            refused = dict.fromkeys(interest.give_up(spoken), "what it sent was rejected; see the agent's log")
            self._wanted.set()
            self.counts.on_demand[REFUSED] += len(refused)
            return replace(update, on_demand=True, refused=refused)
        learned = tuple(interest.answered(spoken, time.monotonic()))
        self.counts.on_demand[ANSWERED] += len(learned)
        return replace(update, on_demand=True, learned=learned)

    def _hand_on(self, update: XdsUpdate) -> None:
        if not update:
            return
        self._on_update(update)
        if self._writer is not None:
            self._writer.changed()

    def _admitted(self) -> None:
        self._connected, self._failure, self._since = True, None, self._now()
        self._connections += 1
        _log.info("xds: connected to the control plane %s", self._control_plane.endpoint)
        self._tell()

    def _note_sync(self) -> None:
        if self._synced or not all(
            subscription.answered for url, subscription in self._subscriptions.items() if url not in OWN_TYPES
        ):  # another control plane than hostmesh's never answers about those
            return
        self._synced = True
        if self._writer is not None:  # versions may have changed where contents have not
            self._writer.changed()
        _log.info("xds: in sync: %d addresses, %d policies", *self._held.counts())
        self._tell()

    def _disconnected(self, failure: ControlPlaneError) -> None:
        news = self._connected or self._failure is None or self._failure.failure is not failure.failure
        if self._connected:
            if self._now() - self._since >= _HEALTHY:
                self._backoff.reset()
            self._since = self._now()
        self._connected, self._failure = False, failure
        if news:
            _log.warning("xds: %s. This host goes on with what it knows and keeps trying", failure)
            self._tell()

    def _tell(self) -> None:
        if self._on_status is not None:
            self._on_status(self.status())
