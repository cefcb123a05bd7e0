"""How workloads on other networks are reached, by documents as a user writes them."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import Translation, translate
from hostmesh.model.workload import Protocol

METADATA = (
    "name: east, namespace: istio-system, labels: {topology.istio.io/network: east}, "
    "annotations: {gateway.istio.io/service-account: eastwest}"
)
SPEC = (
    "gatewayClassName: istio-remote\n"
    "addresses: [{value: 192.0.2.7}]\n"
    "listeners:\n"
    "- {name: cross-network, port: 15018, protocol: HBONE, tls: {mode: Passthrough}}\n"
    "- {name: xds-tls, port: 15012, protocol: TLS, tls: {mode: Passthrough}}"
)
EAST = document("Gateway", SPEC, METADATA)
IN_A_MESH = "labels: {app: web}, annotations: {ambient.istio.io/redirection: enabled}"
THERE = document("WorkloadEntry", "address: 10.0.0.1\nnetwork: east\nserviceAccount: web", f"name: there, {IN_A_MESH}")
HERE = document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: web", f"name: here, {IN_A_MESH}")
SERVICE = document(
    "ServiceEntry",
    "hosts: [web.example]\nlocation: MESH_INTERNAL\nresolution: STATIC\n"
    "ports: [{number: 80, name: tcp, protocol: TCP}]\nworkloadSelector: {labels: {app: web}}\n"
    "subjectAltNames: [spiffe://cluster.local/ns/default/sa/web]",
    "name: web",
)


def told(*texts: str) -> Translation:
    return translate(objects(*texts), MeshConfig())


def gateways(found: Translation) -> dict[str, str]:
    return {one.name: str(one.network_gateway) for one in found.workloads if one.network_gateway is not None}


def test_workloads_of_a_network_are_reached_through_its_gateway() -> None:
    """At the port of its HBONE listener; a workload on the mesh's own network needs none."""
    found = told(EAST, THERE, HERE, SERVICE)
    assert gateways(found) == {"there": "east/192.0.2.7:15018"}
    assert found.warnings == ()


def test_the_gateway_is_a_workload_so_that_agents_know_who_must_answer() -> None:
    """Namespace and the annotated service account are its identity; the trust domain may be another one."""
    (gateway,) = (one for one in told(EAST, THERE, SERVICE).workloads if one.uid.startswith("NetworkGateway/"))
    assert gateway.uid == "NetworkGateway/east/192.0.2.7/15018"
    assert (gateway.network, [str(ip) for ip in gateway.addresses]) == ("east", ["192.0.2.7"])
    assert gateway.protocol is Protocol.HBONE
    assert str(gateway.identity) == "spiffe://cluster.local/ns/istio-system/sa/eastwest"
    other = EAST.replace("eastwest}", "eastwest, gateway.istio.io/trust-domain: east.example}")
    (gateway,) = (one for one in told(other).workloads)
    assert gateway.identity.trust_domain == "east.example"


def test_a_gateway_may_be_a_hostname() -> None:
    """In its own namespace."""
    named = EAST.replace("{value: 192.0.2.7}", "{type: Hostname, value: gw.east.example}")
    found = told(named, THERE, SERVICE)
    assert gateways(found) == {"there": "istio-system/gw.east.example:15018"}
    (gateway,) = (one for one in found.workloads if one.uid.startswith("NetworkGateway/"))
    assert (gateway.hostname, gateway.addresses) == ("gw.east.example", ())


def test_of_several_gateways_the_first_is_used_whatever_the_order() -> None:
    """By namespace and name; all are workloads."""
    second = EAST.replace("name: east,", "name: zeta,").replace("192.0.2.7", "192.0.2.8")
    for texts in ((EAST, second), (second, EAST)):
        found = told(*texts, THERE, SERVICE)
        assert gateways(found) == {"there": "east/192.0.2.7:15018"}
        assert sum(one.uid.startswith("NetworkGateway/") for one in found.workloads) == 2


@pytest.mark.parametrize(
    ("texts", "field", "why"),
    [
        ((THERE, SERVICE), "spec.network", "no Gateway of class istio-remote with the label"),
        ((EAST, THERE, SERVICE.replace("subjectAltNames", "#")), "spec.subjectAltNames", "names who may answer there"),
    ],
    ids=["no gateway", "no names"],
)
def test_what_cannot_be_reached_is_named(texts: tuple[str, ...], field: str, why: str) -> None:
    """Connections are refused until it is repaired, and the author is told."""
    (warning,) = told(*texts).warnings
    assert warning.field == field
    assert why in warning.why
