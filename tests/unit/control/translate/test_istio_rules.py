"""istiod's derivation of `Workload` and `Service`, a line for each rule, on the resources as they are sent."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.xds.address_codec import encode_service, encode_workload

WORKLOAD = "name: web-1, namespace: shop"
ENTRY = "address: 10.0.0.1\n"
HBONE = "networking.istio.io/tunnel: http"


def entry(spec: str = "", metadata: str = "") -> list[str]:
    return [document("WorkloadEntry", ENTRY + spec, f"{WORKLOAD}, {metadata}" if metadata else WORKLOAD)]


def labelled(*labels: str) -> list[str]:
    return entry(metadata=f"labels: {{{', '.join(labels)}}}")


def inline(endpoint: str = "{address: 10.0.0.1}", metadata: str = "", spec: str = "") -> list[str]:
    text = f"hosts: [a.b]\nresolution: STATIC\nports: [{{number: 80, name: http}}]\nendpoints: [{endpoint}]\n{spec}"
    return [document("ServiceEntry", text, f"name: se, namespace: shop{metadata}")]


def named(hosts: str = "[a.b]", resolution: str = "DNS") -> list[str]:
    return [document("ServiceEntry", f"hosts: {hosts}\nresolution: {resolution}", "name: se, namespace: shop")]


def service(spec: str = "ports: [{port: 80}]", metadata: str = "name: web, namespace: shop") -> list[str]:
    return [document("Service", spec, metadata)]


def selecting(spec: str) -> list[str]:
    return service(f"clusterIP: None\nselector: {{app: web}}\n{spec}") + labelled("app: web")


def ports(pairs: dict[int, int]) -> list[dict[str, int]]:
    return [{"service_port": port, "target_port": target} for port, target in pairs.items()]


OF_ENTRY = "Kubernetes/networking.istio.io/WorkloadEntry/shop/web-1"
OF_INLINE = "Kubernetes/networking.istio.io/ServiceEntry/shop/se"
ADDRESS = "CgAAAQ=="  # 10.0.0.1, as JSON has bytes

WORKLOADS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("uid of an entry", entry(), {"uid": OF_ENTRY}),
    ("uid of an inline endpoint", inline(), {"uid": f"{OF_INLINE}/10.0.0.1"}),
    ("uid of a name", named(), {"uid": f"{OF_INLINE}/a.b"}),
    ("name and namespace of an entry", entry(), {"name": "web-1", "namespace": "shop"}),
    ("name and namespace of an inline endpoint", inline(), {"name": "se", "namespace": "shop"}),
    ("address", entry(), {"addresses": [ADDRESS], "hostname": None}),
    ("address that is a name", [document("WorkloadEntry", "address: a.b", WORKLOAD)], {"hostname": "a.b"}),
    ("inline endpoint that is a name", named(), {"addresses": None, "hostname": "a.b"}),
    ("network of its own", entry("network: n"), {"network": "n"}),
    ("network of an inline endpoint", inline("{address: 10.0.0.1, network: n}"), {"network": "n"}),
    ("no network", entry(), {"network": None}),
    ("service account", entry("serviceAccount: s"), {"service_account": "s"}),
    ("no service account", entry(), {"service_account": "default"}),
    ("service account inline", inline("{address: 10.0.0.1, serviceAccount: s}"), {"service_account": "s"}),
    ("the usual trust domain", entry(), {"trust_domain": None}),
    ("no node in Istio's words", entry(), {"node": None}),
    ("locality", entry("locality: r/z/s"), {"locality": {"region": "r", "zone": "z", "subzone": "s"}}),
    ("half a locality", entry("locality: r"), {"locality": {"region": "r"}}),
    ("status", entry(), {"status": None}),
    ("weight", entry("weight: 3"), {"capacity": 3}),
    ("no weight", entry(), {"capacity": None}),
    ("weight inline", inline("{address: 10.0.0.1, weight: 3}"), {"capacity": 3}),
    ("network mode", entry(), {"network_mode": None}),
    ("cluster", entry(), {"cluster_id": "Kubernetes"}),
    ("type", entry(), {"workload_type": "POD"}),
    ("type inline", inline(), {"workload_type": "POD"}),
    ("workload name", entry(), {"workload_name": "web-1"}),
    ("workload name by label", labelled("service.istio.io/workload-name: w"), {"workload_name": "w"}),
    (
        "workload name by group",
        entry(
            metadata=("labels: {service.istio.io/workload-name: w}, annotations: {istio.io/autoRegistrationGroup: g}")
        ),
        {"workload_name": "g"},
    ),
    ("workload name inline", inline(), {"workload_name": "se"}),
    ("canonical name", entry(), {"canonical_name": "web-1", "canonical_revision": "latest"}),
    ("canonical name by app", labelled("app: a", "version: v"), {"canonical_name": "a", "canonical_revision": "v"}),
    (
        "canonical name by Kubernetes",
        labelled("app: a", "app.kubernetes.io/name: k", "version: v", "app.kubernetes.io/version: kv"),
        {"canonical_name": "k", "canonical_revision": "kv"},
    ),
    (
        "canonical name by Istio",
        labelled(
            "app.kubernetes.io/name: k",
            "service.istio.io/canonical-name: c",
            "app.kubernetes.io/version: kv",
            "service.istio.io/canonical-revision: cv",
        ),
        {"canonical_name": "c", "canonical_revision": "cv"},
    ),
    (
        "canonical name inline: the entry's own labels",
        inline("{address: 10.0.0.1, labels: {app: other}}", ", labels: {app: mine}"),
        {"canonical_name": "mine"},
    ),
    ("spec labels below metadata labels", entry("labels: {app: s}", "labels: {app: m}"), {"canonical_name": "m"}),
    ("spec labels", entry("labels: {app: s}"), {"canonical_name": "s"}),
    ("no marker", entry(), {"tunnel_protocol": None, "native_tunnel": None}),
    (
        "redirection",
        entry(metadata="annotations: {ambient.istio.io/redirection: enabled}"),
        {"tunnel_protocol": "HBONE", "native_tunnel": None},
    ),
    ("tunnel", labelled(HBONE), {"tunnel_protocol": "HBONE", "native_tunnel": True}),
    ("legacy mTLS is nothing to ztunnel", labelled("security.istio.io/tlsMode: istio"), {"tunnel_protocol": None}),
    ("tunnel inline, by the entry", inline(metadata=f", labels: {{{HBONE}}}"), {"tunnel_protocol": "HBONE"}),
    ("numeric target", selecting("ports: [{port: 80, targetPort: 8080}]"), {"services": {80: 8080}}),
    ("no target", selecting("ports: [{port: 80}]"), {"services": {80: 80}}),
    ("named target that is missing", selecting("ports: [{port: 80, targetPort: x}]"), {"services": {}}),
    (
        "port by the service port's name",
        selecting("ports: [{port: 80, name: http, targetPort: 8080}]")[:1]
        + entry("ports: {http: 9090}", "labels: {app: web}"),
        {"services": {80: 9090}},
    ),
    (
        "named target",
        selecting("ports: [{port: 80, targetPort: x}]")[:1] + entry("ports: {x: 9090}", "labels: {app: web}"),
        {"services": {80: 9090}},
    ),
    (
        "UDP is skipped",
        selecting("ports: [{port: 53, name: dns, protocol: UDP}, {port: 80, name: a}]"),
        {"services": {80: 80}},
    ),
    ("inline port", inline("{address: 10.0.0.1, ports: {http: 8080}}"), {"services": {80: 8080}}),
    ("inline without ports", inline(), {"services": {80: 80}}),
]


@pytest.mark.parametrize(("rule", "texts", "expected"), WORKLOADS, ids=[rule for rule, _, _ in WORKLOADS])
def test_a_workload(rule: str, texts: list[str], expected: dict[str, Any]) -> None:
    """Each field of a WorkloadEntry, of an inline endpoint, of a name; None is the field's default."""
    del rule
    (found,) = translate(objects(*texts), MeshConfig()).workloads
    sent = MessageToDict(encode_workload(found).workload, preserving_proto_field_name=True)
    (mapped, *_) = [*sent.get("services", {}).values(), {}]
    sent["services"] = {one["service_port"]: one["target_port"] for one in mapped.get("ports", [])}
    assert {name: sent.get(name) for name in expected} == expected


