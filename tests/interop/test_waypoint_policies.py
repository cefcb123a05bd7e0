"""AuthorizationPolicies as users write them, at a real Envoy: their order, their fields, what they hold for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support.authorizer import http_authorizer
from tests.support.behind_waypoint import GATEWAY, USES, Services, services
from tests.support.documents import document
from tests.support.pki import ALICE
from tests.support.proxy import App, echo, fresh_ip

from hostmesh.model.identity import Identity
from hostmesh.model.waypoint import ExtAuthz

pytestmark = pytest.mark.interop

CAROL = Identity("cluster.local", "shop", "carol")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Services]:
    with services(tmp_path) as made:
        yield made


def policy(name: str, target: str, action: str, rules: str, metadata: str = "") -> str:
    provider = "\nprovider: {name: gate}" if action == "CUSTOM" else ""
    spec = f"targetRefs: [{{{target}}}]\naction: {action}{provider}" + (f"\nrules: {rules}" if rules else "")
    return document("AuthorizationPolicy", spec, f"name: {name}{metadata}")


def of(service: str) -> str:
    return f"group: '', kind: Service, name: {service}"


@dataclass(frozen=True, slots=True)
class Case:
    """Policies of one service, and what becomes of GET of somebody whom the authorizer lets in, or does not."""

    policies: tuple[str, ...]
    let_in: int
    not_let_in: int


HIT = "[{to: [{operation: {methods: [GET]}}]}]"
MISS = "[{to: [{operation: {methods: [PUT]}}]}]"
ORDER = {
    "nothing": Case((), 200, 200),
    "allow": Case((f"ALLOW {HIT}",), 200, 200),
    "allow-other": Case((f"ALLOW {MISS}",), 403, 403),
    "allow-nothing": Case(("ALLOW ",), 403, 403),
    "one-of-two-allows": Case((f"ALLOW {MISS}", f"ALLOW {HIT}"), 200, 200),
    "deny": Case((f"DENY {HIT}",), 403, 403),
    "deny-other": Case((f"DENY {MISS}",), 200, 200),
    "deny-before-allow": Case((f"ALLOW {HIT}", f"DENY {HIT}"), 403, 403),
    "deny-other-allow": Case((f"ALLOW {HIT}", f"DENY {MISS}"), 200, 200),
    "audit": Case((f"AUDIT {HIT}",), 200, 200),
    "audit-other": Case((f"AUDIT {MISS}",), 200, 200),
    "audit-and-deny": Case((f"AUDIT {HIT}", f"DENY {HIT}"), 403, 403),
    "audit-is-no-allow": Case((f"AUDIT {HIT}", f"ALLOW {MISS}"), 403, 403),
    "custom": Case((f"CUSTOM {HIT}",), 200, 403),
    "custom-other": Case((f"CUSTOM {MISS}",), 200, 200),
    "custom-and-allow": Case((f"CUSTOM {HIT}", f"ALLOW {HIT}"), 200, 403),
    "custom-does-not-allow": Case((f"CUSTOM {HIT}", f"ALLOW {MISS}"), 403, 403),
    "custom-and-deny": Case((f"CUSTOM {HIT}", f"DENY {HIT}"), 403, 403),
    "dry-deny": Case((f"DRY-DENY {HIT}",), 200, 200),
    "dry-allow": Case((f"DRY-ALLOW {MISS}",), 200, 200),
    "dry-deny-and-allow": Case((f"DRY-DENY {HIT}", f"ALLOW {HIT}"), 200, 200),
}


def written(service: str, number: int, text: str) -> str:
    action, _, rules = text.partition(" ")
    dry = ", annotations: {istio.io/dry-run: 'true'}" if action.startswith("DRY-") else ""
    return policy(f"{service}-{number}", of(service), action.removeprefix("DRY-"), rules, dry)


def test_order(mesh: Services) -> None:
    """CUSTOM, AUDIT, DENY, ALLOW; none of them lets pass what a later one refuses, and a dry run refuses nothing."""
    for name in ORDER:
        mesh.http(name)
    policies = [written(name, i, text) for name, case in ORDER.items() for i, text in enumerate(case.policies)]
    with http_authorizer(fresh_ip()) as authorizer:
        gate = ExtAuthz("gate", authorizer.ip, authorizer.port, include_headers=("x-let",))
        mesh.config = replace(mesh.config, authorizers=(gate,))
        with mesh.waypoint(*policies) as front:
            found = {
                name: Case(case.policies, front.ask(name, "GET /", "x-let: me-in").status, front.ask(name).status)
                for name, case in ORDER.items()
            }
            assert found == ORDER


GATE = "group: gateway.networking.k8s.io, kind: Gateway, name: wp"
CLASS = "group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint"
NO_POST = "[{to: [{operation: {methods: [POST]}}]}]"
NO_PUT = "[{to: [{operation: {methods: [PUT]}}]}]"
NO_DELETE = "[{to: [{operation: {methods: [DELETE]}}]}]"
NO_PATCH = "[{to: [{operation: {methods: [PATCH]}}]}]"


def test_what_a_policy_is_attached_to(mesh: Services) -> None:
    """A service, a ServiceEntry, a waypoint, all waypoints (by the root namespace); selectors mean agents."""
    mesh.http("one")
    mesh.http("two")
    entry = document(
        "ServiceEntry",
        "hosts: [three.example]\naddresses: [10.97.0.3]\nports: [{number: 80, name: http, protocol: HTTP}]\n"
        "resolution: STATIC\nworkloadSelector: {labels: {app: one}}",
        f"name: three, {USES}",
    )
    mesh.vips["three"] = "10.97.0.3"
    policies = (
        policy("service", of("one"), "DENY", NO_POST),
        policy("entry", "group: networking.istio.io, kind: ServiceEntry, name: three", "DENY", NO_PUT),
        policy("gate", GATE, "DENY", NO_DELETE),
        policy("all", CLASS, "DENY", NO_PATCH, ", namespace: istio-system"),
        policy("not-root", CLASS, "DENY", "[{}]"),
        policy("not-here", of("two"), "DENY", "[{}]", ", namespace: shop"),
        document(
            "AuthorizationPolicy", "selector: {matchLabels: {app: two}}\naction: DENY\nrules: [{}]", "name: agents"
        ),
    )
    refused = {"one": {"POST", "DELETE", "PATCH"}, "two": {"DELETE", "PATCH"}, "three": {"PUT", "DELETE", "PATCH"}}
    with mesh.waypoint(entry, *policies) as front:
        methods = ("GET", "POST", "PUT", "DELETE", "PATCH")
        found = {
            service: {method for method in methods if front.ask(service, f"{method} /").status == 403}
            for service in refused
        }
        assert found == refused


ANYBODY = "from: [{source: {principals: ['*']}}]"
PUTS = "to: [{operation: {methods: [PUT]}}]"
WITH = "when: [{key: 'request.headers[x-a]', values: ['*']}]"
FIELDS = [
    # what a rule of an ALLOW says, requests that it takes, requests that it does not
    ("to: [{operation: {hosts: [shop.example]}}]", ["GET / shop.example"], ["GET / x.example", "GET / shop.example:8"]),
    ("to: [{operation: {hosts: ['*.example']}}]", ["GET / Shop.Example"], ["GET / shop.test"]),
    ("to: [{operation: {notHosts: [bad.test]}}]", ["GET / good.test"], ["GET / bad.test", "GET / BAD.test"]),
    ("to: [{operation: {paths: [/a]}}]", ["GET /a", "GET /a?q=1", "GET /b/../a"], ["GET /a/", "GET /A", "GET /"]),
    ("to: [{operation: {paths: ['/a*']}}]", ["GET /a", "GET /a/b", "GET /ab"], ["GET /b"]),
    ("to: [{operation: {paths: ['*.png']}}]", ["GET /x/y.png"], ["GET /y.png/z"]),
    ("to: [{operation: {paths: ['/u/{*}/x']}}]", ["GET /u/1/x"], ["GET /u/1/2/x", "GET /u/1/y"]),
    ("to: [{operation: {paths: ['/t/{**}']}}]", ["GET /t/1/2"], ["GET /u/1"]),
    ("to: [{operation: {notPaths: ['/private*']}}]", ["GET /x"], ["GET /private/x"]),
    ("to: [{operation: {methods: [GET]}}, {operation: {paths: [/up]}}]", ["GET /", "POST /up"], ["POST /"]),
    ("to: [{operation: {ports: ['80']}}]", ["GET /"], []),
    ("to: [{operation: {ports: ['81']}}]", [], ["GET /"]),
    ("to: [{operation: {notPorts: ['80']}}]", [], ["GET /"]),
    ("when: [{key: 'request.headers[x-a]', values: ['1', 'b*']}]", ["GET / x-a=1", "GET / x-a=bc"], ["GET / x-a=2"]),
    ("when: [{key: 'request.headers[x-a]', notValues: ['1']}]", ["GET / x-a=2", "GET /"], ["GET / x-a=1"]),
    ("from: [{source: {namespaces: [shop]}}]", ["GET / carol"], ["GET /"]),
    ("from: [{source: {notNamespaces: [shop]}}]", ["GET /"], ["GET / carol"]),
    ("from: [{source: {principals: ['*/sa/carol']}}]", ["GET / carol"], ["GET /"]),
    ("from: [{source: {serviceAccounts: [shop/carol]}}]", ["GET / carol"], ["GET /"]),
    ("from: [{source: {serviceAccounts: [alice]}}]", ["GET /"], ["GET / carol"]),
    ("from: [{source: {trustDomains: [cluster.local]}}]", ["GET /"], []),
    ("from: [{source: {ipBlocks: [127.0.0.0/8]}}]", ["GET /", "GET / x-forwarded-for=10.0.0.1"], []),
    ("from: [{source: {ipBlocks: [10.0.0.0/8]}}]", [], ["GET /", "GET / x-forwarded-for=10.0.0.1"]),
    ("from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]", [], ["GET /", "GET / x-forwarded-for=10.0.0.1"]),
    (f"{ANYBODY}\n  {PUTS}\n  {WITH}", ["PUT / x-a=1"], ["GET / x-a=1", "PUT /"]),
]  # fmt: skip


def test_fields(mesh: Services) -> None:
    """Each field of a rule: what it takes and what it does not, whatever a caller claims in headers."""
    policies = []
    for number, (rule, _, _) in enumerate(FIELDS):
        mesh.http(f"s{number}")
        policies.append(policy(f"p{number}", of(f"s{number}"), "ALLOW", f"\n- {rule}"))
    with mesh.waypoint(*policies) as front:

        def allowed(number: int, text: str) -> bool:
            method, path, *extra = text.split()
            headers = [one.replace("=", ": ") if "=" in one else f"host: {one}" for one in extra if one != "carol"]
            caller = CAROL if "carol" in extra else ALICE
            status = front.ask(f"s{number}", f"{method} {path}", *headers, caller=caller).status
            assert status in (200, 403)
            return status == 200

        found = [
            (
                rule,
                [text for text in (*good, *bad) if allowed(number, text)],
                [text for text in (*good, *bad) if not allowed(number, text)],
            )
            for number, (rule, good, bad) in enumerate(FIELDS)
        ]
        assert found == FIELDS


def test_two_callers_alternating_on_one_tunnel_each(mesh: Services) -> None:
    """Tokens of requests, certificates of tunnels: what one may is never taken for what the other may."""
    mesh.http("web")
    rules = "\n- from: [{source: {principals: ['*/sa/alice']}}]\n  to: [{operation: {paths: [/alice]}}]"
    rules += "\n- from: [{source: {principals: ['*/sa/carol']}}]\n  to: [{operation: {paths: [/carol]}}]"
    with mesh.waypoint(policy("each-their-own", of("web"), "ALLOW", rules)) as front:
        tunnels = {caller: front.client(caller).tunnel(f"{mesh.vips['web']}:80")[0] for caller in (ALICE, CAROL)}
        for _ in range(25):
            for caller, stream in tunnels.items():
                for name in ("alice", "carol"):
                    front.client(caller).peer.send(stream, f"GET /{name} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                    said = front.client(caller).read(stream)
                    while b"\r\n\r\n" not in said:
                        said += front.client(caller).read(stream)
                    own = name == caller.service_account
                    assert said.startswith(b"HTTP/1.1 200" if own else b"HTTP/1.1 403"), (caller, name, said)
                    head, _, body = said.partition(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    while len(body) < length:
                        body += front.client(caller).read(stream)


def test_audits_and_dry_runs_are_found_in_the_access_log(mesh: Services) -> None:
    """What an AUDIT policy matches, and what a dry run would have done; nothing where there is neither."""
    for name in ("plain", "audit", "dry-deny", "dry-allow"):
        mesh.http(name)
    policies = [
        written("audit", 0, f"AUDIT {HIT}"),
        written("dry-deny", 0, f"DRY-DENY {HIT}"),
        written("dry-allow", 0, f"DRY-ALLOW {MISS}"),
    ]
    expected = {
        "plain": (None, None, None),
        "audit": (True, None, None),
        "dry-deny": (None, None, "denied"),
        "dry-allow": (None, "denied", None),
    }
    with mesh.waypoint(*policies) as front:
        for name in expected:
            assert front.ask(name).status == 200

        def lines() -> list[str]:
            return re.findall(r"^{.*}$", front.running.log.read_text(), re.MULTILINE)

        front.running.until(lambda: len(lines()) == len(expected))
        found: dict[str, tuple[object, ...]] = {}
        for said in map(json.loads, lines()):
            service = said["waypoint.chain"].rpartition("|")[2].partition(".")[0]
            found[service] = tuple(said.get(key) for key in ("audited", "dry_run.allow", "dry_run.deny"))
        assert found == expected


def test_workloads_by_their_address_are_judged_by_the_waypoints_policies(mesh: Services) -> None:
    """Those of the Gateway; a service's hold for who asks for the service."""
    mesh.gateway = GATEWAY.replace("name: wp}", "name: wp, labels: {istio.io/waypoint-for: all}}")
    mesh.http("web")
    namespace = document("Namespace", "", f"name: default, {USES}")
    gate, service = policy("gate", GATE, "DENY", NO_POST), policy("service", of("web"), "DENY", NO_PUT)
    with mesh.waypoint(namespace, gate, service) as front:
        client, address = front.client(), f"{mesh.mesh.ip}:{mesh.apps['web'].port}"
        found = {method: client.ask(address, f"{method} / HTTP/1.1").status for method in ("GET", "POST", "PUT")}
        assert found == {"GET": 200, "POST": 403, "PUT": 200}
        assert front.ask("web", "PUT /").status == 403
        assert client.ask(f"{mesh.mesh.ip}:1").status == 503


