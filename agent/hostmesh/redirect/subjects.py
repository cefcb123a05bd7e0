"""Who is captured: a unit by its cgroup, a user by its uid, or the whole host; and what of it is not."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import PurePosixPath

from hostmesh.model.local import PROXY_MARK, LocalWorkload

ID = struct.Struct("=Q")
MARK = struct.Struct("=I")
PAIR = struct.Struct("=QI")
_ID_PORT = struct.Struct("=Q2s2x")

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Connections of a workload that capture leaves alone; each kind for itself is enough.

    `owners` are uids of processes that connect: the kernel does not say who will accept a connection.
    """

    ports: tuple[int, ...] = ()
    networks: tuple[Network, ...] = ()
    interfaces: tuple[str, ...] = ()
    owners: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ports or self.networks or self.interfaces or self.owners)


@dataclass(frozen=True, slots=True)
class Probe:
    """Health probes of a workload: what connects from these networks to this port is let through in plaintext."""

    port: int
    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a workload is captured. `bypass_inbound` is Istio's ambient.istio.io/bypass-inbound-capture."""

    outbound: Exclusions = Exclusions()
    inbound: Exclusions = Exclusions()
    bypass_inbound: bool = False
    probes: tuple[Probe, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.outbound or self.inbound or self.bypass_inbound or self.probes)

    def captures_all_to(self, port: int) -> bool:
        """Whether whoever connects to the workload's port is captured, wherever from."""
        inbound = self.inbound
        past = inbound.networks or inbound.interfaces or inbound.owners or port in inbound.ports
        return not (self.bypass_inbound or past or any(probe.port == port for probe in self.probes))


@dataclass(frozen=True, slots=True)
class Sockets:
    """What systemd listens on for a unit (its socket units): TCP `ports`, and UDP `datagrams`, which are not captured.

    The kernel knows these listeners as those of one of the `cgroups`: of systemd itself, or of a socket unit.
    """

    ports: tuple[int, ...] = ()
    cgroups: tuple[str, ...] = ()
    datagrams: tuple[int, ...] = ()

    def elements(self, cgroup_id: int) -> tuple[bytes, ...]:
        """Keys (and no data) in the set of the cgroup's level, as the kernel holds them."""
        return tuple(_ID_PORT.pack(cgroup_id, struct.pack("!H", port)) for port in self.ports)


@dataclass(frozen=True, slots=True)
class CapturedUnit:
    """A local workload and the cgroup its processes have, or will have: `system.slice/web.service`, `app.slice`."""

    workload: LocalWorkload
    cgroup: str
    scope: Scope = Scope()
    sockets: Sockets = Sockets()

    @property
    def level(self) -> int:
        """Depth of the cgroup below the root."""
        return len(PurePosixPath(self.cgroup).parts)

    @property
    def proxy_mark(self) -> int:
        """The mark of the proxy's connections to this workload's own ports."""
        return self.workload.mark | PROXY_MARK

    def map_element(self, cgroup_id: int) -> tuple[bytes, bytes]:
        """Key and data in the map of the level, as the kernel holds them."""
        return ID.pack(cgroup_id), MARK.pack(self.workload.mark)

    def set_element(self, cgroup_id: int) -> tuple[bytes, bytes]:
        """Key (and no data) in the set of the level, as the kernel holds them."""
        return PAIR.pack(cgroup_id, self.proxy_mark), b""


@dataclass(frozen=True, slots=True)
class CapturedUser:
    """A local workload and the uid of its processes. `ports` are those it listens on, declared or seen.

    Outbound the kernel says whose socket connects. Inbound it says who listens only once the listener answers, so the
    ports must be known, and an answer of somebody else is not let through. `datagrams` are the UDP ports that were
    seen: they are not captured, but NetworkPolicies are about them.
    """

    workload: LocalWorkload
    uid: int
    ports: tuple[int, ...] = ()
    scope: Scope = Scope()
    datagrams: tuple[int, ...] = ()

    @property
    def proxy_mark(self) -> int:
        """As CapturedUnit's."""
        return self.workload.mark | PROXY_MARK


@dataclass(frozen=True, slots=True)
class CapturedHost:
    """Everything of this host that is no other workload, but the failsafe list."""

    workload: LocalWorkload
    scope: Scope = Scope()

    @property
    def proxy_mark(self) -> int:
        """As CapturedUnit's."""
        return self.workload.mark | PROXY_MARK


@dataclass(frozen=True, slots=True)
class ListenerPorts:
    """Where the proxy listens; Istio's numbers."""

    outbound: int = 15001
    inbound_plaintext: int = 15006
    inbound: int = 15008


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a captured host must never lose: inbound ports, and outbound a network and a TCP port (0 is every one).

    `owners` are uids whose connections are never captured: the agent's own.
    """

    inbound_ports: tuple[int, ...] = (22,)
    outbound: tuple[tuple[Network, int], ...] = ()
    owners: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """All that is to be captured on this host. `listening` are ports of units, by the key of the one workload there.

    `socks5` is the port of that proxy, 0 where there is none.
    """

    units: tuple[CapturedUnit, ...] = ()
    users: tuple[CapturedUser, ...] = ()
    host: CapturedHost | None = None
    ports: ListenerPorts = ListenerPorts()
    reserved: Reserved = Reserved()
    cgroup_prefix: str = ""
    listening: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    socks5: int = 0

    @property
    def socket_levels(self) -> tuple[int, ...]:
        """Depths of the cgroups in which systemd listens for units."""
        cgroups = {cgroup for unit in self.units if unit.sockets.ports for cgroup in unit.sockets.cgroups}
        return tuple(sorted({len(PurePosixPath(cgroup).parts) for cgroup in cgroups}))

    @property
    def workloads(self) -> tuple[LocalWorkload, ...]:
        """Everybody's."""
        host = (self.host.workload,) if self.host is not None else ()
        return (*(unit.workload for unit in self.units), *(user.workload for user in self.users), *host)
