"""What a host must never lose, whatever is captured on it: pure; hostmesh.enrolment.failsafe reads the facts.

DHCP, NTP and other UDP need no place here: only TCP is captured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from hostmesh.redirect.rules import never_inbound
from hostmesh.redirect.subjects import Exclusions, Intent, Network, Reserved

DNS_PORT = 53
USUAL_SSH_PORT = 22
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Way:
    """A way to this host, or from it, that must stay open: a TCP port, at an address where it leads away."""

    port: int
    source: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found on this host.

    `ssh` are sshd's ports, `session` is the connection by which somebody works here now (SSH_CONNECTION): its peer and
    our port. `away` are resolvers and the control plane. `agents` are uids.
    """

    ssh: tuple[Way, ...] = ()
    session: Way | None = None
    away: tuple[Way, ...] = ()
    agents: tuple[int, ...] = ()


def reserved(
    facts: Facts, ssh_ports: Iterable[int] | None, ports: Iterable[int], networks: Iterable[Network]
) -> Reserved:
    """The failsafe list of this host.

    Args:
        facts: what was found.
        ssh_ports: instead of those found, as the operator says; None: those found.
        ports: further inbound ports.
        networks: further destinations.
    """
    inbound = {way.port for way in facts.ssh} or {USUAL_SSH_PORT} if ssh_ports is None else set(ssh_ports)
    away = {(_alone(way.address), way.port) for way in facts.away if way.address is not None}
    away |= {(network, 0) for network in networks}
    return Reserved(
        tuple(sorted({*inbound, *ports})),
        tuple(sorted(away, key=lambda pair: (pair[0].version, int(pair[0].network_address), pair[1]))),
        tuple(sorted(set(facts.agents))),
    )


def lockouts(intent: Intent, facts: Facts) -> tuple[str, ...]:
    """What of the failsafe list the intent would send to the proxy, one line each with the next step; none is good."""
    return tuple(dict.fromkeys((*_inbound(intent, facts), *_outbound(intent, facts))))


def _inbound(intent: Intent, facts: Facts) -> Iterator[str]:
    never = set(never_inbound(intent))
    ways = [*facts.ssh, *([facts.session] if facts.session is not None else [])]
    for way in ways:
        who = None if way.port in never else _captor(intent, way)
        if who is not None:
            yield (
                f"ssh at port {way.port} ({way.source}) would be captured as {who}; "
                f"next: add {way.port} to capture.ssh_ports of agent.yaml"
            )


def _captor(intent: Intent, way: Way) -> str | None:
    """The workload as which a connection to sshd is captured; sshd is root's, and its unit no workload."""
    host = intent.host
    if host is None or host.scope.bypass_inbound or _excluded(host.scope.inbound, way):
        return None
    return host.workload.key


def _outbound(intent: Intent, facts: Facts) -> Iterator[str]:
    host = intent.host
    if host is None:
        return
    for way in facts.away:
        kept = any(way.address in network and port in (0, way.port) for network, port in intent.reserved.outbound)
        if not kept and not _excluded(host.scope.outbound, way):
            yield (
                f"{way.address} port {way.port} ({way.source}) would be reached through the proxy only, as "
                f"{host.workload.key}; next: add {way.address} to capture.excluded_outbound_cidrs of agent.yaml"
            )


def _excluded(what: Exclusions, way: Way) -> bool:
    return way.port in what.ports or any(way.address in network for network in what.networks if way.address is not None)


def _alone(address: Address) -> Network:
    return ip_network(address)
