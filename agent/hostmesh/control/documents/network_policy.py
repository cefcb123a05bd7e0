"""Kubernetes NetworkPolicy (networking.k8s.io/v1): its shape, its rules, and what its author probably did not mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, PortNumber, Resource, Strict, check_labels, warning
from hostmesh.control.documents.names import is_cidr, label_key_complaint, label_value_complaint
from hostmesh.model.network_policy import LAST_PORT, Direction

ENFORCE_IN_TUNNEL = "hostmesh.io/enforce-in-tunnel"

_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_TYPES: Path = ("spec", "policyTypes")


class MatchExpression(Strict):
    """One condition on a label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] | None = None


class LabelSelector(Strict):
    """`matchLabels` and `matchExpressions`, all AND-ed."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[MatchExpression] | None = None

    @property
    def selects_everything(self) -> bool:
        """Whether it asks for nothing."""
        return not self.match_labels and not self.match_expressions


class CidrBlock(Strict):
    """A range of addresses without some parts of it."""

    cidr: str
    except_: list[str] | None = Field(default=None, alias="except")


class PolicyPeer(Strict):
    """`ipBlock` alone, or one or both of the selectors."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: CidrBlock | None = None


def _number_or_name(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LAST_PORT:
        raise ValueError(f"a number between 1 and {LAST_PORT}, or the name of a port")
    return value


class Port(Strict):
    """A port, a range of ports, a named port, or all ports of a protocol."""

    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    port: Annotated[int | str | None, BeforeValidator(_number_or_name)] = None
    end_port: PortNumber | None = None


class IngressRule(Strict):
    """Who may come in, and where to."""

    from_: list[PolicyPeer] | None = Field(default=None, alias="from")
    ports: list[Port] | None = None

    @property
    def peers(self) -> list[PolicyPeer]:
        """None of them means anybody."""
        return self.from_ or []


class EgressRule(Strict):
    """Where they may go."""

    to: list[PolicyPeer] | None = None
    ports: list[Port] | None = None

    @property
    def peers(self) -> list[PolicyPeer]:
        """None of them means anywhere."""
        return self.to or []


class NetworkPolicySpec(Strict):
    """What a policy asks."""

    pod_selector: LabelSelector = LabelSelector()
    policy_types: list[Literal["Ingress", "Egress"]] | None = None
    ingress: list[IngressRule] | None = None
    egress: list[EgressRule] | None = None


class NetworkPolicyDocument(Resource):
    """A policy for the workloads of its namespace that `spec.podSelector` selects."""

    spec: NetworkPolicySpec

    @property
    def isolates(self) -> frozenset[Direction]:
        """Without policyTypes: always ingress, and egress where there is a rule for it."""
        spec = self.spec
        if spec.policy_types:
            return frozenset(Direction(name) for name in spec.policy_types)
        return frozenset({Direction.INGRESS, *([Direction.EGRESS] if spec.egress else [])})

    @property
    def in_tunnel(self) -> bool | None:
        """What the annotation says; None without it."""
        value = self.metadata.annotations.get(ENFORCE_IN_TUNNEL)
        return None if value is None else value == "true"


def check_network_policy(policy: NetworkPolicyDocument) -> Iterator[Finding]:
    """Rules beyond the shape (Kubernetes' validation), and warnings about the classic mistakes."""
    spec = policy.spec
    yield from _check_selector(spec.pod_selector, ("spec", "podSelector"))
    if spec.pod_selector.selects_everything:
        why = "selects by no label: the policy applies to every workload of its namespace"
        yield warning(("spec", "podSelector"), why)
    value = policy.metadata.annotations.get(ENFORCE_IN_TUNNEL)
    if value not in (None, "true", "false"):
        yield Finding(("metadata", "annotations", ENFORCE_IN_TUNNEL), f'must be "true" or "false" (got {value!r})')
    yield from _check_types(policy)
    for number, ingress in enumerate(spec.ingress or ()):
        yield from _check_rule(ingress, "from", ("spec", "ingress", number))
    for number, egress in enumerate(spec.egress or ()):
        yield from _check_rule(egress, "to", ("spec", "egress", number))


def _check_types(policy: NetworkPolicyDocument) -> Iterator[Finding]:
    spec = policy.spec
    if spec.policy_types is not None and len(set(spec.policy_types)) < len(spec.policy_types):
        yield warning(_TYPES, "the same type stands twice: was the other one meant?")
    for direction, field, rules in (
        (Direction.INGRESS, "ingress", spec.ingress),
        (Direction.EGRESS, "egress", spec.egress),
    ):
        if rules and direction not in policy.isolates:
            why = f"no effect: policyTypes does not name {direction.value}, so the rules mean nothing; add it"
            yield warning(("spec", field), why)
    if spec.egress == [] and not spec.policy_types:
        why = "says nothing about egress, and the policy denies all ingress; to deny egress add policyTypes: [Egress]"
        yield warning(("spec", "egress"), why)


def _check_rule(rule: IngressRule | EgressRule, name: str, path: Path) -> Iterator[Finding]:
    for number, peer in enumerate(rule.peers):
        yield from _check_peer(peer, (*path, name, number))
    yield from _check_or(rule.peers, (*path, name))
    for number, port in enumerate(rule.ports or ()):
        yield from _check_port(port, (*path, "ports", number))


def _check_or(peers: list[PolicyPeer], path: Path) -> Iterator[Finding]:
    """Two elements are OR-ed: a `-` too many opens a policy to a whole namespace."""
    for number, (first, second) in enumerate(pairwise(peers), 1):
        apart = {_only(first), _only(second)}
        if apart == {"podSelector", "namespaceSelector"}:
            why = (
                "two elements mean OR: these pods of the own namespace, and all pods of those namespaces. "
                "For AND write both selectors in one element, without the `-` before the second"
            )
            yield warning((*path, number), why)


def _only(peer: PolicyPeer) -> str:
    if peer.pod_selector is not None:
        return "both" if peer.namespace_selector is not None else "podSelector"
    return "namespaceSelector" if peer.namespace_selector is not None else "ipBlock"


def _check_peer(peer: PolicyPeer, path: Path) -> Iterator[Finding]:
    if peer.ip_block is not None:
        if peer.pod_selector is not None or peer.namespace_selector is not None:
            yield Finding(path, "ipBlock stands alone: put the selectors into another element of the list")
        yield from _check_block(peer.ip_block, (*path, "ipBlock"))
    elif peer.pod_selector is None and peer.namespace_selector is None:
        why = "an empty peer: name an ipBlock, a podSelector or a namespaceSelector ({} selects all)"
        yield Finding(path, why)
    for name, selector in (("podSelector", peer.pod_selector), ("namespaceSelector", peer.namespace_selector)):
        if selector is not None:
            yield from _check_selector(selector, (*path, name))


def _check_block(block: CidrBlock, path: Path) -> Iterator[Finding]:
    if complaint := _cidr_complaint(block.cidr):
        yield Finding((*path, "cidr"), complaint)
        return
    outer = ip_network(block.cidr)
    for number, text in enumerate(block.except_ or ()):
        where = (*path, "except", number)
        if complaint := _cidr_complaint(text):
            yield Finding(where, complaint)
        elif not _strictly_inside(ip_network(text), outer):
            yield Finding(where, f"{text} is not a part of {block.cidr}: an exception lies inside, and is smaller")


def _strictly_inside(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner != outer and inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner != outer and inner.subnet_of(outer)
    return False


def _cidr_complaint(text: str) -> str | None:
    if not is_cidr(text):
        return f"{text!r} is not an address range like 10.0.0.0/8 or 2001:db8::/32"
    network = ip_interface(text).network
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        return f"{text!r} would never match: write the IPv4 range without ::ffff:"
    if str(ip_interface(text).ip) != str(network.network_address):
        return f"{text!r} has host bits set: the range is {network}; for the one address write /{network.max_prefixlen}"
    return None


def _check_port(port: Port, path: Path) -> Iterator[Finding]:
    if isinstance(port.port, str) and not _PORT_NAME.fullmatch(port.port):
        hint = f"; for the number write it without quotes: {port.port}" if port.port.isdigit() else ""
        why = f"{port.port!r} is not a port name (1 to 15 of a-z, 0-9 and '-', at least one letter){hint}"
        yield Finding((*path, "port"), why)
    elif isinstance(port.port, str) and "--" in port.port:
        yield Finding((*path, "port"), f"{port.port!r} is not a port name: '-' must not follow '-'")
    if port.end_port is None:
        return
    if port.port is None:
        yield Finding((*path, "endPort"), "a range needs its first port; add port")
    elif isinstance(port.port, str):
        yield Finding((*path, "endPort"), f"a range needs numbers: port is the name {port.port!r}")
    elif port.end_port < port.port:
        yield Finding((*path, "endPort"), f"{port.end_port} is less than port {port.port}")


def _check_selector(selector: LabelSelector, path: Path) -> Iterator[Finding]:
    yield from check_labels(selector.match_labels or {}, (*path, "matchLabels"))
    for number, expression in enumerate(selector.match_expressions or ()):
        yield from _check_expression(expression, (*path, "matchExpressions", number))


def _check_expression(expression: MatchExpression, path: Path) -> Iterator[Finding]:
    if complaint := label_key_complaint(expression.key):
        yield Finding((*path, "key"), complaint)
    takes_values = expression.operator in ("In", "NotIn")
    if takes_values and not expression.values:
        yield Finding((*path, "values"), f"{expression.operator} needs at least one value")
    elif not takes_values and expression.values:
        yield Finding((*path, "values"), f"{expression.operator} takes no values; remove them")
    yield from _check_values(expression.values or (), (*path, "values"))


def _check_values(values: Iterable[str], path: Path) -> Iterator[Finding]:
    for number, value in enumerate(values):
        if complaint := label_value_complaint(value):
            yield Finding((*path, number), complaint)
