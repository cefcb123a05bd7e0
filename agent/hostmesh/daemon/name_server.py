"""Names of services on this host: the DNS server with what it needs, as the agent runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from hostmesh.config.agent import AgentConfig
from hostmesh.daemon.dns_metrics import DnsMetrics
from hostmesh.daemon.mesh import Mesh
from hostmesh.daemon.name_demand import NameDemand
from hostmesh.dns.answer import Client
from hostmesh.enrolment.namespaces import OpenNamespace
from hostmesh.kernel.gate import open_gate
from hostmesh.model.address import IPAddress, SocketAddress
from hostmesh.model.local import PROXY_MARK, LocalWorkload
from hostmesh.redirect.dns_plan import PLAIN, address_of

if TYPE_CHECKING:
    from hostmesh.daemon.dns import DnsServer

LINK = ip_address("169.254.7.53")
"""Of the link that systemd-resolved has for the mesh's domains."""


class NameServer:
    """Does nothing where names are not enabled.

    Args:
        config: of the agent.
        mesh: what main knows of it.
        known: whether it does.
        demand: asks for names of services.
    """

    def __init__(self, config: AgentConfig, mesh: Mesh, known: Callable[[], bool], demand: NameDemand) -> None:
        self._settings = settings = config.settings.dns
        self._mesh = mesh
        self._network = config.settings.network
        self.metrics = DnsMetrics()
        self.addresses: tuple[IPAddress, ...] = (ip_address("127.0.0.1"), LINK)
        if config.settings.ipv6:
            self.addresses += (ip_address("::1"),)
        self._server = _server(config, mesh, self.metrics, known, demand) if settings.enabled else None

    @property
    def pending(self) -> bool:
        """Whether names should be answered and are not."""
        return self._server is not None and bool(self._server.problem)

    def summary(self) -> dict[str, Any]:
        """What `hostmesh status` shows."""
        return {
            "enabled": self._settings.enabled,
            "domains": list(self._settings.split),
            "addresses": [str(address) for address in self.addresses],
            "port": self._settings.port,
            "problem": self._server.problem if self._server is not None else "",
        }

    async def run(self) -> None:
        """Answer until cancelled."""
        if self._server is not None:
            await self._server.run(self.addresses)

    def follow(self, workloads: Iterable[LocalWorkload], namespaces: Iterable[OpenNamespace] = ()) -> None:
        """Answer these, whose questions are captured: at addresses of their own, and in namespaces of theirs."""
        if self._server is None:
            return
        inside = (
            (f"{one.workload.key} {one.id}.{place}", self._client(one.workload), one.names[place : place + 2])
            for one in namespaces
            for place in range(0, len(one.names), 2)
        )
        self._server.follow(
            {address_of(workload): self._client(workload) for workload in workloads},
            {name: (client, datagrams, listener) for name, client, (datagrams, listener) in inside},
        )

    def _client(self, workload: LocalWorkload) -> Client:
        known = self._mesh.registered(workload.identity, workload.name)
        return Client(
            workload.namespace,
            known.network if known is not None else self._network,
            workload.key,
            known.canonical_name if known is not None else "",
            known.canonical_revision if known is not None else "",
        )


def _server(
    config: AgentConfig, mesh: Mesh, metrics: DnsMetrics, known: Callable[[], bool], demand: NameDemand
) -> DnsServer:
    """Imported here: dnspython is 4 MB, which an agent that answers no names need not carry."""
    from hostmesh.daemon.dns import DnsServer, DnsSettings
    from hostmesh.daemon.dns_upstream import ResolvConf, Upstream

    settings = config.settings.dns
    return DnsServer(
        mesh.state,
        Upstream(
            [SocketAddress.parse(text) for text in settings.upstreams],
            ResolvConf(own=frozenset({LINK, PLAIN})),
            PROXY_MARK,
        ),
        metrics,
        DnsSettings(settings.domain, settings.split, settings.port, config.settings.ipv6),
        Client(settings.namespace, config.settings.network),
        known,
        open_gate,
        demand,
    )
