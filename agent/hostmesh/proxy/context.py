"""Context: what all parts of one worker's proxy share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hostmesh.config.proxy import ProxyConfig
from hostmesh.proxy.attribution import Attribution
from hostmesh.proxy.certificates import Certificates
from hostmesh.proxy.connections import Connections
from hostmesh.proxy.demand import Demand
from hostmesh.proxy.journal import Journal
from hostmesh.proxy.locals import LocalWorkloads
from hostmesh.proxy.names import Names
from hostmesh.proxy.revocation import Revocation
from hostmesh.proxy.stock import Stock
from hostmesh.proxy.tls_socket import Buffers
from hostmesh.state.store import MeshState
from hostmesh.telemetry.metrics import Metrics
from hostmesh.transport.loop import Loop


@dataclass(frozen=True, slots=True)
class Context:
    """Made by the server. `clock` is wall time in seconds, `rng` uniform in [0, 1).

    `namespace` is the number of the workload whose network namespace this is about, with the `stock` of sockets made
    in it; 0 and None on the host. `alone`: no other process accepts on the same listeners.
    """

    loop: Loop
    config: ProxyConfig
    state: MeshState
    metrics: Metrics
    journal: Journal
    certificates: Certificates
    revocation: Revocation
    locals: LocalWorkloads
    connections: Connections
    attribution: Attribution
    names: Names
    demand: Demand
    clock: Callable[[], float]
    rng: Callable[[], float]
    buffers: Buffers = field(default_factory=Buffers)
    namespace: int = 0
    stock: Stock | None = None
    alone: bool = False

    @property
    def original_source(self) -> bool:
        """Whether applications see the addresses of their clients."""
        return self.config.original_source

    def mark(self, number: int = 0) -> int | None:
        """SO_MARK of a socket of the proxy; with a workload's number it can reach only that workload."""
        return None if self.config.mark is None else self.config.mark | number << 12
