"""Who uses which waypoint, and what the waypoint is told: by documents, as a user writes them."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import Translation, translate
from hostmesh.model.waypoint import AppProtocol, Backend, ExtAuthz, JwtRule, L7Action, L7Rule, PathKind, WaypointProgram

GATEWAY = document(
    "Gateway", "gatewayClassName: istio-waypoint\nlisteners: [{name: mesh, port: 15008, protocol: HBONE}]", "name: wp"
)
FOR_ALL = GATEWAY.replace("name: wp}", "name: wp, labels: {istio.io/waypoint-for: all}}")
INSTANCE = document(
    "WorkloadEntry",
    "address: 10.0.0.9\nserviceAccount: wp",
    "name: wp1, labels: {hostmesh.io/node: n9, gateway.networking.k8s.io/gateway-name: wp}",
)
WEB = document(
    "WorkloadEntry",
    "address: 10.0.0.1\nserviceAccount: web\nports: {http: 8080}",
    "name: web1, labels: {hostmesh.io/node: n1, app: web}",
)
USES = "labels: {istio.io/use-waypoint: wp}"
SERVICE = document(
    "Service", "selector: {app: web}\nclusterIP: 10.96.0.1\nports: [{port: 80, name: http, targetPort: 8080}]",
    f"name: web, {USES}",
)  # fmt: skip
HOST = "web.default.svc.cluster.local"


def told(*texts: str) -> Translation:
    return translate(objects(*texts), MeshConfig())


def program(*texts: str) -> WaypointProgram:
    (made,) = told(*texts).waypoints
    return made


def test_a_service_is_sent_to_the_host_that_runs_its_waypoint() -> None:
    """And the waypoint is told the endpoints with their identities, by the ports of the workloads."""
    found = told(GATEWAY, INSTANCE, WEB, SERVICE)
    (service,) = found.services
    assert str(service.waypoint) == "/10.0.0.9:15008"
    assert {workload.name: workload.waypoint for workload in found.workloads} == {"web1": None, "wp1": None}
    (made,) = found.waypoints
    (served,) = made.services
    (port,) = served.ports
    assert (served.hostname, served.vips, port.port, port.protocol) == (HOST, ("10.96.0.1",), 80, AppProtocol.HTTP)
    (endpoint,) = port.endpoints
    assert (endpoint.authority, endpoint.identity) == ("10.0.0.1:8080", "spiffe://cluster.local/ns/default/sa/web")
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ((INSTANCE, WEB, SERVICE), "there is no waypoint default/wp"),
        ((GATEWAY, WEB, SERVICE), "the waypoint default/wp has no address yet"),
        (
            (GATEWAY.replace("name: wp}", "name: wp, labels: {istio.io/waypoint-for: workload}}"), INSTANCE, SERVICE),
            "the waypoint default/wp is for workload, not for service",
        ),
        (
            (
                GATEWAY.replace("name: wp}", "name: wp, namespace: infra}"),
                INSTANCE.replace("name: wp1", "name: wp1, namespace: infra"),
                SERVICE.replace(USES, "labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra}"),
            ),
            "the waypoint infra/wp does not admit the namespace default (allowedRoutes)",
        ),
    ],
)
def test_what_cannot_be_attached_is_refused_and_not_left_without(texts: tuple[str, ...], why: str) -> None:
    """It is sent to a name that belongs to nobody, and the author is told."""
    found = told(*texts)
    (service,) = [one for one in found.services if one.hostname == HOST]
    assert "waypoint.hostmesh.internal" in str(service.waypoint)
    assert any(why in str(warning) for warning in found.warnings)


def test_a_namespace_speaks_for_its_objects_which_may_opt_out() -> None:
    """The waypoint itself is not sent through itself."""
    namespace = document("Namespace", "", f"name: default, {USES}")
    other = SERVICE.replace(f"name: web, {USES}", "name: other, labels: {istio.io/use-waypoint: none}")
    found = told(namespace, FOR_ALL, INSTANCE, WEB, SERVICE.replace(f", {USES}", ""), other)
    assert {one.name: one.waypoint is not None for one in found.services} == {"web": True, "other": False}
    assert {one.name: one.waypoint is not None for one in found.workloads} == {"web1": True, "wp1": False}
    (made,) = found.waypoints
    assert [one.address for one in made.workloads] == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("gateway", "why"),
    [
        ("", "there is no waypoint infra/wp"),
        (FOR_ALL, "the waypoint infra/wp does not admit the namespace default (allowedRoutes)"),
        (
            FOR_ALL.replace("protocol: HBONE", "protocol: HBONE, allowedRoutes: {namespaces: {from: All}}"),
            "the waypoint infra/wp has no address yet",
        ),
    ],
)
def test_a_namespace_that_cannot_use_its_waypoint_is_told_once(gateway: str, why: str) -> None:
    """Everything in it is refused, so its author must hear of it."""
    labels = "labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra}"
    texts = [document("Namespace", "", f"name: default, {labels}"), WEB, SERVICE.replace(f", {USES}", "")]
    if gateway:
        texts.append(gateway.replace("name: wp,", "name: wp, namespace: infra,"))
    found = told(*texts)
    assert ["waypoint.hostmesh.internal" in str(one.waypoint) for one in found.services] == [True]
    (warning,) = found.warnings
    assert why in str(warning)


ROUTE = document(
    "HTTPRoute",
    """
    parentRefs: [{group: "", kind: Service, name: web}]
    rules:
    - matches: [{path: {value: /api}}, {path: {type: Exact, value: /}}]
      backendRefs: [{name: web, port: 80, weight: 9}, {name: gone, port: 80}]
    - matches: [{path: {value: /api/v2}, headers: [{name: x, value: y}]}]
      backendRefs: [{name: web, port: 80}]
    """,
    "name: echo",
)


def test_routes_come_in_the_order_in_which_they_are_tried() -> None:
    """Exact before prefixes, long prefixes before short ones; a backend that is not there is named."""
    found = told(GATEWAY, INSTANCE, WEB, SERVICE, ROUTE)
    (made,) = found.waypoints
    routes = made.services[0].ports[0].routes
    assert [(route.match.path_kind, route.match.path) for route in routes] == [
        (PathKind.EXACT, "/"),
        (PathKind.PREFIX, "/api/v2"),
        (PathKind.PREFIX, "/api"),
    ]
    assert routes[2].backends == (Backend(HOST, 80, 9), Backend("", 80, 1))
    (said,) = found.warnings
    where = "doc4.yaml:8: spec.rules[0].backendRefs[1].name"
    assert str(said) == f"{where}: backend(gone) not found: its share of the requests is answered with 500"


def test_policies_with_target_refs_go_to_the_waypoint_and_others_do_not() -> None:
    """A service's to that service, a Gateway's to all that it serves."""
    one = document(
        "AuthorizationPolicy",
        "targetRefs: [{group: '', kind: Service, name: web}]\naction: DENY\n"
        "rules: [{to: [{operation: {methods: [POST]}}]}]",
        "name: one",
    )
    gate = document(
        "AuthorizationPolicy",
        "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]\nrules: [{}]",
        "name: gate",
    )
    plain = document("AuthorizationPolicy", "rules: [{}]", "name: plain")
    made = program(GATEWAY, INSTANCE, WEB, SERVICE, one, gate, plain)
    assert {policy.name: (policy.action, policy.hostnames) for policy in made.policies} == {
        "one": (L7Action.DENY, (HOST,)),
        "gate": (L7Action.ALLOW, ()),
    }
    assert made.policies[1].rules[0].operations == ({"methods": ("POST",)},)


def test_nothing_of_a_rule_is_lost_on_the_way_to_the_waypoint() -> None:
    """Callers, operations and conditions with both of their lists: one that vanished would widen an ALLOW."""
    policy = document(
        "AuthorizationPolicy",
        "targetRefs: [{group: '', kind: Service, name: web}]\nrules:\n"
        "- from: [{source: {requestPrincipals: [i/s], notRemoteIpBlocks: [10.0.0.0/8]}}]\n"
        "  to: [{operation: {methods: [GET], notPaths: [/a]}}]\n"
        "  when: [{key: 'request.headers[x]', values: [a], notValues: [b]}]\n"
        "- when: [{key: 'request.auth.claims[g]', notValues: [c]}]",
        "name: p, annotations: {istio.io/dry-run: 'true'}",
    )
    (made,) = program(GATEWAY, INSTANCE, WEB, SERVICE, policy).policies
    assert made.dry_run
    assert made.rules == (
        L7Rule(
            ({"requestPrincipals": ("i/s",), "notRemoteIpBlocks": ("10.0.0.0/8",)},),
            ({"methods": ("GET",), "notPaths": ("/a",)},),
            (("request.headers[x]", ("a",), ("b",)),),
        ),
        L7Rule((), (), (("request.auth.claims[g]", (), ("c",)),)),
    )


def test_nothing_of_a_token_rule_is_lost_on_the_way_to_the_waypoint() -> None:
    """Every field arrives; what is left out has Istio's default."""
    point = '"x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"'
    keys = f'{{"keys": [{{"kty": "EC", "crv": "P-256", {point}}}]}}'
    whole = (
        f"{{issuer: i, audiences: [a], jwks: '{keys}', fromHeaders: [{{name: h, prefix: 'p '}}], fromParams: [q],"
        " fromCookies: [c], outputPayloadToHeader: o, forwardOriginalToken: true, timeout: 2s,"
        " outputClaimToHeaders: [{header: x-c, claim: c}], spaceDelimitedClaims: [s]}"
    )
    target = "targetRefs: [{group: '', kind: Service, name: web}]"
    for rule, wanted in (
        (
            whole,
            JwtRule("i", ("a",), keys, "", (("h", "p "),), ("q",), ("c",), "o", True, (("x-c", "c"),), ("s",), 2),
        ),
        ("{issuer: j, jwksUri: 'https://keys.example/k'}", JwtRule("j", jwks_uri="https://keys.example/k", timeout=5)),
    ):
        item = document("RequestAuthentication", f"{target}\njwtRules:\n- {rule}", "name: r")
        (made,) = program(GATEWAY, INSTANCE, WEB, SERVICE, item).authentications
        assert (made.rules, made.hostnames) == ((wanted,), (HOST,))


