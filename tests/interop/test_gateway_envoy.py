"""HBONE inside HBONE with a real Envoy as the gateway of the other network, as Istio's east-west gateway is one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import envoy
from tests.support.addresses import free_port
from tests.support.patience import PATIENCE
from tests.support.pki import BOB
from tests.support.proxy import CONFIG, App, Mesh, echo, fresh_ip, workload
from tests.support.strangers import body_both_ways

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.service import Service

pytestmark = pytest.mark.interop

GATEWAY = Identity("cluster.local", "infra", "east-west")
SHOP = NamespacedHostname("default", "shop.lab")
VIP = "10.9.9.9"


@contextmanager
def behind_envoy(mesh: Mesh, app: App, directory: Path) -> Iterator[None]:
    """Bob in another network, whose gateway is Envoy; it ends the outer tunnel and knows nothing of the inner one."""
    ip, admin = fresh_ip(), free_port()
    config = envoy.server(15008, (mesh.ip, 15008), mesh.authority.issue(GATEWAY), "cluster.local", admin)
    config["static_resources"]["listeners"][0]["address"]["socket_address"]["address"] = ip
    vips = (NetworkAddress("lab", parse_ip(VIP)),)
    service = Service("shop", "default", SHOP.hostname, vips, ports={80: app.port}, subject_alt_names=(str(BOB),))
    gateway = replace(workload("east-west", GATEWAY, ip), network="dc2")
    address = GatewayAddress(NetworkAddress("dc2", parse_ip(ip)), 15008)
    bob = replace(mesh.bob, network="dc2", services={SHOP: {80: app.port}}, network_gateway=address)
    mesh.server.put(service, bob)
    mesh.client.put(service, replace(bob, addresses=()), gateway)
    mesh.client.destination = SocketAddress.of(VIP, 80)
    with envoy.running(config, directory, admin):
        yield


def test_envoy_as_network_gateway(tmp_path: Path) -> None:
    """A large body both ways, its half-close included; then many at once, over one outer tunnel."""
    with (
        Mesh(server_config=replace(CONFIG, network="dc2")) as mesh,
        mesh.app(echo) as app,
        behind_envoy(mesh, app, tmp_path),
    ):
        with mesh.dial() as sock:
            body_both_ways(sock)
        socks = [mesh.dial() for _ in range(20)]
        for number, sock in enumerate(socks):
            sock.sendall(bytes([number]) * 1000)
            sock.shutdown(socket.SHUT_WR)
        for number, sock in enumerate(socks):
            sock.settimeout(PATIENCE)
            assert b"".join(iter(lambda sock=sock: sock.recv(4096), b"")) == bytes([number]) * 1000  # type: ignore[misc]
            sock.close()
        records = mesh.client.main.wait_logs(21)
        assert {record.level for record in records} == {"info"}
        assert {dict(record.fields)["dst.identity"] for record in records} == {str(BOB)}
