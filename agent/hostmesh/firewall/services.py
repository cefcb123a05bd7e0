"""Addresses of services, judged by what they lead to (Kubernetes judges after the translation of service addresses)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from hostmesh.firewall.semantics import Attempt, Endpoint, egress_allowed
from hostmesh.model.address import IPAddress
from hostmesh.model.network_policy import Member, Membership, NetworkPolicy, Protocol


@dataclass(frozen=True, slots=True)
class Front:
    """A port of a service: its addresses, and the workloads and ports that the agent may connect to instead."""

    addresses: tuple[IPAddress, ...]
    port: int
    endpoints: tuple[tuple[Member, int], ...]


def service_elements(
    fronts: Iterable[Front],
    policies: Sequence[NetworkPolicy],
    membership: Membership,
    subject: Member | None,
    family: int,
) -> tuple[str, ...]:
    """Elements `address . tcp . port` of those that the subject may use; of all where there is no subject.

    A front without endpoints leads nowhere the agent knows: the connection goes to the address itself, which ordinary
    rules judge.
    """
    return tuple(
        sorted(
            {
                f"{address} . tcp . {front.port}"
                for front in fronts
                if front.endpoints and (subject is None or reachable(front, policies, membership, subject))
                for address in front.addresses
                if address.version == family
            }
        )
    )


def reachable(front: Front, policies: Sequence[NetworkPolicy], membership: Membership, subject: Member) -> bool:
    """Whether egress of the subject allows every endpoint, at each of its addresses."""
    return all(
        egress_allowed(policies, membership, Attempt(_end(subject), Endpoint(ip, member), Protocol.TCP, port))
        for member, port in front.endpoints
        for ip in member.addresses
    )


def _end(member: Member) -> Endpoint:
    return Endpoint(member.addresses[0], member) if member.addresses else Endpoint(_NOWHERE, member)


_NOWHERE = IPv4Address(0)
