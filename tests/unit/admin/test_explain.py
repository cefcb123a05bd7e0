"""Faults that people have had, seeded one by one: the explanation names the cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from tests.support.documents import document, objects

from hostmesh.admin.explain import Explanation, explain
from hostmesh.admin.parties import NotUnderstood
from hostmesh.admin.world import CapturedView, CertificateView, HostView, Reach, World
from hostmesh.control.documents.namespace import Namespace
from hostmesh.control.documents.network_policy import NetworkPolicyDocument
from hostmesh.control.documents.read import of_kind
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.network_policies import from_document, member_of_entry, membership
from hostmesh.model.address import GatewayAddress, NamespacedHostname, SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.model.workload import HealthStatus, Protocol, Workload
from hostmesh.state.store import MeshState
from hostmesh.telemetry.reasons import Reason

NOW = 1_000_000.0
SLEEP = Identity("cluster.local", "prod", "sleep")
WEB = Identity("cluster.local", "prod", "web")

SLEEP_ENTRY = document(
    "WorkloadEntry",
    "address: 10.0.0.1\nserviceAccount: sleep",
    "name: sleep, namespace: prod, labels: {hostmesh.io/node: app1, app: sleep}",
)
WEB_ENTRY = document(
    "WorkloadEntry",
    "address: 10.0.0.2\nserviceAccount: web\nports: {http: 8080}",
    "name: web, namespace: prod, labels: {hostmesh.io/node: app2, app: web}",
)
SERVICE = document(
    "Service", "selector: {app: web}\nports: [{name: http, port: 80, targetPort: 8080}]", "name: web, namespace: prod"
)
GOOD = (SLEEP_ENTRY, WEB_ENTRY, SERVICE)


def policy(spec: str, name: str = "p") -> str:
    return document("AuthorizationPolicy", spec, f"name: {name}, namespace: prod")


DENY = policy("action: DENY\nrules: [{from: [{source: {namespaces: [prod]}}]}]")
ALLOW_OTHERS = policy("rules: [{from: [{source: {principals: [cluster.local/ns/prod/sa/batch]}}]}]")
ALLOW_PORT = policy("rules: [{to: [{operation: {ports: ['9090']}}]}]")
ALLOW_NOTHING = policy("{}")
ALLOW_SLEEP = policy("rules: [{from: [{source: {principals: [cluster.local/ns/prod/sa/sleep]}}]}]")
STRICT = document("PeerAuthentication", "mtls: {mode: STRICT}", "name: strict, namespace: istio-system")
NETPOL = document(
    "NetworkPolicy",
    "podSelector: {matchLabels: {app: web}}\ningress: [{from: [{podSelector: {matchLabels: {app: batch}}}]}]",
    "name: only-batch, namespace: prod",
)
NETPOL_WITHOUT_HBONE = document(
    "NetworkPolicy",
    "podSelector: {matchLabels: {app: web}}\ningress: [{ports: [{port: 8080}]}]",
    "name: only-8080, namespace: prod, annotations: {hostmesh.io/enforce-in-tunnel: 'false'}",
)

HOST = HostView("app1", (CapturedView("sleep", "prod", SLEEP, "sleep.service", "captured"),))
CERTIFICATES = {SLEEP: CertificateView("Available", NOW - 3600, NOW + 3600)}


def world(*documents: str) -> World:
    """What the agent of app1, which captures sleep, knows of a mesh of these documents."""
    found = objects(*documents)
    told = translate(found, MeshConfig())
    state = MeshState()
    for workload in told.workloads:
        state.upsert_workload(workload)
    for service in told.services:
        state.upsert_service(service)
    for authorization in told.authorizations:
        state.upsert_authorization(authorization)
    entries = of_kind(found, WorkloadEntry)
    members = [member_of_entry(e, w) for e in entries for w in told.workloads if w.uid.endswith(f"/{e.key.name}")]
    return World(
        state,
        host=HOST,
        certificates=CERTIFICATES,
        sources={"prod/p": "doc3.yaml:1"},
        network_policies=tuple(from_document(item) for item in of_kind(found, NetworkPolicyDocument)),
        membership=membership(members, Namespaces(of_kind(found, Namespace))),
    )


def with_workload(name: str, **changes: object) -> Callable[[World], World]:
    """The same world, one workload of it different."""

    def change(before: World) -> World:
        for one in before.state.workloads():
            if one.name == name:
                before.state.upsert_workload(replace(one, **changes))  # type: ignore[arg-type]
        return before

    return change


def with_certificate(view: CertificateView) -> Callable[[World], World]:
    return lambda before: replace(before, certificates={SLEEP: view})


def with_host(**changes: object) -> Callable[[World], World]:
    return lambda before: replace(before, host=replace(HOST, **changes))  # type: ignore[arg-type]


def with_twin(before: World) -> World:
    """Another workload at web's address that serves its port."""
    for one in before.state.workloads():
        if one.name == "web":
            before.state.upsert_workload(replace(one, uid="twin", name="twin"))
    return before


