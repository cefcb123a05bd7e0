"""WorkloadEntry: Istio's rules, and which node and protocol an entry says."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects, refusals, warnings

from hostmesh.control.documents.read import of_kind
from hostmesh.control.documents.workload_entry import WorkloadEntry

ON_NODE = "name: x, labels: {hostmesh.io/node: mesh1}"

REFUSED = [
    ("serviceAccount: a", "4: spec.address: address is required"),
    (
        "address: unix:///run/a",
        "5: spec.address: an ambient mesh carries TCP only, not unix sockets; give the IP address",
    ),
    ("address: a_b", "5: spec.address: 'a_b' is not a valid FQDN or an IP address"),
    ("address: 10.0.0.0/8", "5: spec.address: '10.0.0.0/8' is not a valid FQDN or an IP address"),
    (
        "address: 10.0.0.1\nports:\n  HTTP: 80",
        "7: spec.ports.HTTP: the port name 'HTTP' is not a short DNS label",
    ),
    (
        "address: 10.0.0.1\nserviceAccount: A",
        "6: spec.serviceAccount: 'A' is not a service account name (a DNS name)",
    ),
    ("address: 10.0.0.1\nweight: -1", "6: spec.weight: input should be greater than or equal to 0 (got -1)"),
    (
        "address: 10.0.0.1\nlabels:\n  a: b c",
        "7: spec.labels.a: the label value 'b c' is not letters, digits, '-', '_' and '.' (at most 63 of them)",
    ),
    (
        f"address: {'a' * 257}",
        f"5: spec.address: string should have at most 256 characters (got '{'a' * 257}')",
    ),
]


@pytest.mark.parametrize(("spec", "complaint"), REFUSED)
def test_refused(spec: str, complaint: str) -> None:
    """Each rule of the schema names the field's line."""
    assert refusals(document("WorkloadEntry", spec, ON_NODE)) == [complaint]


WARNED = [
    (
        document("WorkloadEntry", "network: vm-net\nserviceAccount: a", ON_NODE),
        ["4: spec.address: missing: reachable only through a gateway of the network 'vm-net'"],
    ),
    (
        document("WorkloadEntry", "address: 10.0.0.1", ON_NODE),
        ["4: spec.serviceAccount: missing: the identity is the service account 'default'; name one"],
    ),
    (
        document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: a"),
        [
            (
                "3: metadata: traffic to it stays plaintext: no label hostmesh.io/node, "
                "no annotation ambient.istio.io/redirection; name its node"
            )
        ],
    ),
    (document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: a", ON_NODE), []),
]


@pytest.mark.parametrize(("text", "said"), WARNED)
def test_warned(text: str, said: list[str]) -> None:
    """What is legal but probably not meant."""
    assert warnings(text) == said


NODES = [
    (
        "name: x, labels: {hostmesh.io/node: a}, annotations: {hostmesh.io/node: b}",
        (
            "3: metadata.annotations.hostmesh.io/node: the label says 'a' and the annotation 'b'; "
            "a workload runs on one node"
        ),
    ),
    (
        "name: x, annotations: {hostmesh.io/node: 'a/b'}",
        "3: metadata.annotations.hostmesh.io/node: 'a/b' is not a node name (letters, digits, '.', '_' and '-')",
    ),
    (
        "name: x, labels: {istio.io/dataplane-mode: ambiant}",
        "3: metadata.labels.istio.io/dataplane-mode: 'ambiant' is unknown; allowed: ambient, none",
    ),
]


@pytest.mark.parametrize(("metadata", "complaint"), NODES)
def test_the_node_is_named_once_and_rightly(metadata: str, complaint: str) -> None:
    """An entry's node decides who gets its certificate."""
    assert refusals(document("WorkloadEntry", "address: 10.0.0.1", metadata)) == [complaint]


@pytest.mark.parametrize(
    ("metadata", "node", "markers"),
    [
        ("name: x", "", False),
        ("name: x, labels: {hostmesh.io/node: a}", "a", False),
        ("name: x, annotations: {hostmesh.io/node: a}", "a", False),
        ("name: x, annotations: {ambient.istio.io/redirection: enabled}", "", True),
        ("name: x, labels: {networking.istio.io/tunnel: http}", "", True),
    ],
)
def test_what_the_markers_say(metadata: str, node: str, markers: bool) -> None:
    """Label or annotation, as the author likes."""
    (entry,) = of_kind(objects(document("WorkloadEntry", "address: 10.0.0.1", metadata)), WorkloadEntry)
    assert (entry.resource.node, entry.resource.hbone_markers) == (node, markers)


def test_labels_of_the_object_win_over_those_of_its_spec() -> None:
    """As istiod overlays them."""
    text = document("WorkloadEntry", "address: 10.0.0.1\nlabels: {a: spec, b: spec}", "name: x, labels: {a: object}")
    (entry,) = of_kind(objects(text), WorkloadEntry)
    assert entry.resource.labels == {"a": "object", "b": "spec"}
