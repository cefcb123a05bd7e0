"""Names of chains and sets (nft identifiers): readable, unique, and short enough for the kernel.

A namespace has no dot and no underscore, a name no underscore; so `-` can become `_`, and dots can separate.
"""

from __future__ import annotations

import hashlib

from hostmesh.model.network_policy import Direction, Member, NetworkPolicy

_LONGEST = 120
_IN_OUT = {Direction.INGRESS: "in", Direction.EGRESS: "out"}


def chain(member: Member, direction: Direction) -> str:
    """The chain that judges one direction of a subject: `in.prod.web`."""
    return _identifier(_IN_OUT[direction], member.namespace, member.name)


def peers_set(policy: NetworkPolicy, direction: Direction, number: int, family: int) -> str:
    """The addresses of the peers of one rule: `p.prod.allow.in0.v4`."""
    return _identifier("p", policy.namespace, policy.name, f"{_IN_OUT[direction]}{number}", f"v{family}")


def named_set(policy: NetworkPolicy, number: int, family: int) -> str:
    """The destinations that names of ports of one egress rule lead to."""
    return _identifier("n", policy.namespace, policy.name, f"out{number}", f"v{family}")


def services_set(member: Member, family: int) -> str:
    """The addresses of services whose endpoints a subject may all reach."""
    return _identifier("s", member.namespace, member.name, f"v{family}")


def all_services_set(family: int) -> str:
    """The addresses of all services."""
    return f"services.v{family}"


def ports_set(member: Member) -> str:
    """The TCP ports that a user listens on."""
    return _identifier("t", member.namespace, member.name)


def datagrams_set(member: Member) -> str:
    """The UDP ports at which a user takes datagrams."""
    return _identifier("d", member.namespace, member.name)


def units_map(direction: Direction, level: int) -> str:
    """From the cgroup of a subject, `level` deep, to its chain."""
    return f"units.{_IN_OUT[direction]}.{level}"


def addresses_map(direction: Direction, family: int) -> str:
    """From the address of a subject in a network namespace to its chain."""
    return f"addresses.{_IN_OUT[direction]}.v{family}"


def _identifier(*parts: str) -> str:
    name = ".".join(parts).replace("-", "_")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 17]}.{hashlib.sha256('.'.join(parts).encode()).hexdigest()[:16]}"