def opted_out(before: World) -> World:
    """The client's host does not capture it, as it should not."""
    return with_host(captured=())(with_workload("sleep", protocol=Protocol.TCP)(before))


def same(before: World) -> World:
    return before


@dataclass(frozen=True)
class Fault:
    """What is wrong, and the reason that must be found."""

    reason: Reason
    documents: tuple[str, ...] = GOOD
    change: Callable[[World], World] = field(default=same)
    source: str = "prod/sleep"
    target: str = "web.prod.svc.cluster.local:80"
    reach: Reach = Reach.OPEN
    allowed: bool = False


WAYPOINT = GatewayAddress(NamespacedHostname("prod", "gate.prod.svc"), 15008)

FAULTS = {
    "nothing is wrong": Fault(Reason.MUTUAL_TLS, allowed=True),
    "wrong service account": Fault(Reason.POLICY_NOT_ALLOWED, (*GOOD, ALLOW_OTHERS)),
    "wrong port in the policy": Fault(Reason.POLICY_NOT_ALLOWED, (*GOOD, ALLOW_PORT)),
    "a policy that allows nothing": Fault(Reason.POLICY_NOT_ALLOWED, (*GOOD, ALLOW_NOTHING)),
    "a DENY rule": Fault(Reason.POLICY_DENIED, (*GOOD, DENY)),
    "a DENY rule beside an ALLOW": Fault(
        Reason.POLICY_DENIED, (*GOOD, DENY, ALLOW_SLEEP.replace("name: p", "name: q"))
    ),
    "STRICT and a client outside": Fault(
        Reason.PLAINTEXT_REFUSED, (*GOOD, STRICT), source="192.0.2.9", target="10.0.0.2:8080"
    ),
    "a NetworkPolicy of other clients": Fault(Reason.NETWORK_POLICY, (*GOOD, NETPOL)),
    "a NetworkPolicy without 15008": Fault(Reason.NETWORK_POLICY, (*GOOD, NETPOL_WITHOUT_HBONE)),
    "a policy that has not come": Fault(
        Reason.POLICY_MISSING, change=with_workload("web", authorization_policies=("prod/gone",)), allowed=True
    ),
    "the client is not captured": Fault(
        Reason.NOT_CAPTURED, change=with_host(captured=()), target="10.0.0.2:8080", allowed=True
    ),
    "the client is not captured, STRICT": Fault(
        Reason.NOT_CAPTURED, (*GOOD, STRICT), with_host(captured=()), target="10.0.0.2:8080"
    ),
    "the client is not captured, a VIP": Fault(Reason.NOT_CAPTURED, change=with_host(captured=())),
    "the client opted out": Fault(
        Reason.NOT_CAPTURED,
        (*GOOD, STRICT),
        opted_out,
        target="10.0.0.2:8080",
    ),
    "the client opted out on its host": Fault(
        Reason.NOT_CAPTURED,
        (*GOOD, STRICT),
        lambda seen: with_workload("sleep", protocol=Protocol.TCP)(
            with_host(captured=(replace(HOST.captured[0], capture="opted out"),))(seen)
        ),
        target="10.0.0.2:8080",
    ),
    "the drop-in is missing": Fault(
        Reason.CAPTURE_INCOMPLETE, change=with_host(captured=(replace(HOST.captured[0], capture="drop-in missing"),))
    ),
    "the client is not registered": Fault(Reason.SOURCE_UNKNOWN, (WEB_ENTRY, SERVICE)),
    "registered on another node": Fault(Reason.SOURCE_UNKNOWN, change=with_workload("sleep", node="app9")),
    "registered with another account": Fault(
        Reason.SOURCE_UNKNOWN, change=with_workload("sleep", service_account="other")
    ),
    "the agent is not enrolled": Fault(
        Reason.AGENT_NOT_READY, change=with_host(pending=("certificates", "enrolment"), error="TOKEN_EXPIRED")
    ),
    "the client's agent is silent, as the control plane says": Fault(
        Reason.AGENT_NOT_READY,
        change=lambda w: replace(w, host=None, certificates=None, gone={"app1": NOW - 600}),
        allowed=True,
    ),
    "the CA refuses the workload": Fault(
        Reason.CERTIFICATE_MISSING, change=with_certificate(CertificateView("Unavailable: not registered on app1"))
    ),
    "no certificate came yet": Fault(Reason.CERTIFICATE_MISSING, change=lambda w: replace(w, certificates={})),
    "expired certificate": Fault(
        Reason.CERTIFICATE_EXPIRED, change=with_certificate(CertificateView("Available", NOW - 100, NOW - 10))
    ),
    "the clock is behind": Fault(
        Reason.CLOCK_SKEW, change=with_certificate(CertificateView("Available", NOW + 500, NOW + 5000))
    ),
    "the clock is ahead": Fault(
        Reason.CLOCK_SKEW,
        change=with_certificate(
            CertificateView(
                "Available", NOW - 100, NOW - 10, "this host's clock is 99999 s ahead of the control plane's"
            )
        ),
    ),
    "renewal fails, the old one is good": Fault(
        Reason.CERTIFICATE_MISSING,
        change=with_certificate(CertificateView("Available", NOW - 100, NOW + 10, "the CA does not answer")),
        allowed=True,
    ),
    "the client is revoked": Fault(Reason.CERTIFICATE_REVOKED, change=lambda w: replace(w, revoked=frozenset({SLEEP}))),
    "the server is revoked": Fault(Reason.CERTIFICATE_REVOKED, change=lambda w: replace(w, revoked=frozenset({WEB}))),
    "wrong trust domain": Fault(
        Reason.TRUST_DOMAIN_MISMATCH, change=with_workload("web", trust_domain="other.example")
    ),
    "a misspelt name": Fault(Reason.NAME_UNKNOWN, target="wbe.prod.svc.cluster.local:80"),
    "a port that the service has not": Fault(Reason.PORT_UNKNOWN, target="web.prod.svc.cluster.local:81"),
    "a selector that selects nobody": Fault(
        Reason.NO_ENDPOINT, (SLEEP_ENTRY, WEB_ENTRY, SERVICE.replace("{app: web}", "{app: wbe}"))
    ),
    "an unhealthy endpoint": Fault(
        Reason.NO_HEALTHY_ENDPOINT, change=with_workload("web", status=HealthStatus.UNHEALTHY)
    ),
    "two workloads on one port": Fault(Reason.AMBIGUOUS_ADDRESS, change=with_twin, target="10.0.0.2:8080"),
    "a waypoint that is not there": Fault(
        Reason.WAYPOINT_UNKNOWN, change=with_workload("web", waypoint=WAYPOINT), target="10.0.0.2:8080"
    ),
    "a workload on another network": Fault(
        Reason.NO_ADDRESS, change=with_workload("web", network="other"), target="web.prod.svc.cluster.local:80"
    ),
    "15008 filtered": Fault(Reason.HBONE_BLOCKED, reach=Reach.SILENT),
    "no agent on the server's host": Fault(Reason.HBONE_REFUSED, reach=Reach.REFUSED),
    "the server opted out and does not listen": Fault(
        Reason.APPLICATION_REFUSED, change=with_workload("web", protocol=Protocol.TCP), reach=Reach.REFUSED
    ),
    "the server opted out": Fault(Reason.PLAINTEXT, change=with_workload("web", protocol=Protocol.TCP), allowed=True),
    "a loop into the proxy": Fault(Reason.RECURSIVE_CALL, target="10.0.0.1:15001"),
    "a destination outside": Fault(Reason.PASSTHROUGH, target="198.51.100.7:443", allowed=True),
}


