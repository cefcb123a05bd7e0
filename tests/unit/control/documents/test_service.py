"""Service (core v1): what is refused, and what a cluster's document says that has no effect here."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects, refusals, warnings

from hostmesh.control.documents.read import of_kind
from hostmesh.control.documents.service import CoreService

REFUSED = [
    ("selector: {a: b}", ["4: spec.ports: a service needs at least one port"]),
    (
        "selector: {a: b}\nports: [{port: 80}, {port: 81}]",
        [
            "6: spec.ports[0].name: required where a service has several ports",
            "6: spec.ports[1].name: required where a service has several ports",
        ],
    ),
    (
        "selector: {a: b}\nports: [{port: 80, name: a}, {port: 80, name: a}]",
        ["6: spec.ports[1].name: the name 'a' stands twice", "6: spec.ports[1].port: port 80 stands twice"],
    ),
    (
        "selector: {a: b}\nports: [{port: 80, name: A}]",
        ["6: spec.ports[0].name: the port name 'A' is not a DNS label"],
    ),
    (
        "selector: {a: b}\nports: [{port: 80}]\nclusterIP: x",
        ["7: spec.clusterIP: 'x' is not an IP address (nor the word None)"],
    ),
    (
        "selector: {'a b': c}\nports: [{port: 80}]",
        ["5: spec.selector.a b: the key 'a b' is not letters, digits, '-', '_' and '.' (1 to 63 of them)"],
    ),
]


@pytest.mark.parametrize(("spec", "complaints"), REFUSED)
def test_refused(spec: str, complaints: list[str]) -> None:
    """Each rule names the field's line."""
    assert refusals(document("Service", spec)) == complaints


WARNED = [
    ("selector: {a: b}\nports: [{port: 80, targetPort: http}]", []),
    (
        "ports: [{port: 80}]",
        ["4: spec.selector: missing: no workload stands behind the service; select WorkloadEntries"],
    ),
    (
        "type: ExternalName\nexternalName: a.b",
        ["5: spec.type: ExternalName is ignored in an ambient mesh; write a ServiceEntry"],
    ),
    (
        "selector: {a: b}\nports: [{port: 80}]\ntype: NodePort\nsessionAffinity: ClientIP",
        [
            "8: spec.sessionAffinity: has no effect here",
            "7: spec.type: NodePort is treated as ClusterIP: nothing is opened to the outside",
        ],
    ),
    (
        "selector: {a: b}\nports: [{port: 53, protocol: UDP}]",
        ["6: spec.ports[0].protocol: the mesh carries TCP only; the UDP port is left alone"],
    ),
    ("selector: {a: b}\nclusterIP: None", []),
]


@pytest.mark.parametrize(("spec", "said"), WARNED)
def test_warned(spec: str, said: list[str]) -> None:
    """What is legal but has no effect."""
    assert warnings(document("Service", spec)) == said


@pytest.mark.parametrize(
    ("spec", "addresses", "headless"),
    [
        ("ports: [{port: 80}]", (), False),
        ("clusterIP: None", (), True),
        ("clusterIP: 10.0.0.1\nports: [{port: 80}]", ("10.0.0.1",), False),
        ("clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1, 'fd00::1']\nports: [{port: 80}]", ("10.0.0.1", "fd00::1"), False),
    ],
)
def test_addresses(spec: str, addresses: tuple[str, ...], headless: bool) -> None:
    """Chosen, explicitly none, or to be allocated."""
    (item,) = of_kind(objects(document("Service", spec)), CoreService)
    assert (item.resource.cluster_ips, item.resource.headless) == (addresses, headless)
