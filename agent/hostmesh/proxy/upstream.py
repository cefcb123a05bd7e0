"""Upstream: the workload a connection goes to, at which port and address (ztunnel's outbound resolution)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from hostmesh.model.address import IPAddress, NetworkAddress
from hostmesh.model.service import IpFamilies, Service
from hostmesh.model.workload import Protocol, Workload
from hostmesh.state.store import MeshState

ILLEGAL_PORTS = (15001, 15006, 15008, 15080)
"""The proxy's own listeners: nobody may be proxied to them."""

MAX_ASKED = 8
"""Workloads of one host that a connection to an unregistered port is tried with."""

RECURSIVE_CALL = "attempted recursive call to ourselves"


@dataclass(frozen=True, slots=True)
class Refused:
    """The connection must not be made; `reason` is for logs, the application only sees a close."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The way leads to a workload that has only a hostname: ask again once its addresses are known."""

    hostname: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody here knows what is at an address or service: ask again once the control plane has said it."""

    name: str


@dataclass(frozen=True, slots=True)
class Upstream:
    """`service` is what the workload was chosen from; `random` says that another call may choose another one.

    `others` may be meant as well: they share an address, and none has registered the port.
    """

    workload: Workload
    port: int
    service: Service | None = None
    random: bool = False
    others: tuple[Workload, ...] = ()

    @property
    def by_name(self) -> bool:
        """It has no address of its own, only a hostname."""
        return not self.workload.addresses and bool(self.workload.hostname)


def target_port(workload: Workload, service: Service, port: int) -> int | None:
    """Where a workload serves a port of a service: its own mapping, then the service's, then its tunnel's promise."""
    own = workload.services.get(service.namespaced_hostname, {}).get(port, 0)
    declared = own or service.ports.get(port, 0)
    if declared:
        return declared
    tunnel = workload.application_tunnel
    return port if tunnel is not None and tunnel.port is not None else None


def workload_at(state: MeshState, address: NetworkAddress, port: int) -> Workload | Refused | None:
    """The workload that a connection to a host address and port means.

    A pod owns its address. Several other workloads share their host's: the one that serves the port is meant, and
    if none does the host itself is (None). Two that serve it are never guessed between, unless only one of them
    speaks HBONE.
    """
    found = state.workloads_at(address)
    if not found:
        return None
    if len(found) == 1 or "//Pod/" in found[0].uid:
        return found[0]
    serving = [workload for workload in found if port in _served_ports(state, workload)]
    hbone = [workload for workload in serving if workload.protocol is Protocol.HBONE]
    meant = hbone or serving
    if len(meant) > 1:
        names = ", ".join(workload.uid for workload in meant)
        return Refused(f"{address.ip} port {port} is claimed by several workloads: {names}")
    return meant[0] if meant else None


def host_spokesmen(state: MeshState, address: NetworkAddress) -> tuple[Workload, ...]:
    """Whom to ask, one after the other, about a port that none of several workloads at a host's address has registered.

    First those that register no ports at all: any port may be theirs. To another one's port they do not get.
    """
    speaking = [workload for workload in state.workloads_at(address) if workload.protocol is Protocol.HBONE]
    return tuple(sorted(speaking, key=lambda workload: bool(_served_ports(state, workload)))[:MAX_ASKED])


def is_nobodys(state: MeshState, workload: Workload, port: int) -> bool:
    """Whether only the host of a workload can tell whose the port is. A pod has no neighbours at its address."""
    return "//Pod/" not in workload.uid and port not in _served_ports(state, workload)


def _served_ports(state: MeshState, workload: Workload) -> set[int]:
    served: set[int] = set()
    for key, own in workload.services.items():
        service = state.service_by_hostname(key)
        declared = service.ports if service is not None else {}
        for port in {**declared, **own}:
            target = own.get(port) or declared.get(port)
            if target:
                served.add(target)
    return served


def choose_ip(workload: Workload, service: Service | None, wanted: IPAddress) -> IPAddress | None:
    """The address to dial: the wanted one if the workload owns it, else one that the service's families allow.

    The family of `wanted` is preferred. None: the workload has no such address.
    """
    if wanted in workload.addresses:
        return wanted
    return next(iter(_preferred(workload.addresses, service, wanted)), None)


def draw_ip(
    answers: Sequence[IPAddress], service: Service | None, wanted: IPAddress, rng: Callable[[], float]
) -> IPAddress | None:
    """One of a hostname's addresses, by the rules of `choose_ip` but by lot."""
    preferred = _preferred(answers, service, wanted)
    return preferred[min(int(rng() * len(preferred)), len(preferred) - 1)] if preferred else None


def _preferred(addresses: Sequence[IPAddress], service: Service | None, wanted: IPAddress) -> list[IPAddress]:
    allowed = [ip for ip in addresses if _family_allowed(ip, service)]
    return [ip for ip in allowed if ip.version == wanted.version] or allowed


def _family_allowed(ip: IPAddress, service: Service | None) -> bool:
    families = service.ip_families if service is not None else None
    if families is None or families is IpFamilies.DUAL:
        return True
    return isinstance(ip, IPv4Address) == (families is IpFamilies.IPV4)
