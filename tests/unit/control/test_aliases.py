"""Rules of what an on-demand client may ask for."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from hostmesh.control.aliases import Aliases, aliases, node_alias
from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, NetworkCidr
from hostmesh.model.service import Service
from hostmesh.model.workload import NetworkMode, Workload
from hostmesh.xds.types import node_services_alias

WEB_KEY, GATE_KEY = NamespacedHostname("default", "web"), NamespacedHostname("default", "gate")
VIP = NetworkAddress("", ip_address("240.240.0.1"))
BLOCK = NetworkCidr("", ip_network("10.9.0.0/16"))
WEB = Service("web", "default", "web", vips=(VIP,), cidr_vips=(BLOCK,))
GATE = Service("gate", "default", "gate")
W1 = Workload("w1", "w1", "default", (ip_address("10.0.0.1"),), node="mesh1", services={WEB_KEY: {80: 80}})
W2 = replace(W1, uid="w2", addresses=(ip_address("10.0.0.2"),), node="mesh2")
ENVOY = replace(W1, uid="envoy", addresses=(ip_address("10.0.0.3"),), node="", services={GATE_KEY: {15008: 15008}})


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/10.0.0.1", ("w1",)),
        ("default/web", ("default/web", "w1", "w2")),
        ("/240.240.0.1", ("default/web", "w1", "w2")),
        ("/10.9.0.0/16", ("default/web", "w1", "w2")),
        ("/10.9.3.4", ("default/web", "w1", "w2")),
        (node_alias("mesh2"), ("w2",)),
        (node_services_alias("mesh2"), ("default/web",)),
        ("/10.8.0.1", ("/10.8.0.1",)),
        ("default/gate", ("default/gate", "envoy")),
    ],
)
def test_names(asked: str, meant: tuple[str, ...]) -> None:
    """An address means its workload; a service, by key or address, means itself and its endpoints."""
    assert aliases([W1, W2, ENVOY], [WEB, GATE]).of(asked) == set(meant)


def test_a_waypoint_comes_with_what_is_behind_it() -> None:
    """A client that learnt of a service could not reach it otherwise: a stock ztunnel never asks for the waypoint."""
    by_name, by_address = (
        GatewayAddress(GATE_KEY, 15008),
        GatewayAddress(NetworkAddress("", ip_address("10.0.0.3")), 15008),
    )
    found = aliases([W1, replace(W2, waypoint=by_address), ENVOY], [replace(WEB, waypoint=by_name), GATE])
    assert found.exact["default/web"] == {"default/web", "w1", "w2", "default/gate", "envoy"}
    assert found.exact["/10.0.0.2"] == {"w2", "envoy"}
    assert found.exact["/10.0.0.1"] == {"w1"}


def test_a_network_gateway_comes_with_who_is_behind_it_and_with_a_waypoint_over_there() -> None:
    """However many steps the way has."""
    far = replace(
        ENVOY, network="far", network_gateway=GatewayAddress(NetworkAddress("", ip_address("10.0.0.9")), 15008)
    )
    door = replace(W1, uid="door", addresses=(ip_address("10.0.0.9"),), services={})
    found = aliases([W1, far, door], [replace(WEB, waypoint=GatewayAddress(GATE_KEY, 15008)), GATE])
    assert found.of("default/web") == {"default/web", "w1", "default/gate", "envoy", "door"}


def test_a_workload_in_a_block_of_addresses_comes_first() -> None:
    """Both may be meant; who asks decides between them as for any address."""
    inside = replace(W1, uid="inside", addresses=(ip_address("10.9.0.7"),), services={}, node="")
    assert aliases([inside], [WEB]).of("/10.9.0.7") == {"inside", "default/web"}


def test_addresses_that_are_not_the_workloads_alone_are_not_names() -> None:
    """A workload in its host's network is not found by its address (istiod)."""
    assert aliases([replace(W1, network_mode=NetworkMode.HOST_NETWORK, node="")], []) == Aliases()