def seeded(fault: Fault) -> Explanation:
    host, _, port = fault.target.rpartition(":")
    seen = fault.change(world(*fault.documents))
    return explain(seen, fault.source, host, int(port), NOW, lambda _: fault.reach)


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_is_named(name: str) -> None:
    """By its reason, and rightly as allowed or not."""
    fault = FAULTS[name]
    found = seeded(fault)
    assert (found.reason, found.allowed) == (fault.reason, fault.allowed), found.steps


def texts(found: Explanation, about: str) -> list[str]:
    return [step.text for step in found.steps if step.about == about]


def test_every_policy_is_shown_with_its_rule_and_place() -> None:
    """And the deciding one at the end."""
    found = seeded(FAULTS["wrong service account"])
    assert texts(found, "policy") == [
        "ALLOW prod/p (doc3.yaml:1) does not match: from principal cluster.local/ns/prod/sa/batch",
        "refused: allow policies exist, but none allowed (prod/p at doc3.yaml:1)",
    ]


def test_the_way_is_told_from_the_name_to_the_tunnel() -> None:
    """Capture, name and address, next hop and why."""
    found = seeded(FAULTS["nothing is wrong"])
    assert texts(found, "capture") == ["prod/sleep (sleep.service) is captured on app1"]
    assert texts(found, "name")[0].startswith("web.prod.svc.cluster.local is service prod/web.prod.svc.cluster.local")
    assert texts(found, "route") == [
        "prod/web speaks HBONE and has no waypoint: HBONE to 10.0.0.2:15008, CONNECT 10.0.0.2:8080"
    ]
    assert texts(found, "identity") == ["spiffe://cluster.local/ns/prod/sa/sleep, valid for another 1.0 h"]
    assert texts(found, "policy") == ["allowed: no allow policies exist"]


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({}, "its probe fails, or its host has not been heard of"),
        ({"unhealthy": {"prod/web": "port 8080 does not answer"}}, "port 8080 does not answer"),
        ({"gone": {"app2": NOW - 60}}, "the agent of app2 has not been heard of"),
    ],
)
def test_who_is_not_in_rotation_is_named_with_why(known: dict[str, Mapping[str, object]], why: str) -> None:
    """As far as it is known where one asks."""
    sick = with_workload("web", status=HealthStatus.UNHEALTHY)(replace(world(*GOOD), **known))  # type: ignore[arg-type]
    found = explain(sick, "prod/sleep", "web", 80, NOW)
    assert texts(found, "endpoint")[0].startswith(f"prod/web is not in rotation: {why}")


