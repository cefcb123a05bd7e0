"""A site of the benchmark: two namespaces joined by a veth pair, the load in one and the application in the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.netns import Cgroup, Namespace, linked, slice_of_cgroups

from bench.generator import Generator, application, driving
from hostmesh.kernel import sysctl
from hostmesh.kernel.cgroup import CgroupRoot

APPLICATION_PORT = 8080

_SETTINGS = {
    # Connections that ended would otherwise use up the client's ports after 28,000 of them.
    "net.ipv4.tcp_max_tw_buckets": "256",
    "net.ipv4.ip_local_port_range": "16000 65000",
}


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace with a service in it, alone in a cgroup as a systemd unit is."""

    namespace: Namespace
    cgroup: Cgroup


@dataclass(frozen=True, slots=True)
class Site:
    """Nothing runs here yet."""

    client: Host
    server: Host
    cgroups: CgroupRoot
    directory: Path

    @property
    def application(self) -> str:
        """Where the application listens."""
        return f"{self.server.namespace.v4}:{APPLICATION_PORT}"


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """Fresh namespaces and cgroups, gone afterwards; the machine's own network is not touched.

    Args:
        directory: exists, for files of the proxies.
    """
    with ExitStack() as stack:
        cgroups, top = stack.enter_context(slice_of_cgroups())
        client, server = stack.enter_context(linked("load", "app"))
        hosts = []
        for name, namespace in (("load", client), ("app", server)):
            cgroup = Cgroup(cgroups, f"{top}/{name}.service")
            cgroup.start()
            with namespace.entered():
                for setting, value in _SETTINGS.items():
                    sysctl.write(setting, value)
            hosts.append(Host(namespace, cgroup))
        yield Site(hosts[0], hosts[1], cgroups, directory)


@contextmanager
def populated(where: Site, program: Path) -> Iterator[Generator]:
    """The application and the load generator in their places."""
    with ExitStack() as stack:
        with where.server.namespace.entered(), where.server.cgroup.entered():
            stack.enter_context(application(program, where.application))
        with where.client.namespace.entered(), where.client.cgroup.entered():
            generator = stack.enter_context(driving(program))
        yield generator
