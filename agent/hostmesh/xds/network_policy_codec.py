"""NetworkPolicies and whom they can mean, on the wire and in the model (hostmesh.policy.v1).

Anything that cannot be understood rejects the whole resource: a policy without one of its rules would be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from google.protobuf.message import DecodeError

from hostmesh.model.address import IPNetwork
from hostmesh.model.network_policy import (
    LAST_PORT,
    Direction,
    IpBlock,
    Member,
    NamedPort,
    NamespaceLabels,
    NetworkPolicy,
    Operator,
    Peer,
    PolicyPort,
    PolicyResource,
    PolicyRule,
    PortRange,
    Protocol,
    Requirement,
    Selector,
    WorkloadPeer,
)
from hostmesh.wire.proto import network_policy_pb2 as pb
from hostmesh.xds.fields import EnumCodec, Rejected, decode_ip, decode_port

_DIRECTIONS = EnumCodec({pb.INGRESS: Direction.INGRESS, pb.EGRESS: Direction.EGRESS})
_PROTOCOLS = EnumCodec({pb.TCP: Protocol.TCP, pb.UDP: Protocol.UDP, pb.SCTP: Protocol.SCTP})
_OPERATORS = EnumCodec(
    {
        pb.IN: Operator.IN,
        pb.NOT_IN: Operator.NOT_IN,
        pb.EXISTS: Operator.EXISTS,
        pb.DOES_NOT_EXIST: Operator.DOES_NOT_EXIST,
    }
)


def resource_name(resource: PolicyResource) -> str:
    """The name of the xDS resource."""
    match resource:
        case NetworkPolicy():
            return f"policy/{resource.key}"
        case Member():
            return f"member/{resource.uid}"
        case NamespaceLabels():
            return f"namespace/{resource.name}"


def encode_policy_resource(resource: PolicyResource) -> bytes:
    """The resource's bytes, the same for the same content."""
    return _encode(resource).SerializeToString(deterministic=True)


def decode_policy_resource(data: bytes) -> PolicyResource:
    """From the resource's bytes.

    Raises:
        Rejected: unreadable, or any part that is invalid or unknown to this version.
    """
    try:
        message = pb.Resource.FromString(data)
    except DecodeError as error:
        raise Rejected(f"decode error: {error}") from None
    match message.WhichOneof("kind"):
        case "policy":
            return _decode_policy(message.policy)
        case "member":
            return _decode_member(message.member)
        case "namespace":
            return NamespaceLabels(message.namespace.name, dict(message.namespace.labels))
        case _:
            raise Rejected("neither a policy, nor a member, nor a namespace")


def _encode(resource: PolicyResource) -> pb.Resource:
    match resource:
        case NetworkPolicy():
            return pb.Resource(policy=_encode_policy(resource))
        case Member():
            return pb.Resource(member=_encode_member(resource))
        case NamespaceLabels():
            return pb.Resource(namespace=pb.Namespace(name=resource.name, labels=dict(resource.labels)))


def _encode_policy(policy: NetworkPolicy) -> pb.NetworkPolicy:
    return pb.NetworkPolicy(
        name=policy.name,
        namespace=policy.namespace,
        selector=_encode_selector(policy.selector),
        isolates=sorted(_DIRECTIONS.encode(direction) for direction in policy.isolates),
        ingress=map(_encode_rule, policy.ingress),
        egress=map(_encode_rule, policy.egress),
    )


def _decode_policy(message: pb.NetworkPolicy) -> NetworkPolicy:
    if not message.isolates:
        raise Rejected("a policy that isolates nothing")
    return NetworkPolicy(
        name=message.name,
        namespace=message.namespace,
        selector=_decode_selector(message.selector),
        isolates=frozenset(map(_DIRECTIONS.decode, message.isolates)),
        ingress=tuple(map(_decode_rule, message.ingress)),
        egress=tuple(map(_decode_rule, message.egress)),
    )


def _encode_member(member: Member) -> pb.Member:
    return pb.Member(
        uid=member.uid,
        name=member.name,
        namespace=member.namespace,
        labels=dict(member.labels),
        addresses=[address.packed for address in member.addresses],
        ports=dict(member.ports),
        meshed=member.meshed,
        service_account=member.service_account,
    )


def _decode_member(message: pb.Member) -> Member:
    return Member(
        uid=message.uid,
        name=message.name,
        namespace=message.namespace,
        labels=dict(message.labels),
        addresses=tuple(map(decode_ip, message.addresses)),
        ports={name: decode_port(port) for name, port in message.ports.items()},
        meshed=message.meshed,
        service_account=message.service_account,
    )


def _encode_selector(selector: Selector) -> pb.Selector:
    return pb.Selector(
        requirements=[
            pb.Requirement(key=one.key, operator=_OPERATORS.encode(one.operator), values=sorted(one.values))
            for one in selector.requirements
        ]
    )


def _decode_selector(message: pb.Selector) -> Selector:
    return Selector(
        tuple(
            Requirement(one.key, _OPERATORS.decode(one.operator), frozenset(one.values)) for one in message.requirements
        )
    )


def _encode_rule(rule: PolicyRule) -> pb.Rule:
    return pb.Rule(peers=map(_encode_peer, rule.peers), ports=map(_encode_port, rule.ports))


def _decode_rule(message: pb.Rule) -> PolicyRule:
    return PolicyRule(tuple(map(_decode_peer, message.peers)), tuple(map(_decode_port, message.ports)))


def _encode_peer(peer: Peer) -> pb.Peer:
    if isinstance(peer, IpBlock):
        return pb.Peer(block=pb.Block(cidr=str(peer.cidr), excluded=map(str, peer.excluded)))
    workloads = _encode_selector(peer.workloads) if peer.workloads is not None else None
    namespaces = _encode_selector(peer.namespaces) if peer.namespaces is not None else None
    return pb.Peer(workloads=pb.Workloads(workloads=workloads, namespaces=namespaces))


def _decode_peer(message: pb.Peer) -> Peer:
    match message.WhichOneof("kind"):
        case "block":
            try:
                return IpBlock(ip_network(message.block.cidr), tuple(_networks(message.block.excluded)))
            except ValueError as error:
                raise Rejected(f"a block of addresses that is none: {error}") from None
        case "workloads":
            found = message.workloads
            workloads = _decode_selector(found.workloads) if found.HasField("workloads") else None
            namespaces = _decode_selector(found.namespaces) if found.HasField("namespaces") else None
            if workloads is None and namespaces is None:
                raise Rejected("a peer that selects neither workloads nor namespaces")
            return WorkloadPeer(workloads, namespaces)
        case _:
            raise Rejected("a peer that is neither a block of addresses nor a choice of workloads")


def _networks(texts: Iterable[str]) -> Iterable[IPNetwork]:
    return (ip_network(text) for text in texts)


def _encode_port(port: PolicyPort) -> pb.Port:
    protocol = _PROTOCOLS.encode(port.protocol)
    if isinstance(port, NamedPort):
        return pb.Port(protocol=protocol, name=port.name)
    return pb.Port(protocol=protocol, first=port.first, last=port.last)


def _decode_port(message: pb.Port) -> PolicyPort:
    protocol = _PROTOCOLS.decode(message.protocol)
    if message.name:
        return NamedPort(protocol, message.name)
    if not message.first <= message.last <= LAST_PORT:
        raise Rejected(f"ports {message.first} to {message.last} are no range")
    return PortRange(protocol, message.first, message.last)
