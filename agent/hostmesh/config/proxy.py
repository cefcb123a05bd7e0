"""ProxyConfig: what a proxy worker needs to know, as main hands it over (names and defaults as ztunnel's)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from hostmesh.model.local import PROXY_MARK


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Sizes are bytes, times seconds. `mark` None leaves sockets unmarked (tests without capture)."""

    node: str = ""
    network: str = ""
    cluster_id: str = "Kubernetes"
    trust_domain: str = "cluster.local"
    tls_engine: str = "auto"
    stream_window: int = 4 << 20
    connection_window: int = 16 << 20
    max_frame_size: int = 1 << 20
    pool_max_streams: int = 100
    pool_unused_release: float = 300.0
    connect_timeout: float = 10.0
    handshake_timeout: float = 10.0
    certificate_wait: float = 5.0
    keepalive_ping_interval: float = 10.0
    keepalive_ping_timeout: float = 20.0
    tcp_keepalive: bool = True
    tcp_keepalive_time: int = 180
    tcp_keepalive_interval: int = 180
    tcp_keepalive_probes: int = 9
    tcp_user_timeout: bool = False
    mark: int | None = PROXY_MARK
    inbound_port: int = 15008
    illegal_ports: tuple[int, ...] = (15001, 15006, 15008, 15080)
    response_baggage: bool = True
    original_source: bool = False
    shared_inbound: bool = False

    def to_json(self) -> str:
        """For the Start message of a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProxyConfig:
        """Inverse of `to_json`.

        Raises:
            TypeError: a field that this version does not know.
        """
        values = json.loads(text)
        values["illegal_ports"] = tuple(values["illegal_ports"])
        return cls(**values)