SERVICES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("name of a Service", service(), {"name": "web", "namespace": "shop", "hostname": "web.shop.svc.cluster.local"}),
    ("name of a ServiceEntry", named(), {"name": "se", "namespace": "shop", "hostname": "a.b"}),
    ("cluster address", service("clusterIP: 10.0.0.1\nports: [{port: 80}]"), {"addresses": [{"address": ADDRESS}]}),
    ("headless", service("clusterIP: None\nports: [{port: 80}]"), {"addresses": None}),
    ("given address", inline(spec="addresses: [10.0.0.1]"), {"addresses": [{"address": ADDRESS}]}),
    (
        "given range",
        inline(spec="addresses: [10.0.0.1/32, 10.0.0.0/8]"),
        {"addresses": [{"address": ADDRESS}, {"address": "CgAAAA==", "length": 8}]},
    ),
    ("allocated", named(), {"addresses": 2}),
    ("numeric target", service("ports: [{port: 80, targetPort: 8080}]"), {"ports": ports({80: 8080})}),
    ("no target", service(), {"ports": ports({80: 80})}),
    ("named target", service("ports: [{port: 80, targetPort: x}]"), {"ports": [{"service_port": 80}]}),
    ("target of a ServiceEntry", inline(), {"ports": ports({80: 80})}),
    ("names to accept", inline(spec="subjectAltNames: [x]"), {"subject_alt_names": ["x"]}),
    ("no preference", service(), {"load_balancing": None}),
    (
        "close",
        service("trafficDistribution: PreferClose\nports: [{port: 80}]"),
        {"load_balancing": {"routing_preference": ["NETWORK", "REGION", "ZONE"], "mode": "FAILOVER"}},
    ),
    (
        "the same node",
        service(metadata="name: web, annotations: {networking.istio.io/traffic-distribution: PreferSameNode}"),
        {
            "load_balancing": {
                "routing_preference": ["NETWORK", "REGION", "ZONE", "SUBZONE", "NODE"],
                "mode": "FAILOVER",
            }
        },
    ),
    (
        "local",
        service("internalTrafficPolicy: Local\nports: [{port: 80}]"),
        {"load_balancing": {"routing_preference": ["NODE"], "mode": "STRICT"}},
    ),
    (
        "whoever is not ready too",
        service("publishNotReadyAddresses: true\nports: [{port: 80}]"),
        {"load_balancing": {"health_policy": "ALLOW_ALL"}},
    ),
    (
        "passed through",
        named(resolution="NONE"),
        {"load_balancing": {"mode": "PASSTHROUGH", "health_policy": "ALLOW_ALL"}},
    ),
    ("families left open", service(), {"ip_families": None}),
    ("one family", service("ipFamilies: [IPv4]\nports: [{port: 80}]"), {"ip_families": "IPV4_ONLY"}),
    ("the other family", service("ipFamilies: [IPv6]\nports: [{port: 80}]"), {"ip_families": "IPV6_ONLY"}),
    ("both families", service("ipFamilies: [IPv6, IPv4]\nports: [{port: 80}]"), {"ip_families": "DUAL"}),
    ("families of a ServiceEntry", named(), {"ip_families": None}),
    ("a Service is canonical", service(), {"canonical": True}),
    ("the only ServiceEntry is canonical", named(), {"canonical": True}),
    ("visible to all", service(), {"visibility": None}),
    ("no waypoint", service(), {"waypoint": None, "weighted_waypoints": None}),
]


