"""Alice's proxy in front of a foreign one that plays bob's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from tests.support.hbone_peer import Peer, PeerServer
from tests.support.pki import BOB
from tests.support.proxy import CONFIG, Mesh, fresh_ip, workload

from hostmesh.config.proxy import ProxyConfig
from hostmesh.model.address import SocketAddress


class Foreign:
    """`serve` is called for each tunnel, with its number; the client's connections go to `port` of `ip`."""

    def __init__(
        self, serve: Callable[[Peer, int], None], config: ProxyConfig = CONFIG, port: int = 80, ip: str = ""
    ) -> None:
        self.mesh = Mesh(client_config=config)
        self.ip = ip or fresh_ip()
        self.mesh.client.put(workload("far", BOB, self.ip))
        self.mesh.client.destination = SocketAddress.of(self.ip, port)
        self.server = PeerServer(self.ip, self.mesh.authority.issue(BOB), serve)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.mesh.close()
        self.server.close()
