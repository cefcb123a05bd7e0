"""Service and ServiceEntry to model services: hosts, ports, addresses, duplicates."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import Translation, translate
from hostmesh.control.translate.services import PortRule
from hostmesh.model.address import parse_ip
from hostmesh.model.service import HealthPolicy, LoadBalancing, LoadBalancingMode, Scope, Service

MESH = MeshConfig()


def mesh(*texts: str) -> Translation:
    return translate(objects(*texts), MESH)


def only(*texts: str) -> Service:
    (service,) = mesh(*texts).services
    return service


@pytest.mark.parametrize(
    ("rule", "ports", "target"),
    [
        (PortRule(80, "http", 8080), {}, 8080),
        (PortRule(80, "http", 8080), {"http": 9090}, 9090),
        (PortRule(80, "http", 8080), {"other": 9090}, 8080),
        (PortRule(80, "http", 80, "web"), {"web": 9090}, 9090),
        (PortRule(80, "http", 80, "web"), {"http": 9090}, None),
        (PortRule(80, "", 8080), {}, 8080),
    ],
)
def test_where_a_port_leads(rule: PortRule, ports: dict[str, int], target: int | None) -> None:
    """The workload's own port of that name wins; a target that is a name must be there."""
    assert rule.resolve(ports) == target


def test_a_service() -> None:
    """Its host name, its own address, numeric and named targets, and UDP left out."""
    service = only(
        document(
            "Service",
            "clusterIP: 10.96.0.1\nselector: {a: b}\nports:\n- {name: a, port: 80, targetPort: 8080}\n"
            "- {name: b, port: 81, targetPort: web}\n- {name: c, port: 82}\n- {name: d, port: 53, protocol: UDP}",
            "name: web, namespace: shop",
        )
    )
    assert (service.key, service.name) == ("shop/web.shop.svc.cluster.local", "web")
    assert dict(service.ports) == {80: 8080, 81: 0, 82: 82}
    assert [str(vip) for vip in service.vips] == ["/10.96.0.1"]
    assert service.canonical


def test_a_service_entry_is_one_service_per_host() -> None:
    """With its ports, addresses, ranges and names."""
    found = mesh(
        document(
            "ServiceEntry",
            "hosts: [a.b, c.d]\naddresses: [10.0.0.1, 10.1.0.0/16]\nresolution: STATIC\n"
            "ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]\n"
            "subjectAltNames: [spiffe://x/ns/y/sa/z]\nendpoints: [{address: 10.0.0.9}]",
        )
    )
    assert [service.key for service in found.services] == ["default/a.b", "default/c.d"]
    service = found.services[0]
    assert dict(service.ports) == {443: 8443}
    assert [str(vip) for vip in service.vips] == ["/10.0.0.1"]
    assert [str(vip) for vip in service.cidr_vips] == ["/10.1.0.0/16"]
    assert service.subject_alt_names == ("spiffe://x/ns/y/sa/z",)


AUTO = [
    ("Service", "ports: [{port: 80}]", "name: x", True),
    ("Service", "clusterIP: None", "name: x", False),
    ("ServiceEntry", "hosts: [a.b]\nresolution: DNS", "name: x", True),
    ("ServiceEntry", "hosts: [a.b]", "name: x", False),
    ("ServiceEntry", "hosts: ['*.a.b']\nresolution: STATIC", "name: x", False),
    ("ServiceEntry", "hosts: ['*.a.b']\nresolution: DYNAMIC_DNS", "name: x", True),
    (
        "ServiceEntry",
        "hosts: [a.b]\nresolution: DNS",
        "name: x, labels: {networking.istio.io/enable-autoallocate-ip: 'false'}",
        False,
    ),
]


@pytest.mark.parametrize(("kind", "spec", "metadata", "allocated"), AUTO)
def test_who_gets_an_address(kind: str, spec: str, metadata: str, allocated: bool) -> None:
    """Whoever has none, has one name, and is not passed through."""
    assert bool(only(document(kind, spec, metadata)).vips) == allocated


def test_an_address_in_the_documents_status_is_taken_up() -> None:
    """A ServiceEntry exported from a cluster keeps its address."""
    text = document("ServiceEntry", "hosts: [a.b]\nresolution: DNS")
    service = only(text + "status: {addresses: [{value: 240.240.0.9, host: a.b}]}\n")
    assert parse_ip("240.240.0.9") in [vip.ip for vip in service.vips]