def test_a_policy_of_one_waypoint_is_not_that_of_another() -> None:
    """A Gateway as a target means itself, in the policy's own namespace."""
    policy = document(
        "AuthorizationPolicy",
        "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]\nrules: [{}]",
        "name: gate",
    )
    names = ("name: wp}", "name: wq}"), ("name: wp}", "name: wp, namespace: infra}")
    others = [GATEWAY.replace(*name) for name in names]
    found = told(GATEWAY, INSTANCE, WEB, SERVICE, policy, *others)
    assert {(one.namespace, one.name): len(one.policies) for one in found.waypoints} == {
        ("default", "wp"): 1,
        ("default", "wq"): 0,
        ("infra", "wp"): 0,
    }
    assert [str(one) for one in found.warnings if "no waypoint default/wp" in str(one)] == []


def test_a_target_that_leads_to_no_waypoint_is_told() -> None:
    """The policy has no effect there; who asked for it believes that it has."""
    targets = (
        "{group: '', kind: Service, name: web}",
        "{group: '', kind: Service, name: gone}",
        "{group: gateway.networking.k8s.io, kind: Gateway, name: wq}",
        "{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}",
    )
    policy = document("AuthorizationPolicy", f"targetRefs: [{', '.join(targets)}]", "name: p")
    tokens = document("RequestAuthentication", f"targetRefs: [{targets[1]}]", "name: p")
    said = [str(warning) for warning in told(GATEWAY, INSTANCE, WEB, SERVICE, policy, tokens).warnings]
    nowhere = "there is no Service default/gone that uses a waypoint: the policy has no effect there"
    assert said == [
        f"doc4.yaml:5: spec.targetRefs[1].name: {nowhere}",
        "doc4.yaml:5: spec.targetRefs[2].name: there is no waypoint default/wq: the policy has no effect there",
        (
            "doc4.yaml:5: spec.targetRefs[3].name: only policies of the namespace istio-system may be for all "
            "waypoints: the policy has no effect there"
        ),
        f"doc5.yaml:5: spec.targetRefs[0].name: {nowhere}",
    ]


