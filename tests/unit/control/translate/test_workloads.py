"""WorkloadEntries and inline endpoints to workloads: who they are, how they are reached, which ports are theirs."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.model.address import NamespacedHostname, parse_ip
from hostmesh.model.workload import Locality, Protocol, Workload, WorkloadType

SPEC = "address: 10.0.0.1\nserviceAccount: web\n"
OWN = NamespacedHostname("default", "web.default.workload.hostmesh.internal")
SERVICE = NamespacedHostname("default", "web.default.svc.cluster.local")


def workloads(*texts: str, mesh: MeshConfig | None = None) -> tuple[Workload, ...]:
    return translate(objects(*texts), mesh or MeshConfig()).workloads


def entry(spec: str = SPEC, metadata: str = "name: web") -> str:
    return document("WorkloadEntry", spec, metadata)


def test_everything_a_workload_says_of_itself() -> None:
    """Golden: all fields of one entry."""
    spec = (
        "address: 10.0.0.1\nserviceAccount: web\nnetwork: vm\nlocality: eu/a/rack1\nweight: 3\nports: {http: 8080}\n"
        "labels: {version: v1}"
    )
    mesh = MeshConfig(trust_domain="example.org", cluster_id="c1", network="default-net")
    (found,) = workloads(
        entry(spec, "name: web-1, namespace: shop, labels: {app: web, hostmesh.io/node: mesh2}"), mesh=mesh
    )
    assert found == Workload(
        uid="c1/networking.istio.io/WorkloadEntry/shop/web-1",
        name="web-1",
        namespace="shop",
        addresses=(parse_ip("10.0.0.1"),),
        network="vm",
        protocol=Protocol.HBONE,
        trust_domain="example.org",
        service_account="web",
        node="mesh2",
        canonical_name="web",
        canonical_revision="v1",
        workload_type=WorkloadType.POD,
        workload_name="web-1",
        cluster_id="c1",
        services={NamespacedHostname("shop", "web-1.shop.workload.hostmesh.internal"): {8080: 8080}},
        locality=Locality("eu", "a", "rack1"),
        capacity=3,
    )


def test_defaults() -> None:
    """An entry that says nothing: service account default, the mesh's network, its own name."""
    (found,) = workloads(entry("address: 10.0.0.1"), mesh=MeshConfig(network="n"))
    assert (found.service_account, found.network, found.capacity) == ("default", "n", 1)
    assert (found.canonical_name, found.canonical_revision, found.workload_name) == ("web", "latest", "web")


@pytest.mark.parametrize(
    ("address", "addresses", "hostname"),
    [
        ("10.0.0.1", ("10.0.0.1",), ""),
        ("'::ffff:10.0.0.1'", ("10.0.0.1",), ""),
        ("'fd00::1'", ("fd00::1",), ""),
        ("db.example.org", (), "db.example.org"),
    ],
)
def test_addresses(address: str, addresses: tuple[str, ...], hostname: str) -> None:
    """IPs canonical, names to be resolved by whoever dials."""
    (found,) = workloads(entry(f"address: {address}"))
    assert (tuple(map(str, found.addresses)), found.hostname) == (addresses, hostname)


NODE = "hostmesh.io/node: mesh1"
NONE = "istio.io/dataplane-mode: none"
PROTOCOLS = [
    ("name: web", "", Protocol.TCP, False),
    (f"name: web, labels: {{{NODE}}}", "", Protocol.HBONE, False),
    (f"name: web, annotations: {{{NODE}}}", "", Protocol.HBONE, False),
    (f"name: web, labels: {{{NODE}, {NONE}}}", "", Protocol.TCP, False),
    (f"name: web, labels: {{{NODE}}}", NONE, Protocol.TCP, False),
    (f"name: web, labels: {{{NODE}, istio.io/dataplane-mode: ambient}}", NONE, Protocol.HBONE, False),
    ("name: web, annotations: {ambient.istio.io/redirection: enabled}", "", Protocol.HBONE, False),
    ("name: web, annotations: {ambient.istio.io/redirection: disabled}", "", Protocol.TCP, False),
    ("name: web, labels: {networking.istio.io/tunnel: http}", "", Protocol.HBONE, True),
]


@pytest.mark.parametrize(("metadata", "namespace", "protocol", "native"), PROTOCOLS)
def test_protocol(metadata: str, namespace: str, protocol: Protocol, native: bool) -> None:
    """A node makes it HBONE unless the entry, or else its namespace, opts out; Istio's own markers count always."""
    around = document("Namespace", "", f"name: default, labels: {{{namespace}}}")
    (found,) = workloads(entry(SPEC, metadata), around)
    assert (found.protocol, found.native_tunnel) == (protocol, native)