def test_what_is_probed_is_the_next_hop() -> None:
    """Port 15008 of the workload's address."""
    tried: list[SocketAddress] = []

    def probe(address: SocketAddress) -> Reach:
        tried.append(address)
        return Reach.OPEN

    explain(world(*GOOD), "prod/sleep", "web", 80, NOW, probe)
    assert list(map(str, tried)) == ["10.0.0.2:15008"]


@pytest.mark.parametrize("word", ["prod/sleep", "sleep", "sleep.prod", "sleep.service", str(SLEEP), "10.0.0.1"])
def test_a_source_has_many_names(word: str) -> None:
    """Whatever somebody has at hand."""
    assert explain(world(*GOOD), word, "web", 80, NOW).allowed


@pytest.mark.parametrize("word", ["web", "web.prod", "web.prod.svc", "prod/web", "web.prod.svc.cluster.local"])
def test_a_service_has_the_names_that_clients_use(word: str) -> None:
    """Short ones are of the client's namespace."""
    assert explain(world(*GOOD), "prod/sleep", word, 80, NOW).reason is Reason.MUTUAL_TLS


def test_a_stranger_means_the_only_service_of_a_name() -> None:
    """He has no namespace that would tell which one."""
    found = explain(world(*GOOD), "192.0.2.9", "web", 80, NOW)
    assert found.reason is Reason.NOT_CAPTURED
    assert "leads nowhere without capture" in texts(found, "route")[0]