@pytest.mark.parametrize(
    ("kind", "parent", "why"),
    [
        (
            "HTTPRoute",
            "group: core, kind: Service, name: gone",
            "there is no Service default/gone that uses a waypoint",
        ),
        ("GRPCRoute", "group: core, kind: Service, name: web, port: 81", "Service default/web has no port 81"),
        (
            "GRPCRoute",
            "group: core, kind: Service, name: web, sectionName: tcp",
            "Service default/web has no port 'tcp'",
        ),
        ("TCPRoute", "group: core, kind: Service, name: web", "Service default/web speaks HTTP there"),
        (
            "HTTPRoute",
            "kind: ServiceEntry, group: networking.istio.io, name: web",
            "there is no ServiceEntry default/web that uses a waypoint",
        ),
    ],
)
def test_a_route_that_is_attached_to_nothing_is_told(kind: str, parent: str, why: str) -> None:
    """It has no effect; who wrote it believes that it has."""
    spec = f"parentRefs: [{{{parent}}}]\nrules: [{{backendRefs: [{{name: web, port: 80}}]}}]"
    found = told(GATEWAY, INSTANCE, WEB, SERVICE, document(kind, spec, "name: r"))
    assert [str(warning) for warning in found.warnings] == [
        f"doc4.yaml:5: spec.parentRefs[0].name: {why}: the route has no effect there"
    ]
    (port,) = found.waypoints[0].services[0].ports
    assert (port.routes, port.tcp_backends) == ((), ())


