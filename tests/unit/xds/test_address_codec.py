"""Workloads and services survive the wire; what ztunnel rejects is rejected with the texts operators know."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, NetworkCidr, canonical
from hostmesh.model.service import (
    HealthPolicy,
    IpFamilies,
    LoadBalancing,
    LoadBalancingMode,
    Scope,
    Service,
    Visibility,
    WeightedWaypoint,
)
from hostmesh.model.workload import (
    ApplicationTunnel,
    HealthStatus,
    Locality,
    NetworkMode,
    Protocol,
    TunnelKind,
    Workload,
    WorkloadType,
)
from hostmesh.wire.proto import workload_pb2 as pb
from hostmesh.xds.address_codec import decode_address, encode_service, encode_workload
from hostmesh.xds.fields import Rejected

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAME = st.from_regex(r"[a-z0-9.-]{1,6}", fullmatch=True)
PORT = st.integers(0, 65535)
IP = st.ip_addresses().map(canonical)
HOSTNAME = st.builds(NamespacedHostname, NAME, TEXT)
GATEWAY = st.builds(GatewayAddress, st.one_of(HOSTNAME, st.builds(NetworkAddress, TEXT, IP)), PORT)
PORTS = st.dictionaries(PORT, PORT, max_size=3)
CIDR = st.tuples(IP, st.integers(0, 31)).map(lambda pair: ip_network(pair, strict=False))

WORKLOADS = st.builds(
    Workload,
    uid=NAME,
    name=TEXT,
    namespace=TEXT,
    addresses=st.lists(IP, max_size=3).map(tuple),
    network=TEXT,
    protocol=st.sampled_from(Protocol),
    trust_domain=NAME,
    service_account=NAME,
    waypoint=st.none() | GATEWAY,
    network_gateway=st.none() | GATEWAY,
    node=TEXT,
    canonical_name=TEXT,
    canonical_revision=TEXT,
    workload_type=st.sampled_from(WorkloadType),
    workload_name=TEXT,
    native_tunnel=st.booleans(),
    application_tunnel=st.none() | st.builds(ApplicationTunnel, st.sampled_from(TunnelKind), st.none() | st.just(8080)),
    authorization_policies=st.lists(TEXT, max_size=2).map(tuple),
    status=st.sampled_from(HealthStatus),
    cluster_id=NAME,
    hostname=TEXT,
    services=st.dictionaries(HOSTNAME, PORTS, max_size=2),
    locality=st.builds(Locality, TEXT, TEXT, TEXT),
    network_mode=st.sampled_from(NetworkMode),
    capacity=st.integers(0, 2**32 - 1),
)
SERVICES = st.builds(
    Service,
    name=TEXT,
    namespace=TEXT,
    hostname=NAME,
    vips=st.lists(st.builds(NetworkAddress, TEXT, IP), max_size=2).map(tuple),
    cidr_vips=st.lists(st.builds(NetworkCidr, TEXT, CIDR), max_size=2).map(tuple),
    ports=PORTS,
    subject_alt_names=st.lists(TEXT, max_size=2).map(tuple),
    waypoint=st.none() | GATEWAY,
    weighted_waypoints=st.lists(st.builds(WeightedWaypoint, GATEWAY, st.integers(0, 100)), max_size=2).map(tuple),
    load_balancing=st.none()
    | st.builds(
        LoadBalancing,
        st.sampled_from(LoadBalancingMode),
        st.lists(st.sampled_from(Scope), max_size=3).map(tuple),
        st.sampled_from(HealthPolicy),
    ),
    ip_families=st.none() | st.sampled_from(IpFamilies),
    canonical=st.booleans(),
    visibility=st.sampled_from(Visibility),
)


@given(WORKLOADS)
def test_workloads_survive_the_wire(workload: Workload) -> None:
    """Every field, whatever its value."""
    assert decode_address(encode_workload(workload).SerializeToString()) == workload


@given(SERVICES)
def test_services_survive_the_wire(service: Service) -> None:
    """Every field, whatever its value."""
    assert decode_address(encode_service(service).SerializeToString()) == service


@given(st.binary(max_size=64))
def test_any_bytes_are_a_resource_or_rejected(data: bytes) -> None:
    """Nothing else escapes: an exception here would end the stream for all resources."""
    with suppress(Rejected):
        assert isinstance(decode_address(data), Workload | Service)


def workload(**fields: Any) -> pb.Address:
    return pb.Address(workload=pb.Workload(**{"uid": "u", "name": "n", "namespace": "ns"} | fields))


def service(**fields: Any) -> pb.Address:
    return pb.Address(service=pb.Service(**{"name": "n", "namespace": "ns", "hostname": "h"} | fields))


def balancing(**fields: Any) -> pb.Address:
    return service(load_balancing=pb.LoadBalancing(**fields))


REJECTED = [
    (pb.Address(), "unknown address type"),
    (workload(uid=""), "workload without a uid"),
    (service(hostname=""), "service without a hostname"),
    (workload(addresses=[b"12345"]), "failed to parse address, had 5 bytes"),
    (workload(addresses=[b""]), "failed to parse address, had 0 bytes"),
    (workload(tunnel_protocol=2), "unknown enum: unsupported tunnel protocol: legacy istio mtls"),
    (workload(tunnel_protocol=9), "decode error: unknown enumeration value 9"),
    (workload(status=9), "decode error: unknown enumeration value 9"),
    (workload(network_mode=9), "decode error: unknown enumeration value 9"),
    (workload(application_tunnel={"protocol": 9}), "decode error: unknown enumeration value 9"),
    (workload(application_tunnel={"port": 70000}), "invalid port 70000: ports end at 65535"),
    (workload(services={"noslash": pb.PortList()}), "failed to parse namespaced hostname: noslash"),
    (workload(services={"a/b": {"ports": [{"service_port": 70000}]}}), "invalid port 70000: ports end at 65535"),
    (workload(waypoint={"hbone_mtls_port": 15008}), "gateway address has no destination"),
    (workload(network_gateway={"hbone_mtls_port": 15008}), "gateway address has no destination"),
    (workload(waypoint={"address": {"address": b"123"}}), "failed to parse address, had 3 bytes"),
    (service(addresses=[{"address": b"123"}]), "failed to parse address, had 3 bytes"),
    (service(addresses=[{"address": bytes(4), "length": 33}]), "invalid cidr: invalid IP prefix length"),
    (service(addresses=[{"address": bytes(3), "length": 3}]), "failed to parse address, had 3 bytes"),
    (service(ports=[{"service_port": 80, "target_port": 70000}]), "invalid port 70000: ports end at 65535"),
    (service(waypoint={}), "gateway address has no destination"),
    (service(weighted_waypoints=[{"weight": 1}]), "gateway address has no destination"),
    (service(ip_families=9), "decode error: unknown enumeration value 9"),
    (balancing(mode=9), "decode error: unknown enumeration value 9"),
    (balancing(health_policy=9), "decode error: unknown enumeration value 9"),
    (balancing(routing_preference=[9]), "decode error: unknown enumeration value 9"),
    (balancing(routing_preference=[0]), "unknown enum: invalid target"),
]


@pytest.mark.parametrize(("message", "reason"), REJECTED, ids=[str(n) for n in range(len(REJECTED))])
def test_rejections(message: pb.Address, reason: str) -> None:
    """The text goes back in the NACK."""
    with pytest.raises(Rejected) as rejected:
        decode_address(message.SerializeToString())
    assert rejected.value.reason == reason


def test_bytes_that_are_no_protobuf_are_rejected() -> None:
    """A truncated message."""
    with pytest.raises(Rejected, match=r"^decode error: "):
        decode_address(b"\x0a\x7f")


def test_missing_values_get_ztunnels_defaults() -> None:
    """Trust domain, service account, cluster, capacity."""
    decoded = decode_address(workload().SerializeToString())
    assert decoded == Workload(uid="u", name="n", namespace="ns")


def test_what_only_informs_is_never_a_reason_to_reject() -> None:
    """An unknown workload type is a deployment, an unknown visibility is public."""
    decoded = decode_address(workload(workload_type=9).SerializeToString())
    assert isinstance(decoded, Workload)
    assert decoded.workload_type is WorkloadType.DEPLOYMENT
    seen = decode_address(service(visibility=9).SerializeToString())
    assert isinstance(seen, Service)
    assert seen.visibility is Visibility.PUBLIC


def test_a_capacity_of_zero_is_not_an_absent_one() -> None:
    """0 takes the endpoint out of rotation; absent is 1."""
    message = workload()
    message.workload.capacity.value = 0
    message.workload.capacity.SetInParent()
    decoded = decode_address(message.SerializeToString())
    assert isinstance(decoded, Workload)
    assert decoded.capacity == 0


def test_vips_are_told_from_ranges_by_their_length() -> None:
    """No length or a full one is a host address; host bits of a range are cleared; mapped IPv6 is IPv4."""
    mapped = ip_address("::ffff:10.9.0.0").packed
    decoded = decode_address(
        service(
            addresses=[
                {"address": bytes([10, 0, 0, 1])},
                {"address": bytes([10, 0, 0, 2]), "length": 32},
                {"address": bytes(16), "length": 128},
                {"network": "dc1", "address": bytes([10, 1, 2, 3]), "length": 16},
                {"address": mapped},
                {"address": mapped, "length": 112},
                {"address": bytes(4), "length": 0},
            ]
        ).SerializeToString()
    )
    assert isinstance(decoded, Service)
    assert [str(vip) for vip in decoded.vips] == ["/10.0.0.1", "/10.0.0.2", "/::", "/10.9.0.0"]
    assert [str(vip) for vip in decoded.cidr_vips] == ["dc1/10.1.0.0/16", "/10.9.0.0/16", "/0.0.0.0/0"]


def test_equal_parts_are_shared() -> None:
    """100,000 endpoints of one service must not hold 100,000 copies of its port map and place."""
    fields = {
        "services": {"ns/h": {"ports": [{"service_port": 80, "target_port": 8080}]}},
        "locality": {"region": "eu", "zone": "a"},
        "node": "".join(["no", "de"]),
    }
    first = decode_address(workload(uid="1", **fields).SerializeToString())
    second = decode_address(workload(uid="2", **fields).SerializeToString())
    assert isinstance(first, Workload)
    assert isinstance(second, Workload)
    assert first.services is second.services
    assert first.locality is second.locality
    assert first.node is second.node
    assert first.namespace is second.namespace


def test_shared_parts_cannot_be_changed() -> None:
    """Whoever writes into one workload's map would write into all."""
    decoded = decode_address(workload(services={"ns/h": {}}).SerializeToString())
    assert isinstance(decoded, Workload)
    assert not hasattr(decoded.services, "__setitem__")
    assert not hasattr(decoded.services[NamespacedHostname("ns", "h")], "__setitem__")


