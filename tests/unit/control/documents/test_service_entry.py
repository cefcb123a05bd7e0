"""ServiceEntry: Istio's rules."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals, warnings

HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]"
TCP = "ports: [{number: 5432, name: tcp, protocol: TCP}]"

REFUSED = [
    ("hosts: []", ["5: spec.hosts: list should have at least 1 item after validation, not 0 (got [])"]),
    (HTTP, ["4: spec.hosts: required, but missing"]),
    ("hosts: ['*']", ["5: spec.hosts[0]: a service for every host name is not supported; name the host"]),
    (
        "hosts: [a_b, '*.', 10.0.0.1]",
        [
            "5: spec.hosts[0]: 'a_b' is not a host name",
            "5: spec.hosts[1]: '*.' is not a host name",
            "5: spec.hosts[2]: '10.0.0.1' is not a host name",
        ],
    ),
    ("hosts: [a.b, a.b]", ["5: spec.hosts[1]: 'a.b' stands twice"]),
    (
        "hosts: [web.default.workload.hostmesh.internal]",
        ["5: spec.hosts[0]: names under workload.hostmesh.internal are reserved for single workloads"],
    ),
    (
        "hosts: [a.b]\nresolution: STATIC\nendpoints: [{address: 10.0.0.1}]\nworkloadSelector: {labels: {a: b}}",
        ["8: spec.workloadSelector: only one of workloadSelector and endpoints can be set"],
    ),
    (
        "hosts: [a.b]\nresolution: DNS\naddresses: [10.0.0.0/8]",
        ["7: spec.addresses[0]: a CIDR range is allowed only with resolution NONE or STATIC, not DNS"],
    ),
    ("hosts: [a.b]\naddresses: [x]", ["6: spec.addresses[0]: 'x' is not an IP address or CIDR range"]),
    (
        "hosts: [a.b]\nports:\n- {number: 1, name: a}\n- {number: 1, name: a}\n- {number: 2, name: A, protocol: HTP}",
        [
            "8: spec.ports[1].name: the name 'a' is also that of port 1",
            "8: spec.ports[1].number: port 1 stands twice",
            "9: spec.ports[2].name: the port name 'A' is not a DNS label",
            (
                "9: spec.ports[2].protocol: unknown protocol 'HTP'; did you mean 'HTTP'? allowed: GRPC, GRPC-WEB, "
                "HTTP, HTTP2, HTTPS, MONGO, MYSQL, REDIS, TCP, TLS, UDP"
            ),
        ],
    ),
    (
        "hosts: [a.b]\nports: [{number: 0, name: a}]",
        ["6: spec.ports[0].number: input should be greater than or equal to 1 (got 0)"],
    ),
    (
        "hosts: [a.b]\nendpoints: [{address: 10.0.0.1}]",
        ["4: spec.resolution: NONE cannot have endpoints: traffic goes to the address that was dialled; use STATIC"],
    ),
    (
        "hosts: [a.b]\nresolution: STATIC\nendpoints:\n- {address: b.c}\n- {}",
        [
            (
                "8: spec.endpoints[0].address: resolution STATIC needs an IP address, not 'b.c'; "
                "use resolution DNS for names"
            ),
            "9: spec.endpoints[1].address: address is required",
        ],
    ),
    (
        "hosts: ['*.b.c']\nresolution: DNS",
        ["5: spec.hosts[0]: DNS without endpoints cannot resolve '*.b.c'"],
    ),
    (
        "hosts: [a.b]\nresolution: DNS_ROUND_ROBIN\nendpoints: [{address: c.d}, {address: e.f}]",
        ["7: spec.endpoints: DNS_ROUND_ROBIN takes one endpoint at most; use DNS for several"],
    ),
    (
        f"hosts: [a.b]\nresolution: DYNAMIC_DNS\nlocation: MESH_INTERNAL\naddresses: [10.0.0.1]\n{TCP}",
        [
            "5: spec.hosts[0]: DYNAMIC_DNS is for wildcard hosts; use DNS for a single name",
            "7: spec.location: DYNAMIC_DNS is for MESH_EXTERNAL services",
            "8: spec.addresses: DYNAMIC_DNS cannot have addresses; remove them",
            "9: spec.ports[0].protocol: DYNAMIC_DNS carries HTTP, HTTP2, GRPC and TLS only",
        ],
    ),
    (
        f"hosts: [a.b]\nresolution: STATIC\n{HTTP}\nendpoints:\n- {{address: 10.0.0.1, ports: {{htp: 80}}}}",
        ["9: spec.endpoints[0].ports.htp: the entry has no port named 'htp'; did you mean 'http'? allowed: http"],
    ),
    (
        "hosts: [a.b]\nresolution: STATIC\nendpoints:\n- {address: 10.0.0.1, labels: {hostmesh.io/node: n}}",
        [
            (
                "8: spec.endpoints[0].labels.hostmesh.io/node: an inline endpoint has no identity on a node; "
                "write a WorkloadEntry and select it"
            )
        ],
    ),
    (
        f"hosts: [a.b, c.d]\nresolution: STATIC\n{TCP}\nendpoints: [{{address: 10.0.0.1}}]",
        [
            (
                "7: spec.ports[0].protocol: multiple hosts provided with non-HTTP, non-TLS ports; "
                "write one ServiceEntry per host"
            )
        ],
    ),
    (
        "hosts: [a.b]\nexportTo: ['*', a, a]",
        ["6: spec.exportTo: a namespace stands twice", "6: spec.exportTo: '*' cannot stand with others"],
    ),
]


@pytest.mark.parametrize(("spec", "complaints"), REFUSED)
def test_refused(spec: str, complaints: list[str]) -> None:
    """Each rule names the field's line."""
    assert refusals(document("ServiceEntry", spec)) == complaints


WARNED = [
    (f"hosts: [a.b]\nresolution: DNS\n{HTTP}", []),
    ("hosts: ['*.com']", ["5: spec.hosts[0]: '*.com' claims a whole top-level domain"]),
    (
        "hosts: [a.b]\nresolution: STATIC",
        [
            "6: spec.resolution: STATIC with neither endpoints nor workloadSelector: nothing answers for it",
        ],
    ),
    (
        "hosts: [a.b]\nresolution: STATIC\nworkloadSelector: {}",
        ["7: spec.workloadSelector: selects by no label: it selects no workload; add labels"],
    ),
    (
        "hosts: [a.b]\nexportTo: [.]",
        ["6: spec.exportTo: ignored: in an ambient mesh every namespace sees the service"],
    ),
    ("hosts: [a.b]\nexportTo: ['*']", []),
]


@pytest.mark.parametrize(("spec", "said"), WARNED)
def test_warned(spec: str, said: list[str]) -> None:
    """What is legal but probably not meant."""
    assert warnings(document("ServiceEntry", spec)) == said


def test_a_recorded_address_must_be_one() -> None:
    """What an earlier control plane allocated is taken up, so it is checked."""
    text = document("ServiceEntry", "hosts: [a.b]") + "status:\n  addresses:\n  - {value: x, host: a.b}\n"
    assert refusals(text) == ["8: status.addresses[0].value: 'x' is not an IP address; remove the recorded address"]