def test_nobody_is_said_with_who_there_is() -> None:
    """A misspelt source is the user's mistake, not an answer."""
    with pytest.raises(NotUnderstood, match="no workload, unit or address 'slep'; known are prod/sleep, prod/web"):
        explain(world(*GOOD), "slep", "web", 80, NOW)


def test_several_are_not_guessed_between() -> None:
    """The same name in two namespaces."""
    other = SLEEP_ENTRY.replace("namespace: prod", "namespace: test").replace("10.0.0.1", "10.0.0.9")
    seen = replace(world(*GOOD, other), host=None)
    with pytest.raises(NotUnderstood, match="could be prod/sleep, test/sleep"):
        explain(seen, "sleep", "web", 80, NOW)


def test_dry_run_is_shown_and_does_not_count() -> None:
    """As the proxy judges it."""
    audit = DENY.replace("namespace: prod", "namespace: prod, annotations: {istio.io/dry-run: 'true'}")
    found = seeded(Fault(Reason.MUTUAL_TLS, (*GOOD, audit)))
    assert found.allowed
    assert "dry-run: deny policy match: prod/p" in texts(found, "policy")


def test_a_waypoint_decides_by_itself() -> None:
    """What it enforces is not known here."""
    gate = Workload(
        "gate",
        "gate",
        "prod",
        (SocketAddress.parse("10.0.0.3:1").ip,),
        protocol=Protocol.HBONE,
        hostname="gate.prod.svc",
    )

    def change(before: World) -> World:
        before.state.upsert_workload(gate)
        return with_workload("web", waypoint=WAYPOINT)(before)

    found = seeded(Fault(Reason.THROUGH_WAYPOINT, (*GOOD, DENY), change, target="10.0.0.2:8080"))
    assert (found.reason, found.allowed) == (Reason.THROUGH_WAYPOINT, True)
    stopped = seeded(Fault(Reason.WAYPOINT_UNHEALTHY, GOOD, change, target="10.0.0.2:8080", reach=Reach.REFUSED))
    assert (stopped.reason, stopped.allowed) == (Reason.WAYPOINT_UNHEALTHY, False)


def test_a_stranger_is_judged_by_the_workload_that_has_the_port() -> None:
    """Several workloads may share an address; and what is let in without a certificate is not called mutual TLS."""
    neighbour = document(
        "WorkloadEntry",
        "address: 10.0.0.2\nserviceAccount: batch\nports: {http: 8081}",
        "name: batch, namespace: prod, labels: {hostmesh.io/node: app2, app: batch}",
    )
    only_web = policy("selector: {matchLabels: {app: web}}\nrules: [{from: [{source: {principals: ['*']}}]}]")
    second = document(
        "Service",
        "selector: {app: batch}\nports: [{name: http, port: 81, targetPort: 8081}]",
        "name: b, namespace: prod",
    )
    shared = world(*GOOD, neighbour, second, only_web)
    found = explain(shared, "192.0.2.9", "10.0.0.2", 8080, NOW)
    assert (found.allowed, found.reason) == (False, Reason.POLICY_NOT_ALLOWED)
    for destination in ("10.0.0.2", "prod/batch"):
        found = explain(shared, "192.0.2.9", destination, 8081, NOW)
        assert (found.allowed, found.reason) == (True, Reason.PLAINTEXT)