def test_routes_of_the_waypoints_namespace_count_and_those_of_a_client_do_not() -> None:
    """As in Istio: the service's owner and the waypoint's decide, not its callers."""
    gateway = GATEWAY.replace("name: wp}", "name: wp, namespace: infra}").replace(
        "protocol: HBONE", "protocol: HBONE, allowedRoutes: {namespaces: {from: All}}"
    )
    instance = INSTANCE.replace("name: wp1", "name: wp1, namespace: infra")
    service = SERVICE.replace(USES, "labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra}")
    spec = "parentRefs: [{group: '', kind: Service, name: web, namespace: default}]"
    for namespace, count in (("infra", 1), ("default", 1), ("client", 0)):
        route = document(
            "HTTPRoute",
            f"{spec}\nrules: [{{backendRefs: [{{name: web, namespace: default, port: 80}}]}}]",
            f"name: r, namespace: {namespace}",
        )
        found = told(gateway, instance, WEB, service, route)
        assert len(found.waypoints[0].services[0].ports[0].routes) == count
        assert bool(found.warnings) is (count == 0)


CUSTOM = document(
    "AuthorizationPolicy",
    "targetRefs: [{group: '', kind: Service, name: web}]\naction: CUSTOM\nprovider: {name: opq}\nrules: [{}]",
    "name: ask",
)


def test_an_authorizer_that_is_not_configured_lets_nothing_pass() -> None:
    """As in Istio what it would have to decide is denied; here the author is told."""
    documents = objects(GATEWAY, INSTANCE, WEB, SERVICE, CUSTOM)
    for providers, action in ((("opa",), L7Action.DENY), (("opa", "opq"), L7Action.CUSTOM)):
        mesh = MeshConfig(authorizers=tuple(ExtAuthz(name, "10.0.0.7", 80) for name in providers))
        found = translate(documents, mesh)
        assert [policy.action for policy in found.waypoints[0].policies] == [action]
        said = [str(warning).partition(": what")[0] for warning in found.warnings]
        where = "doc4.yaml:7: spec.provider.name: the control plane has no extensionProvider 'opq'"
        assert said == ([where] if action is L7Action.DENY else [])
    assert translate(documents, MeshConfig()).warnings == ()


