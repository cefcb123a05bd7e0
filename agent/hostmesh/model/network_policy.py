"""NetworkPolicy: who may reach which ports of which workloads (Kubernetes networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from hostmesh.model.address import IPAddress, IPNetwork

LAST_PORT = 65535
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""A label that every namespace has, with its own name as the value."""


class Direction(Enum):
    """What a policy isolates; values as `policyTypes` spells them."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


class Protocol(Enum):
    """Protocols with ports; values as `ports[].protocol` spells them."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class Operator(Enum):
    """How a label is compared; values as `matchExpressions[].operator` spells them."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on labels. NOT_IN and DOES_NOT_EXIST hold for objects without the key, too."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it."""
        match self.operator:
            case Operator.IN:
                return self.key in labels and labels[self.key] in self.values
            case Operator.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements AND-ed; without any it selects everything. `matchLabels` are IN with one value."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether all requirements hold."""
        return all(requirement.holds(labels) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class IpBlock:
    """Addresses of a range, less those of the excluded ranges inside it."""

    cidr: IPNetwork
    excluded: tuple[IPNetwork, ...] = ()

    def __contains__(self, ip: IPAddress) -> bool:
        """Whether an address is meant; one of the other family never is."""
        return ip in self.cidr and not any(ip in network for network in self.excluded)


@dataclass(frozen=True, slots=True)
class WorkloadPeer:
    """Workloads by their labels and those of their namespace; one of the two selectors may be None, not both.

    Without `namespaces` only the policy's own namespace is meant; without `workloads` all workloads of those selected.
    """

    workloads: Selector | None = None
    namespaces: Selector | None = None


Peer = IpBlock | WorkloadPeer


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first` to `last`, both included."""

    protocol: Protocol = Protocol.TCP
    first: int = 0
    last: int = LAST_PORT


@dataclass(frozen=True, slots=True)
class NamedPort:
    """The port that the destination workload calls `name`; workloads may differ in its number."""

    protocol: Protocol
    name: str


PolicyPort = PortRange | NamedPort


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Admits connections with one of the peers to one of the ports; no peers means anybody, no ports everything."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[PolicyPort, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """A policy. Rules of a direction that is not in `isolates` mean nothing.

    `in_tunnel` says whether it holds for connections inside the mesh's tunnels too; None leaves it to the mesh.
    """

    name: str
    namespace: str
    selector: Selector = Selector()
    isolates: frozenset[Direction] = frozenset({Direction.INGRESS})
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
    in_tunnel: bool | None = None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def rules(self, direction: Direction) -> tuple[PolicyRule, ...]:
        """What it admits in one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    def selects(self, member: Member) -> bool:
        """Whether a workload is subject to it."""
        return member.namespace == self.namespace and self.selector.selects(member.labels)


@dataclass(frozen=True, slots=True)
class Member:
    """What policies see of a workload. `ports` are its named ports, `meshed` says that peers reach it through HBONE.

    `service_account` is that of its identity. Several members may share an address.
    """

    uid: str
    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    addresses: tuple[IPAddress, ...] = ()
    ports: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    meshed: bool = True
    service_account: str = "default"

    @property
    def key(self) -> str:
        """`namespace/name`, for people."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NamespaceLabels:
    """Labels of a namespace, besides its name."""

    name: str
    labels: Mapping[str, str]


PolicyResource = NetworkPolicy | Member | NamespaceLabels
"""What agents are told: policies, and whom they can mean."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Everybody that peers can mean. `namespaces` are labels of namespaces that have any besides their name."""

    members: tuple[Member, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))

    def namespace_labels(self, namespace: str) -> Mapping[str, str]:
        """Labels of a namespace, its name among them."""
        return {**self.namespaces.get(namespace, {}), NAMESPACE_NAME: namespace}

    def meant(self, peer: WorkloadPeer, policy_namespace: str) -> tuple[Member, ...]:
        """The workloads that a peer of a policy means."""
        return tuple(member for member in self.members if self._is_meant(member, peer, policy_namespace))

    def _is_meant(self, member: Member, peer: WorkloadPeer, policy_namespace: str) -> bool:
        if peer.namespaces is None:
            here = member.namespace == policy_namespace
        else:
            here = peer.namespaces.selects(self.namespace_labels(member.namespace))
        return here and (peer.workloads is None or peer.workloads.selects(member.labels))
