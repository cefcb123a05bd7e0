"""What main says about trust reaches the proxy."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

from tests.support.pki import ALICE, Authority

from hostmesh.daemon.frames import frame
from hostmesh.daemon.main_link import MainLink
from hostmesh.daemon.messages import trust_update
from hostmesh.model.trust import TrustBundle
from hostmesh.state.store import MeshState
from hostmesh.transport.loop import Loop


@dataclass
class Proxy:
    """Stands for the proxy server."""

    bundles: list[TrustBundle] = field(default_factory=list)

    def set_trust(self, bundle: TrustBundle) -> None:
        self.bundles.append(bundle)


def test_a_bundle_is_applied_as_a_whole() -> None:
    """Each replaces the one before."""
    loop, proxy = Loop(), Proxy()
    main, worker = socket.socketpair()
    with main, worker:
        link = MainLink(worker, loop, MeshState())
        server: Any = proxy
        link.begin(server, [], 3600.0)
        first = TrustBundle("cluster.local", Authority().pem, frozenset({(b"issuer", 7)}), frozenset({ALICE}))
        second = TrustBundle("cluster.local", Authority().pem)
        for bundle in (first, second):
            main.sendall(frame(trust_update(bundle)))
        while len(proxy.bundles) < 2:
            loop.turn(1.0)
    assert proxy.bundles == [first, second]
    loop.close()
