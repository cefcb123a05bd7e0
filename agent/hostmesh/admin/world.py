"""World: all that an explanation may look at, whoever told it; what is not known is left out, and said so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from hostmesh.model.address import SocketAddress
from hostmesh.model.authorization import Authorization
from hostmesh.model.identity import Identity
from hostmesh.model.network_policy import Membership, NetworkPolicy
from hostmesh.model.service import Service
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.model.workload import Workload
from hostmesh.state.store import MeshState


class Reach(Enum):
    """What became of a TCP connection that was tried out."""

    UNKNOWN = "not tried"
    OPEN = "answers"
    REFUSED = "refuses connections"
    SILENT = "does not answer"


Probe = Callable[[SocketAddress], Reach]


@dataclass(frozen=True, slots=True)
class CertificateView:
    """`state` as the config dump has it; times are seconds since the epoch, None where there is no certificate."""

    state: str
    not_before: float | None = None
    not_after: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class CapturedView:
    """A workload that a host captures; `capture` says how far that is in place."""

    name: str
    namespace: str
    identity: Identity
    unit: str
    capture: str


@dataclass(frozen=True, slots=True)
class HostView:
    """What an agent says of itself."""

    node: str
    captured: tuple[CapturedView, ...] = ()
    pending: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class WaypointView:
    """What the waypoint of a Gateway on this host says of itself."""

    ready: bool
    text: str


_NOBODY = Membership()


@dataclass(frozen=True, slots=True)
class World:
    """The mesh as somebody sees it.

    `host` and `certificates` are None where no agent was asked; `sources` are `file:line` of policies by their keys;
    `network_policies` are those of the documents; `revoked` identities have been taken back. `programs` are what
    waypoints are told; `attachments` say why a service (`namespace/name`) or workload (uid) has one, and `waypoints`
    how those of this host are. `gone` are hosts whose agents have been silent, and since when; `unhealthy` says why a
    workload (`namespace/name`) is, as its host reports it.
    """

    state: MeshState
    network: str = ""
    host: HostView | None = None
    certificates: Mapping[Identity, CertificateView] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    network_policies: tuple[NetworkPolicy, ...] = ()
    membership: Membership = _NOBODY
    revoked: frozenset[Identity] = frozenset()
    programs: tuple[WaypointProgram, ...] = ()
    attachments: Mapping[str, str] = field(default_factory=dict)
    waypoints: Mapping[str, WaypointView] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)
    unhealthy: Mapping[str, str] = field(default_factory=dict)


def state_of(
    workloads: Iterable[Workload], services: Iterable[Service], policies: Iterable[Authorization]
) -> MeshState:
    """A store that holds them."""
    state = MeshState()
    for workload in workloads:
        state.upsert_workload(workload)
    for service in services:
        state.upsert_service(service)
    for policy in policies:
        state.upsert_authorization(policy)
    return state
