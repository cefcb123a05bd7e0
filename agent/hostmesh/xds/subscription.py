"""One subscription of a delta stream, sans I/O: responses in, accepted resources and ACK or NACK out.

A NACK is partial: the good resources of the response are applied, the rejected ones keep their last good state and
version. A policy without a last good state has a stand-in instead, which closes what it is about, and no version.
Resources are applied before removals, so a name in both lists ends up removed (as ztunnel does it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource
from hostmesh.xds.closed import stand_in
from hostmesh.xds.codec import (
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
    NETWORK_POLICY_TYPE,
    TRUST_TYPE,
    WAYPOINT_TYPE,
    Rejected,
)
from hostmesh.xds.held import Versioned, XdsUpdate
from hostmesh.xds.interest import Interest

WILDCARD = "*"

STAND_IN = ""
"""The version of what no control plane has sent: it is not told of it, and sends what it has."""

_MAX_DETAIL = 4096
"""A long grpc-message or NACK helps nobody; the rest is counted."""


@dataclass(slots=True)
class Outcome:
    """What one response came to. `rejected` pairs names with reasons; resources that did not change are in neither."""

    upserts: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)

    def update(self, type_url: str) -> XdsUpdate:
        """As the listener takes it."""
        if type_url == TRUST_TYPE:
            return XdsUpdate(trust=next(iter(self.upserts.values()), b""))
        if type_url == ADDRESS_TYPE:
            return XdsUpdate(addresses=self.upserts, removed_addresses=tuple(self.removed))
        if type_url == NETWORK_POLICY_TYPE:
            return XdsUpdate(network_policies=self.upserts, removed_network_policies=tuple(self.removed))
        if type_url == WAYPOINT_TYPE:
            return XdsUpdate(programs=self.upserts, removed_programs=tuple(self.removed))
        return XdsUpdate(authorizations=self.upserts, removed_authorizations=tuple(self.removed))


class Subscription:
    """Everything of one type, or with an `interest` what its names mean.

    Args:
        type_url: of the resources.
        key_of: validates a resource's bytes and tells its own key; raises `Rejected`.
        held: what is held already, by name; kept up to date here.
        interest: which names, None for all.
    """

    def __init__(
        self,
        type_url: str,
        key_of: Callable[[bytes], str],
        held: dict[str, Versioned],
        interest: Interest | None = None,
    ) -> None:
        self.type_url = type_url
        self.answered = False
        self._key_of = key_of
        self._held = held
        self.interest = interest

    def first_request(self, node: Node) -> DeltaDiscoveryRequest:
        """The request that opens the subscription on a new stream: a wildcard, with the versions held.

        On demand it names what is of interest. That the wildcard is let go again means "nothing else" (istiod), and so
        it is with each resource that is held and was not asked for by its own name.
        """
        versions = {name: held.version for name, held in self._held.items() if held.version != STAND_IN}
        request = DeltaDiscoveryRequest(node=node, type_url=self.type_url, initial_resource_versions=versions)
        if self.interest is not None:
            names = self.interest.everything()
            request.resource_names_subscribe.extend([WILDCARD, *names])
            request.resource_names_unsubscribe.extend([WILDCARD, *(versions.keys() - set(names))])
        return request

    def take(self, resources: Iterable[Resource], outcome: Outcome) -> None:
        """Judge some resources of a response and hold the good ones; call `finish` after the last."""
        for resource in resources:
            data = resource.resource.value
            try:
                self._judge(resource, data)
            except Rejected as rejected:
                outcome.rejected.append((resource.name, rejected.reason))
                self._close(resource.name, data, outcome)
                continue
            self._hold(resource.name, Versioned(resource.version, data), outcome)

    def _close(self, name: str, data: bytes, outcome: Outcome) -> None:
        before = self._held.get(name)
        if self.type_url == AUTHORIZATION_TYPE and (before is None or before.version == STAND_IN):
            closed = stand_in(name, data)
            if closed is not None:
                self._hold(name, Versioned(STAND_IN, closed), outcome)

    def _hold(self, name: str, fresh: Versioned, outcome: Outcome) -> None:
        before = self._held.get(name)
        self._held[name] = fresh
        if before is None or before.data != fresh.data:
            outcome.upserts[name] = fresh.data

    def finish(self, response: DeltaDiscoveryResponse, outcome: Outcome) -> DeltaDiscoveryRequest:
        """Apply the removals; what comes back is the ACK, or the NACK if anything was rejected."""
        for name in response.removed_resources:
            outcome.upserts.pop(name, None)
            if self._held.pop(name, None) is not None:
                outcome.removed.append(name)
        self.answered = True
        answer = DeltaDiscoveryRequest(type_url=self.type_url, response_nonce=response.nonce)
        if outcome.rejected:
            answer.error_detail.message = nack_text(outcome.rejected)
        return answer

    def _judge(self, resource: Resource, data: bytes) -> None:
        if not resource.HasField("resource"):
            raise Rejected("XDS payload without resource")
        if resource.resource.type_url != self.type_url:
            raise Rejected(f"resource is a {resource.resource.type_url or 'message without type'}")
        key = self._key_of(data)
        if key != resource.name:  # removals name the resource: under another name it could never be removed
            raise Rejected(f"the resource calls itself {key}")


def nack_text(rejected: list[tuple[str, str]]) -> str:
    """`name: reason; name: reason`, bounded."""
    parts: list[str] = []
    size = 0
    for name, reason in rejected:
        size += len(name) + len(reason) + 4
        if parts and size > _MAX_DETAIL:
            return "; ".join(parts) + f"; and {len(rejected) - len(parts)} more"
        parts.append(f"{name}: {reason}")
    return "; ".join(parts)
