"""Sets of documents that a control plane may be given: those of the unit tests' tables, and further ones."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.documents import document
from tests.unit.control.translate import test_istio_rules as tables
from tests.unit.control.translate import test_peer_authentication as peers
from tests.unit.control.translate import test_policies as policies

DIFFERENT = {"UDP is skipped", "ports ['UNSET', 'portLevelMtls: {80: {mode: DISABLE}}', 'STRICT']"}
"""Where docs/istio-differences.md says so."""

WEB = document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: s", "name: w, namespace: a, labels: {app: web}")
OTHER = document("WorkloadEntry", "address: 10.0.0.2\nserviceAccount: s", "name: w, namespace: b, labels: {tier: x}")
SHOPS = document("WorkloadEntry", "address: 10.0.0.3", "name: l, namespace: shop, labels: {app: web}")
ELSEWHERE = document("WorkloadEntry", "address: 10.0.0.4", "name: l, namespace: a, labels: {app: web}")
CORE = document("Service", "selector: {app: web}\nports: [{port: 80}]", "name: s, namespace: shop")
SELECTING = "workloadSelector: {labels: {app: web}}"
INLINE = "endpoints: [{address: 10.0.0.1}]"


def entry(
    spec: str = INLINE,
    resolution: str = "STATIC",
    *,
    hosts: str = "[a.b]",
    port: str = "name: http, protocol: HTTP",
    metadata: str = "name: se",
) -> str:
    head = f"hosts: {hosts}\nports: [{{number: 80, {port}}}]\nresolution: {resolution}\n"
    return document("ServiceEntry", head + spec, f"{metadata}, namespace: shop")


def policy(spec: str, namespace: str = "a") -> list[str]:
    return [document("AuthorizationPolicy", spec, f"name: x, namespace: {namespace}"), WEB, OTHER]


def source(text: str, further: str = "", action: str = "ALLOW") -> list[str]:
    return policy(f"action: {action}\nrules: [{{from: [{{source: {{{text}}}}}]{further}}}]")


def strict(namespace: str) -> str:
    return document("PeerAuthentication", "mtls: {mode: STRICT}", f"name: default, namespace: {namespace}")


SCOPES = [
    ("{}", "a"),
    ("{}", "istio-system"),
    ("selector: {matchLabels: {app: web}}", "a"),
    ("selector: {matchLabels: {tier: x}}", "istio-system"),
    ("targetRefs: [{group: '', kind: Service, name: a}]", "a"),
    ("action: AUDIT\nrules: [{}]", "a"),
]
FURTHER: list[tuple[str, Sequence[str]]] = [
    *((f"exported to {to}", [entry(f"{INLINE}\nexportTo: ['{to}']")]) for to in (".", "~", "a")),
    ("one name twice", [entry(f"addresses: [10.1.0.{n}]", metadata=f"name: s{n}") for n in (1, 2)]),
    ("two names", [entry(hosts="[a.b, c.d]")]),
    ("wildcard", [entry(hosts="['*.a.b']")]),
    ("selects in its namespace", [entry(SELECTING), SHOPS, ELSEWHERE]),
    ("selects, with target port", [entry(SELECTING, port="name: http, targetPort: 8080"), SHOPS]),
    ("a Service selects", [CORE, SHOPS, ELSEWHERE]),
    ("a Service and an entry select", [CORE, entry(SELECTING), SHOPS]),
    ("an entry of a Service's name", [CORE, entry("addresses: [10.1.0.1]", hosts="[s.shop.svc.cluster.local]")]),
    *((place, [entry(f"{INLINE}\nlocation: {place}")]) for place in ("MESH_EXTERNAL", "MESH_INTERNAL")),
    ("DNS", [entry("endpoints: [{address: x.y}, {address: z.y, ports: {http: 8080}}]", "DNS")]),
    ("DNS_ROUND_ROBIN", [entry("", "DNS_ROUND_ROBIN")]),
    ("NONE", [entry("addresses: [10.1.0.0/24]", "NONE")]),
    ("no allocation", [entry(metadata="name: se, labels: {networking.istio.io/enable-autoallocate-ip: 'false'}")]),
    ("IPv6", [document("WorkloadEntry", "address: '2001:db8::1'", "name: six, namespace: shop")]),
    ("one address", [SHOPS, document("WorkloadEntry", "address: 10.0.0.3", "name: m, namespace: shop")]),
    ("weights", [entry("endpoints: [{address: 10.0.0.1, weight: 2, locality: r/z}, {address: 10.0.0.2, network: n}]")]),
    (
        "labels of topology",
        [SHOPS.replace("app: web", "topology.istio.io/network: n, topology.kubernetes.io/region: r")],
    ),
    ("the root namespace speaks", [strict("istio-system"), SHOPS, WEB]),
    ("policies of all kinds", [strict("a"), policy("selector: {matchLabels: {app: web}}\nrules: [{}]")[0], WEB]),
    ("principals", source("principals: ['*', 'cluster.local/ns/a/sa/b', '*/sa/b', 'cluster.local/*']")),
    ("denied callers and requests", source("requestPrincipals: [x], namespaces: [n]", action="DENY")),
    ("denied but for hosts and ports", source("namespaces: [n]", ", to: [{operation: {notPorts: ['80']}}]", "DENY")),
    ("ports", policy("rules: [{to: [{operation: {ports: ['80', '81'], notPorts: ['82']}}]}]")),
]

CASES: list[tuple[str, Sequence[str]]] = [
    *((rule, texts) for rule, texts, _ in tables.WORKLOADS),
    *((f"service: {rule}", texts) for rule, texts, _ in tables.SERVICES),
    *((f"nothing: {rule}", texts) for rule, texts in tables.NOTHING),
    *((f"rules {number}", policy(spec)) for number, (spec, _) in enumerate(policies.RULES)),
    *((f"scope {spec!r} of {namespace}", policy(spec, namespace)) for spec, namespace in SCOPES),
    *((f"level {number}", [*texts, WEB, OTHER]) for number, (texts, _) in enumerate(peers.LEVELS)),
    *(
        (
            f"ports {[mode, ports, *('STRICT' if one == peers.STRICT else 'PERMISSIVE' for one in others)]}",
            [*others, peers.own(mode, ports), WEB, OTHER],
        )
        for mode, ports, others, _, _ in peers.PORTS
    ),
    *FURTHER,
]
