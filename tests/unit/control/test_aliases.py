"""Rules of what an on-demand client may ask for."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from hostmesh.control.aliases import aliases, node_alias
from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, NetworkCidr
from hostmesh.model.service import Service
from hostmesh.model.workload import NetworkMode, Workload

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
        (node_alias("mesh2"), ("w2",)),
        ("default/gate", ("default/gate", "envoy")),
    ],
)
def test_names(asked: str, meant: tuple[str, ...]) -> None:
    """An address means its workload; a service, by key or address, means itself and its endpoints."""
    assert aliases([W1, W2, ENVOY], [WEB, GATE])[asked] == meant


def test_a_waypoint_comes_with_what_is_behind_it() -> None:
    """A client that learnt of a service could not reach it otherwise: a stock ztunnel never asks for the waypoint."""
    by_name, by_address = (
        GatewayAddress(GATE_KEY, 15008),
        GatewayAddress(NetworkAddress("", ip_address("10.0.0.3")), 15008),
    )
    found = aliases([W1, replace(W2, waypoint=by_address), ENVOY], [replace(WEB, waypoint=by_name), GATE])
    assert found["default/web"] == ("default/web", "w1", "w2", "default/gate", "envoy")
    assert found["/10.0.0.2"] == ("w2", "envoy")
    assert found["/10.0.0.1"] == ("w1",)


def test_addresses_that_are_not_the_workloads_alone_are_not_names() -> None:
    """A workload in its host's network is not found by its address (istiod)."""
    assert aliases([replace(W1, network_mode=NetworkMode.HOST_NETWORK, node="")], []) == {}