SELECTS = "selector: {app: web}\n"
PORTS = [
    ("", [], {}),
    ("ports: {http: 8080}", [], {OWN: {8080: 8080}}),
    (
        "ports: {http: 8080, admin: 9000}",
        [SELECTS + "ports: [{port: 80, name: http}]"],
        {SERVICE: {80: 8080}, OWN: {9000: 9000}},
    ),
    ("ports: {http: 8080}", [SELECTS + "ports: [{port: 80, targetPort: 8080}]"], {SERVICE: {80: 8080}}),
    ("ports: {http: 8080}", [SELECTS + "ports: [{port: 80, targetPort: web}]"], {SERVICE: {}, OWN: {8080: 8080}}),
    ("", [SELECTS + "ports: [{port: 80, targetPort: 8080}]"], {SERVICE: {80: 8080}}),
    ("", ["selector: {app: db}\nports: [{port: 80}]"], {}),
    ("", ["ports: [{port: 80}]"], {}),
]


@pytest.mark.parametrize(("ports", "services", "expected"), PORTS)
def test_ports(ports: str, services: list[str], expected: dict[NamespacedHostname, dict[int, int]]) -> None:
    """By the services that select it; ports that none of them leads to are known by a name of its own."""
    texts = [document("Service", spec, "name: web") for spec in services]
    (found,) = workloads(entry(SPEC + ports, "name: web, labels: {app: web}"), *texts)
    assert dict(found.services) == expected


def test_services_select_in_their_own_namespace_only() -> None:
    """A selector does not reach over namespaces."""
    service = document("Service", SELECTS + "ports: [{port: 80}]", "name: web, namespace: other")
    (found,) = workloads(entry(SPEC, "name: web, labels: {app: web}"), service)
    assert dict(found.services) == {}


def test_a_service_entry_selects_workloads() -> None:
    """The workload's port of the same name, then the entry's target, then its number."""
    text = document(
        "ServiceEntry",
        "hosts: [a.b]\nresolution: STATIC\nworkloadSelector: {labels: {app: web}}\n"
        "ports: [{number: 80, name: http}, {number: 81, name: b, targetPort: 8081}, {number: 82, name: c}]",
        "name: se",
    )
    (found,) = workloads(entry(SPEC + "ports: {http: 8080}", "name: web, labels: {app: web}"), text)
    assert dict(found.services) == {NamespacedHostname("default", "a.b"): {80: 8080, 81: 8081, 82: 82}}


def test_inline_endpoints() -> None:
    """Each is a workload of its own, even two at one address."""
    found = workloads(
        document(
            "ServiceEntry",
            "hosts: [a.b]\nresolution: STATIC\nports: [{number: 80, name: http}]\nendpoints:\n"
            "- {address: 10.0.0.1, ports: {http: 8080}, serviceAccount: s, network: n}\n"
            "- {address: 10.0.0.1, ports: {http: 8081}}",
            "name: se, labels: {app: x}",
        )
    )
    host = NamespacedHostname("default", "a.b")
    assert [(w.uid.rpartition("ServiceEntry/")[2], dict(w.services), w.network) for w in found] == [
        ("default/se/10.0.0.1", {host: {80: 8080}}, "n"),
        ("default/se/10.0.0.1/2", {host: {80: 8081}}, ""),
    ]
    assert {(w.name, w.canonical_name, w.protocol) for w in found} == {("se", "x", Protocol.TCP)}
    assert found[0].service_account == "s"


RESOLUTIONS = [
    ("hosts: [a.b, c.d]\nresolution: DNS", [("a.b", ["a.b"]), ("c.d", ["c.d"])]),
    ("hosts: [a.b]\nresolution: NONE", []),
    ("hosts: [a.b]\nresolution: STATIC", []),
    ("hosts: [a.b]\nresolution: DNS\nworkloadSelector: {labels: {a: b}}", []),
    ("hosts: [a.b]\nresolution: DNS\nendpoints: [{address: e.f}]", [("e.f", ["a.b"])]),
]


@pytest.mark.parametrize(("spec", "expected"), RESOLUTIONS)
def test_names_to_resolve(spec: str, expected: list[tuple[str, list[str]]]) -> None:
    """DNS without endpoints: the host itself is the endpoint."""
    found = workloads(document("ServiceEntry", spec))
    assert [(w.hostname, [key.hostname for key in w.services]) for w in found] == expected


def test_policies_are_attached_by_label_and_sorted() -> None:
    """AuthorizationPolicies and what PeerAuthentications became."""
    selector = "selector: {matchLabels: {app: web}}"
    (found,) = workloads(
        entry(SPEC, "name: web, labels: {app: web}"),
        document("AuthorizationPolicy", selector, "name: z"),
        document("AuthorizationPolicy", selector, "name: r, namespace: istio-system"),
        document("PeerAuthentication", "mtls: {mode: STRICT}"),
    )
    assert found.authorization_policies == (
        "default/z",
        "istio-system/istio_converted_static_strict",
        "istio-system/r",
    )


def test_a_workload_without_labels_gets_no_selected_policy() -> None:
    """Unlike istiod, where a missing label filter lets every policy in."""
    policy = document("AuthorizationPolicy", "selector: {matchLabels: {app: web}}", "name: z")
    (found,) = workloads(entry(), policy)
    assert found.authorization_policies == ()