def test_allocated_addresses_are_handed_back() -> None:
    """What one translation gave, the next keeps, even when an older service comes."""
    first = mesh(document("ServiceEntry", "hosts: [b.c]\nresolution: DNS", "name: b"))
    texts = [document("ServiceEntry", f"hosts: [{n}.c]\nresolution: DNS", f"name: {n}") for n in ("a", "b")]
    again = translate(objects(*texts), MESH, first.vips)
    assert again.vips["default/b.c"] == first.vips["default/b.c"]
    assert again.vips["default/a.c"] != first.vips["default/b.c"]


def test_a_service_wins_over_a_service_entry_of_its_name() -> None:
    """The loser's author is told, and its endpoints vanish with it."""
    found = mesh(
        document(
            "ServiceEntry",
            "hosts: [x.default.svc.cluster.local]\nresolution: STATIC\nendpoints: [{address: 10.0.0.1}]",
            "name: y",
        ),
        document("Service", "selector: {a: b}\nports: [{port: 80}]"),
    )
    assert [service.name for service in found.services] == ["x"]
    assert found.workloads == ()
    assert [str(warning) for warning in found.warnings] == [
        (
            "doc0.yaml:5: spec.hosts: x.default.svc.cluster.local is left out: Service default/x at doc1.yaml:1 "
            "is it already"
        )
    ]


def test_the_oldest_of_a_host_is_canonical() -> None:
    """Clients of other namespaces get that one."""
    spec = "hosts: [a.b]\nresolution: DNS"
    found = mesh(
        document("ServiceEntry", spec, "name: x, namespace: a"),
        document("ServiceEntry", spec, "name: y, namespace: b, creationTimestamp: '2020-01-01T00:00:00Z'"),
    )
    assert {service.namespace: service.canonical for service in found.services} == {"a": False, "b": True}


ZONE = (Scope.NETWORK, Scope.REGION, Scope.ZONE)
BALANCING = [
    ("Service", "clusterIP: None", "name: x", None),
    (
        "Service",
        "clusterIP: None\ntrafficDistribution: PreferClose",
        "name: x",
        LoadBalancing(LoadBalancingMode.FAILOVER, ZONE),
    ),
    (
        "Service",
        "clusterIP: None",
        "name: x, annotations: {networking.istio.io/traffic-distribution: PreferSameNode}",
        LoadBalancing(LoadBalancingMode.FAILOVER, (*ZONE, Scope.SUBZONE, Scope.NODE)),
    ),
    (
        "Service",
        "clusterIP: None\ninternalTrafficPolicy: Local\ntrafficDistribution: PreferClose",
        "name: x",
        LoadBalancing(LoadBalancingMode.STRICT, (Scope.NODE,)),
    ),
    (
        "Service",
        "clusterIP: None\npublishNotReadyAddresses: true",
        "name: x",
        LoadBalancing(health_policy=HealthPolicy.ALLOW_ALL),
    ),
    (
        "ServiceEntry",
        "hosts: [a.b]",
        "name: x",
        LoadBalancing(LoadBalancingMode.PASSTHROUGH, (), HealthPolicy.ALLOW_ALL),
    ),
    ("ServiceEntry", "hosts: [a.b]\nresolution: DNS", "name: x", None),
]


@pytest.mark.parametrize(("kind", "spec", "metadata", "balancing"), BALANCING)
def test_balancing(kind: str, spec: str, metadata: str, balancing: LoadBalancing | None) -> None:
    """Fields, then the object's annotation; resolution NONE balances nothing."""
    assert only(document(kind, spec, metadata)).load_balancing == balancing


def test_balancing_is_inherited_from_the_namespace() -> None:
    """Where the object says nothing."""
    annotations = "annotations: {networking.istio.io/traffic-distribution: PreferSameZone}"
    service = only(document("Namespace", "", f"name: default, {annotations}"), document("Service", "clusterIP: None"))
    assert service.load_balancing == LoadBalancing(LoadBalancingMode.FAILOVER, ZONE)


def test_a_service_without_an_address_is_told_so() -> None:
    """When the range is used up: which family, which range, and what to set."""
    few = MeshConfig(vip4=ip_network("240.240.0.0/30"))
    texts = [
        document("ServiceEntry", f"hosts: [{name}.example]\nresolution: STATIC", f"name: {name}") for name in "abc"
    ]
    found = translate(objects(*texts), few)
    assert [len(service.vips) for service in found.services] == [2, 2, 1]
    assert [said for warning in found.warnings if (said := str(warning).partition(": spec.hosts: ")[2])] == [
        "c.example gets no IPv4 address: 240.240.0.0/30 is used up; set a larger vips.ipv4 in control-plane.yaml"
    ]