@pytest.mark.parametrize("tells", [True, False])
def test_endpoints_are_told_who_calls_if_the_gateway_says_so(mesh: Services, tells: bool) -> None:
    """By Istio's annotation; what a caller says of itself is dropped in any case."""
    if tells:
        annotation = 'annotations: {ambient.istio.io/xfcc-include-client-identity: "true"}'
        mesh.gateway = GATEWAY.replace("name: wp}", f"name: wp, {annotation}}}")
    mesh.http("web")
    with mesh.waypoint() as front:
        asked = front.ask("web", "GET /", "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/a/sa/root").asked
        assert asked is not None
        told = "By=spiffe://cluster.local/ns/default/sa/waypoint;URI=spiffe://cluster.local/ns/default/sa/alice"
        assert asked.headers.get("x-forwarded-client-cert") == (told if tells else None)


def test_a_changed_policy_ends_connections_of_ports_without_requests(mesh: Services) -> None:
    """They cannot be judged again, so all of the port end when its listener has drained; other ports' live on."""
    with App(mesh.mesh.ip, echo) as app:
        for name in ("db", "other"):
            mesh.at(name, app.port, port_name="tcp")
        with mesh.waypoint() as front:
            client = front.client()
            streams = {name: client.tunnel(f"{mesh.vips[name]}:80")[0] for name in ("db", "other")}

            def say(name: str) -> bytes:
                client.peer.send(streams[name], b"hello")
                return client.read(streams[name])

            assert [say(name) for name in streams] == [b"hello", b"hello"]
            front.running.program(mesh.program(policy("nobody", of("db"), "ALLOW", "")))
            assert client.read(streams["db"]) == b""
            assert say("other") == b"hello"
            assert client.tunnel(f"{mesh.vips['db']}:80")[1] == 403