def test_bytes_are_the_public_apis() -> None:
    """Golden: written by hand after the published field numbers, so that both sides of our codec cannot err alike."""
    port = b"\x08\x50\x10\x90\x3f\x18\x01"
    ports = b"\x0a" + bytes([len(port)]) + port
    entry = b"\x0a\x03a/b\x12" + bytes([len(ports)]) + ports
    body = b"\x0a\x03api\x12\x04shop\x1a\x04\x0a\x00\x00\x07\x28\x01\x88\x01\x01\xa2\x01\x02u1"
    body += b"\xb2\x01" + bytes([len(entry)]) + entry + b"\xda\x01\x02\x08\x05"
    assert decode_address(b"\x0a" + bytes([len(body)]) + body) == Workload(
        uid="u1",
        name="api",
        namespace="shop",
        addresses=(IPv4Address("10.0.0.7"),),
        protocol=Protocol.HBONE,
        status=HealthStatus.UNHEALTHY,
        services={NamespacedHostname("a", "b"): {80: 8080}},
        capacity=5,
    )


def test_what_is_not_logged_is_an_extension_and_others_are_none_of_ours() -> None:
    """A stock ztunnel does not look at it; one that we do not know changes nothing."""
    silent = Workload(uid="u", name="n", namespace="ns", unlogged=("outbound", "inbound"))
    encoded = encode_workload(silent)
    assert [one.name for one in encoded.workload.extensions] == ["hostmesh.io/unlogged"]
    assert decode_address(encoded.SerializeToString()) == silent
    foreign = workload(extensions=[pb.Extension(name="other"), pb.Extension(name="hostmesh.io/unlogged")])
    assert decode_address(foreign.SerializeToString()) == Workload(uid="u", name="n", namespace="ns")