def test_a_policy_that_asks_nobody_needs_no_authorizer() -> None:
    """Whatever authorizers there are."""
    policy = document(
        "AuthorizationPolicy", "targetRefs: [{group: '', kind: Service, name: web}]\nrules: [{}]", "name: p"
    )
    mesh = MeshConfig(authorizers=(ExtAuthz("opa", "10.0.0.7", 80),))
    found = translate(objects(GATEWAY, INSTANCE, WEB, SERVICE, policy), mesh)
    assert [one.action for one in found.waypoints[0].policies] == [L7Action.ALLOW]
    assert found.warnings == ()


def test_a_route_to_a_service_behind_no_waypoint_leads_there() -> None:
    """The service is known to the waypoint, but not served by it."""
    other = SERVICE.replace(f"name: web, {USES}", "name: other").replace("10.96.0.1", "10.96.0.2")
    route = ROUTE.replace("name: gone", "name: other")
    made = program(GATEWAY, INSTANCE, WEB, SERVICE, other, route)
    assert {one.hostname.partition(".")[0]: one.served for one in made.services} == {"web": True, "other": False}


def test_workloads_that_share_an_address_are_not_told_apart_by_it() -> None:
    """The first one counts; a second one would break the whole configuration, so its author is told instead."""
    first = WEB.replace("app: web}", f"app: web, {USES.removeprefix('labels: {')}")
    second = first.replace("name: web1", "name: web2").replace("8080", "8081")
    found = told(FOR_ALL, INSTANCE, first, second)
    (made,) = found.waypoints
    assert [one.workload for one in made.workloads] == ["web1"]
    assert "default/web1 uses the same waypoint at this address" in str(found.warnings[0])


@pytest.mark.parametrize(
    ("kind", "spec"), [("Telemetry", ""), ("WasmPlugin", "\nurl: /x.wasm")], ids=["Telemetry", "WasmPlugin"]
)
def test_targets_of_all_kinds_must_be_there(kind: str, spec: str) -> None:
    """What is attached to nothing does nothing, and its author is told."""
    text = document(kind, "targetRefs: [{group: '', kind: Service, name: wbe}]" + spec)
    (warning,) = told(GATEWAY, INSTANCE, WEB, SERVICE, text).warnings
    assert "there is no Service default/wbe that uses a waypoint" in str(warning)


OTHER_WAYPOINT = (
    GATEWAY.replace("name: wp}", "name: new}"),
    INSTANCE.replace("wp", "new").replace("10.0.0.9", "10.0.0.8"),
)
WITH_CANARY = SERVICE.replace(
    USES,
    "labels: {istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: new}, "
    "annotations: {istio.io/use-waypoint-canary-weight: '10'}",
)


def test_a_canary_gets_its_share() -> None:
    """Both waypoints are told the service; who does not know weights goes through the first."""
    found = told(GATEWAY, INSTANCE, *OTHER_WAYPOINT, WEB, WITH_CANARY)
    (service,) = found.services
    assert str(service.waypoint) == "/10.0.0.9:15008"
    weights = [(str(way.destination), way.weight) for way in service.weighted_waypoints]
    assert weights == [("/10.0.0.9:15008", 90), ("/10.0.0.8:15008", 10)]
    assert {made.name: [one.hostname for one in made.services] for made in found.waypoints} == {
        "new": [HOST],
        "wp": [HOST],
    }
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("'10'", "'101'", "is '101', not a number from 0 to 100"),
        ("'10'", "ten", "is 'ten', not a number from 0 to 100"),
        ("'10'", f"'{'1' * 5000}'", "11', not a number from 0 to 100"),
        ("canary: new", "canary: wp", "wp is the waypoint itself"),
        ("canary: new", "canary: old", "there is no waypoint default/old"),
    ],
)
def test_a_canary_that_cannot_be_gets_nothing(old: str, new: str, why: str) -> None:
    """Everything goes through the waypoint itself, and the author is told."""
    found = told(GATEWAY, INSTANCE, *OTHER_WAYPOINT, WEB, WITH_CANARY.replace(old, new))
    (service,) = found.services
    assert (str(service.waypoint), service.weighted_waypoints) == ("/10.0.0.9:15008", ())
    (warning,) = found.warnings
    assert why in str(warning)
