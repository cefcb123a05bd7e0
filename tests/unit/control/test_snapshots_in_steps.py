"""A snapshot that is made from the one before is the one that would be made from nothing."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.control.snapshot import EVERYBODY, Snapshot, SnapshotMaker, news
from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, NetworkCidr
from hostmesh.model.service import Service, hostname_alias
from hostmesh.model.workload import NetworkMode, Workload
from hostmesh.xds.types import ADDRESS_TYPE, node_alias, node_services_alias

KEYS = [NamespacedHostname("ns", f"s{number}") for number in range(4)]
ADDRESSES = [NetworkAddress(network, ip_address(f"10.0.0.{last}")) for network in ("", "far") for last in range(3)]
HOPS = st.none() | st.sampled_from([*KEYS, *ADDRESSES]).map(lambda place: GatewayAddress(place, 15008))
WORKLOADS = st.builds(
    lambda number, place, mode, node, keys, waypoint, gateway, capacity: Workload(
        uid=f"w{number}",
        name="w",
        namespace="ns",
        addresses=(place.ip,),
        network=place.network,
        network_mode=mode,
        node=node,
        services={key: {80: 80} for key in keys},
        waypoint=waypoint,
        network_gateway=gateway,
        capacity=capacity,
    ),
    st.integers(0, 5),
    st.sampled_from(ADDRESSES),
    st.sampled_from(NetworkMode),
    st.sampled_from(["", "n1", "n2"]),
    st.sets(st.sampled_from(KEYS), max_size=2),
    HOPS,
    HOPS,
    st.integers(1, 2),
)
SERVICES = st.builds(
    lambda key, vips, blocks, waypoint: Service("s", key.namespace, key.hostname, vips, blocks, waypoint=waypoint),
    st.sampled_from(KEYS),
    st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple),
    st.sampled_from([(), (NetworkCidr("", ip_network("10.0.0.0/30")),), (NetworkCidr("far", ip_network("10.0.0.2")),)]),
    HOPS,
)
WORLDS = st.tuples(
    st.lists(WORKLOADS, max_size=6, unique_by=lambda one: one.uid).map(lambda all_: sorted(all_, key=lambda w: w.uid)),
    st.lists(SERVICES, max_size=4, unique_by=lambda one: one.key),
)
World = tuple[list[Workload], list[Service]]


@given(st.lists(WORLDS, max_size=6))
@settings(max_examples=120, deadline=None)
def test_steps_lead_to_what_the_whole_is(worlds: list[World]) -> None:
    """Resources, versions and aliases; and the news name all that stands for something else."""
    maker, before = SnapshotMaker(), Snapshot()
    for workloads, services in worlds:
        made, whole = maker.make(workloads, services), SnapshotMaker().make(workloads, services)
        assert made == whole
        assert dict(made.aliases.exact) == meanings(workloads, services)
        named, compared = news(before, made)[ADDRESS_TYPE], news(before, whole)[ADDRESS_TYPE]
        assert named - {EVERYBODY} == compared - {EVERYBODY}
        assert named >= compared
        before = made


def meanings(workloads: list[Workload], services: list[Service]) -> dict[str, set[str]]:
    """What each name means, as simply as it can be said."""
    direct: dict[str, set[str]] = {}
    hops: dict[str, list[str]] = {}
    for service in services:
        endpoints = {one.uid for one in workloads if service.namespaced_hostname in one.services}
        hosts = hostname_alias(service.hostname)
        for name in (service.key, hosts, *map(str, service.vips), *map(str, service.cidr_vips)):
            direct.setdefault(name, set()).update({service.key}, endpoints)
        hops[service.key] = [str(one.destination) for one in (service.waypoint,) if one]
    for one in workloads:
        if one.network_mode is NetworkMode.STANDARD:
            for ip in one.addresses:
                direct.setdefault(f"{one.network}/{ip}", set()).add(one.uid)
        if one.node:
            direct.setdefault(node_alias(one.node), set()).add(one.uid)
        hops[one.uid] = [str(each.destination) for each in (one.waypoint, one.network_gateway) if each]
    found = {name: closed(meant, direct, hops) for name, meant in direct.items()}
    for one in workloads:
        own = {service.key for service in services if service.namespaced_hostname in one.services}
        if one.node and own:
            found.setdefault(node_services_alias(one.node), set()).update(own)
    return found


def closed(meant: set[str], direct: dict[str, set[str]], hops: dict[str, list[str]]) -> set[str]:
    """With all that is on the way."""
    while True:
        more = {other for one in meant for hop in hops.get(one, ()) for other in direct.get(hop, ())} | meant
        if more == meant:
            return meant
        meant = more