@pytest.mark.parametrize(("rule", "texts", "expected"), SERVICES, ids=[rule for rule, _, _ in SERVICES])
def test_a_service(rule: str, texts: list[str], expected: dict[str, Any]) -> None:
    """Each field of a Service and of a ServiceEntry; of what is allocated the number is said."""
    del rule
    (found,) = translate(objects(*texts), MeshConfig()).services
    sent = MessageToDict(encode_service(found).service, preserving_proto_field_name=True)
    if isinstance(expected.get("addresses"), int):
        sent["addresses"] = len(sent["addresses"])
    assert {name: sent.get(name) for name in expected} == expected


NOTHING = [
    ("ExternalName", service("type: ExternalName\nexternalName: a.b")),
    ("a ServiceEntry that is passed through has no workload", named(resolution="NONE")),
    ("nor has one that selects", [document("ServiceEntry", "hosts: [a.b]\nresolution: DNS\nworkloadSelector: {}")]),
]


@pytest.mark.parametrize(("rule", "texts"), NOTHING[:1])
def test_no_service(rule: str, texts: list[str]) -> None:
    """What an ambient mesh does not know."""
    del rule
    assert not translate(objects(*texts), MeshConfig()).services


@pytest.mark.parametrize(("rule", "texts"), NOTHING)
def test_no_workload(rule: str, texts: list[str]) -> None:
    """Nobody stands behind these."""
    del rule
    assert not translate(objects(*texts), MeshConfig()).workloads


def test_only_what_ztunnel_reads_is_sent_of_a_port() -> None:
    """Its protocol is for waypoints, which are told with their program."""
    (found,) = translate(
        objects(*service("ports: [{port: 80, name: http-web, appProtocol: http}]")), MeshConfig()
    ).services
    assert not encode_service(found).service.ports[0].app_protocol


@pytest.mark.parametrize(("label", "told"), [("'true'", True), ("'false'", False)])
def test_gateways_are_told_whether_an_ingress_goes_through_the_waypoint(label: str, told: bool) -> None:
    """Proxies of layer 4 do not care."""
    labels = f"istio.io/ingress-use-waypoint: {label}"
    translated = translate(objects(*service(metadata=f"name: web, labels: {{{labels}}}")), MeshConfig())
    assert encode_service(translated.services[0]).service.ingress_use_waypoint is told
    assert "ingress" not in str(translated.warnings)


def test_another_trust_domain_is_said() -> None:
    """Only the usual one is left out."""
    (found,) = translate(objects(*entry()), MeshConfig(trust_domain="example.org")).workloads
    assert encode_workload(found).workload.trust_domain == "example.org"
