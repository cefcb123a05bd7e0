"""What capture is told: directories and exceptions of the configuration, and how the host around it is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostmesh.enrolment import units as enrolled_units
from hostmesh.enrolment.socket_units import ShowSockets
from hostmesh.enrolment.subjects import UidOf, uid_of
from hostmesh.kernel import listeners as kernel_listeners
from hostmesh.kernel import units as systemd_units
from hostmesh.kernel.listeners import Listener
from hostmesh.redirect import held as held_ports
from hostmesh.redirect.failsafe import Facts, reserved
from hostmesh.redirect.subjects import ListenerPorts, Network, Reserved


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Directories, listeners, and what is never captured.

    `backend` is one of redirect/choose.py's, or `auto`.
    `ssh_ports` are sshd's where the operator says them, None: those found. `excluded_ports` are further ports of this
    host, `excluded_networks` further destinations that a captured host reaches directly. `socks5` is the port of that
    proxy, and `dns` that where names are answered, 0 where they are not.
    """

    workloads_directory: Path = Path("/etc/hostmesh/workloads.d")
    state_directory: Path = Path("/var/lib/hostmesh")
    runtime_directory: Path = Path("/run/hostmesh")
    trust_domain: str = "cluster.local"
    ports: ListenerPorts = field(default_factory=ListenerPorts)
    ssh_ports: tuple[int, ...] | None = None
    excluded_ports: tuple[int, ...] = ()
    excluded_networks: tuple[Network, ...] = ()
    backend: str = "auto"
    original_source: bool = False
    socks5: int = 0
    dns: int = 0

    def reserved(self, facts: Facts) -> Reserved:
        """The failsafe list."""
        return reserved(facts, self.ssh_ports, self.excluded_ports, self.excluded_networks)


@dataclass(frozen=True, slots=True)
class HostView:
    """How this host is asked: systemd about units, users, listeners, and what the failsafe list is made of.

    `held` are ports that starts of socket units have closed, and `release` opens them.
    """

    show: enrolled_units.Show = systemd_units.show
    uid: UidOf = uid_of
    listeners: Callable[[], Sequence[Listener]] = kernel_listeners.listeners
    failsafe: Callable[[], Facts] = Facts
    receivers: Callable[[], Sequence[Listener]] = kernel_listeners.receivers
    sockets: ShowSockets = systemd_units.sockets
    held: Callable[[], frozenset[bytes]] = held_ports.held
    release: Callable[[Collection[bytes]], None] = held_ports.release
