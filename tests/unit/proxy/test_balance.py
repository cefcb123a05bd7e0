"""Locality preferences: one line for each rule of strict, failover and the weight of the network."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, parse_ip
from hostmesh.model.service import LoadBalancing, LoadBalancingMode, Scope, Service
from hostmesh.model.workload import Locality, Workload
from hostmesh.proxy.balance import pick_weighted, rank, select_endpoint
from hostmesh.state.store import MeshState

KEY = NamespacedHostname("shop", "api")
REGION, ZONE, SUBZONE, NODE, CLUSTER, NETWORK = Scope


def place(uid: str, path: str = "", **fields: Any) -> Workload:
    """`path` is region/zone/subzone."""
    region, zone, subzone = (*path.split("/"), "", "", "")[:3]
    fields.setdefault("addresses", (parse_ip("10.0.0.1"),))
    return Workload(
        uid=uid, name=uid, namespace="shop", locality=Locality(region, zone, subzone), services={KEY: {}}, **fields
    )


SOURCE = place("source", "eu/a/1", node="n1", network="net")
FAILOVER = [
    ("nothing matches", (REGION, ZONE), place("e", "us/x/1"), 0),
    ("region", (REGION, ZONE), place("e", "eu/x/1"), 1),
    ("region and zone", (REGION, ZONE), place("e", "eu/a/9"), 2),
    ("the first miss ends the count", (REGION, ZONE, SUBZONE), place("e", "eu/x/1"), 1),
    ("a later match does not help", (REGION, ZONE), place("e", "us/a"), 0),
    ("node", (NODE,), place("e", node="n1"), 1),
    ("cluster", (CLUSTER,), place("e"), 1),
    ("other cluster", (CLUSTER,), place("e", cluster_id="other"), 0),
    ("empty equals empty", (SUBZONE,), place("e", "eu/a"), 0),
    ("network first: all", (NETWORK, REGION, ZONE), place("e", "eu/a", network="net"), 5),
    ("network first: network and region", (NETWORK, REGION, ZONE), place("e", "eu/x", network="net"), 4),
    ("network first: network alone", (NETWORK, REGION, ZONE), place("e", "us/x", network="net"), 3),
    ("network first: region and zone", (NETWORK, REGION, ZONE), place("e", "eu/a"), 2),
    ("network first: region", (NETWORK, REGION, ZONE), place("e", "eu/x"), 1),
    ("network first: none", (NETWORK, REGION, ZONE), place("e", "us/x"), 0),
    ("network later is like any other", (REGION, NETWORK, ZONE), place("e", "eu/a"), 1),
    ("no preferences", (), place("e"), 0),
]


@pytest.mark.parametrize(("rule", "preferences", "endpoint", "expected"), FAILOVER, ids=[line[0] for line in FAILOVER])
def test_rank(rule: str, preferences: tuple[Scope, ...], endpoint: Workload, expected: int) -> None:
    """Leading matches; a network in first place outweighs all others."""
    assert rank(preferences, SOURCE, endpoint) == expected


NEAR, SAME_REGION, FAR = place("near", "eu/a"), place("region", "eu/b"), place("far", "us/x")
CHOSEN = [
    ("standard ignores preferences", LoadBalancingMode.STANDARD, [NEAR, SAME_REGION, FAR], {"near", "region", "far"}),
    ("failover takes the best group", LoadBalancingMode.FAILOVER, [NEAR, SAME_REGION, FAR], {"near"}),
    ("failover takes the next group", LoadBalancingMode.FAILOVER, [SAME_REGION, FAR], {"region"}),
    ("failover takes what is left", LoadBalancingMode.FAILOVER, [FAR], {"far"}),
    ("a group may have several", LoadBalancingMode.FAILOVER, [NEAR, place("near2", "eu/a"), FAR], {"near", "near2"}),
    (
        "a best group of capacity 0 takes nothing",
        LoadBalancingMode.FAILOVER,
        [place("z", "eu/a", capacity=0), FAR],
        set(),
    ),
    ("strict needs all preferences", LoadBalancingMode.STRICT, [NEAR, SAME_REGION, FAR], {"near"}),
    ("strict takes nothing else", LoadBalancingMode.STRICT, [SAME_REGION, FAR], set()),
    ("passthrough does not balance", LoadBalancingMode.PASSTHROUGH, [NEAR], set()),
    ("no endpoints", LoadBalancingMode.FAILOVER, [], set()),
    (
        "an endpoint without an address is never chosen",
        LoadBalancingMode.FAILOVER,
        [place("none", "eu/a", addresses=()), FAR],
        {"far"},
    ),
]


@pytest.mark.parametrize(("rule", "mode", "endpoints", "expected"), CHOSEN, ids=[line[0] for line in CHOSEN])
def test_modes(rule: str, mode: LoadBalancingMode, endpoints: list[Workload], expected: set[str]) -> None:
    """With the preferences region, then zone."""
    service = Service("api", "shop", "api", ports={80: 80}, load_balancing=LoadBalancing(mode, (REGION, ZONE)))
    state = MeshState()
    state.upsert_service(service)
    for endpoint in endpoints:
        state.upsert_workload(endpoint)
    source = place("source", "eu/a")
    draws = [select_endpoint(state, service, source, 80, lambda at=at: at / 16) for at in range(16)]  # type: ignore[misc]
    assert {draw.workload.uid for draw in draws if draw is not None} == expected


GATEWAY = GatewayAddress(NetworkAddress("net", parse_ip("192.0.2.1")), 15008)
PLACES = [
    (
        "strict: a network that matches makes up for nothing",
        LoadBalancingMode.STRICT,
        place("e", "us", network="net"),
        0,
    ),
    ("strict: all match", LoadBalancingMode.STRICT, place("e", "eu", network="net"), 1),
    (
        "of another network without addresses: its gateway has one",
        LoadBalancingMode.STANDARD,
        place("e", network="far", addresses=(), network_gateway=GATEWAY),
        1,
    ),
    (
        "of the own network without addresses: its gateway is for others",
        LoadBalancingMode.STANDARD,
        place("e", network="net", addresses=(), network_gateway=GATEWAY),
        0,
    ),
    ("a hostname is as good as an address", LoadBalancingMode.STANDARD, place("e", addresses=(), hostname="e.lab"), 1),
]


@pytest.mark.parametrize(("rule", "mode", "endpoint", "count"), PLACES, ids=[line[0] for line in PLACES])
def test_networks(rule: str, mode: LoadBalancingMode, endpoint: Workload, count: int) -> None:
    """With the preferences network, then region."""
    service = Service("api", "shop", "api", ports={80: 80}, load_balancing=LoadBalancing(mode, (NETWORK, REGION)))
    state = MeshState()
    state.upsert_service(service)
    state.upsert_workload(endpoint)
    assert (select_endpoint(state, service, SOURCE, 80, lambda: 0.0) is not None) is bool(count)


def test_two_sources_in_different_places_get_their_own_answers() -> None:
    """What is derived for one is not told to the other."""
    balancing = LoadBalancing(LoadBalancingMode.FAILOVER, (REGION,))
    service = Service("api", "shop", "api", ports={80: 80}, load_balancing=balancing)
    state = MeshState()
    for endpoint in (NEAR, FAR):
        state.upsert_workload(endpoint)
    state.upsert_service(service)
    for source, expected in ((place("s1", "eu"), "near"), (place("s2", "us"), "far"), (place("s3", "eu"), "near")):
        chosen = select_endpoint(state, service, source, 80, lambda: 0.0)
        assert chosen is not None
        assert chosen.workload.uid == expected


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True))
def test_a_draw_falls_into_its_own_share(weights: list[int], draw: float) -> None:
    """Each index owns the interval from the sum before it to its own."""
    bounds = [sum(weights[: position + 1]) for position in range(len(weights))]
    chosen = pick_weighted(bounds, lambda: draw)
    shares = list(pairwise([0, *bounds]))
    assert chosen is not None
    low, high = shares[chosen]
    assert low <= draw * bounds[-1] <= high


def test_nothing_is_drawn_from_nothing() -> None:
    """And one of one."""
    assert pick_weighted([], lambda: 0.5) is None
    assert pick_weighted([3], lambda: 0.99) == 0
