"""RequestAuthentication and what AuthorizationPolicies make of it, with real tokens at a real Envoy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.behind_waypoint import Front, Services, services
from tests.support.documents import document
from tests.support.issuer import Issuer
from tests.support.proxy import fresh_ip

pytestmark = pytest.mark.interop

ISSUER = Issuer()
OTHER = Issuer("https://other.example")
TARGET = "targetRefs: [{group: '', kind: Service, name: web}]"
NO_TOKEN = ""


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Services]:
    with services(tmp_path) as made:
        made.http("web")
        yield made


def authentication(rule: str, name: str = "tokens", target: str = TARGET) -> str:
    return document("RequestAuthentication", f"{target}\njwtRules:\n- {rule}", f"name: {name}")


def inline(issuer: Issuer, further: str = "") -> str:
    return f"{{issuer: {issuer.name}, jwks: {json.dumps(issuer.jwks)}{further}}}"


def policy(rules: str, name: str = "rule", action: str = "ALLOW") -> str:
    return document("AuthorizationPolicy", f"{TARGET}\naction: {action}\nrules: {rules}", f"name: {name}")


def statuses(front: Front, *headers: str) -> list[int]:
    return [front.ask("web", "GET /a", *([header] if header else [])).status for header in headers]


FORGED = Issuer()  # the same name, another key


def test_a_token_that_is_there_must_be_right_and_need_not_be_there(mesh: Services) -> None:
    """Signature, time, issuer; the audience, where one is asked for, is 403, as Envoy has it."""
    rule = inline(ISSUER, ", audiences: [shop, bank]")
    with mesh.waypoint(authentication(rule)) as front:
        table = {
            ISSUER.bearer(aud="shop"): 200,
            ISSUER.bearer(aud=["x", "bank"]): 200,
            NO_TOKEN: 200,
            ISSUER.bearer(aud="shop", lifetime=-3600): 401,
            ISSUER.bearer(aud="other"): 403,
            ISSUER.bearer(): 403,
            ISSUER.bearer(aud="shop", iss="https://unknown.example"): 401,
            OTHER.bearer(aud="shop"): 401,
            FORGED.bearer(aud="shop"): 401,
            "authorization: Bearer nonsense": 401,
            "authorization: Basic YTpi": 200,
        }
        assert dict(zip(table, statuses(front, *table), strict=True)) == table


def test_policies_on_claims(mesh: Services) -> None:
    """An AuthorizationPolicy says who needs a token; claims are compared one by one, lists by any element."""
    rules = f"""
    - from: [{{source: {{requestPrincipals: ["{ISSUER.name}/ann"]}}}}]
    - from: [{{source: {{requestPrincipals: ["{ISSUER.name}/*"]}}}}]
      when: [{{key: "request.auth.claims[groups]", values: [admins]}}]
    - when: [{{key: "request.auth.claims[realm][roles]", values: ["ops*"]}}]
    - when: [{{key: request.auth.audiences, values: [public]}}]
    - when: [{{key: "request.auth.claims[scope]", values: [read]}}]
    - when: [{{key: request.auth.presenter, values: [app]}}]
    """
    indented = "\n" + "\n".join(line[2:] for line in rules.splitlines())
    with mesh.waypoint(authentication(inline(ISSUER)), policy(indented)) as front:
        table = {
            ISSUER.bearer(): 200,
            NO_TOKEN: 403,
            ISSUER.bearer(sub="eve"): 403,
            ISSUER.bearer(sub="eve", groups=["users", "admins"]): 200,
            ISSUER.bearer(sub="eve", groups="admins"): 200,
            ISSUER.bearer(sub="eve", groups=["users"]): 403,
            ISSUER.bearer(sub="eve", realm={"roles": ["ops-berlin"]}): 200,
            ISSUER.bearer(sub="eve", realm={"roles": ["dev"]}): 403,
            ISSUER.bearer(sub="eve", aud=["a", "public"]): 200,
            ISSUER.bearer(sub="eve", scope="write read"): 200,
            ISSUER.bearer(sub="eve", scope="write"): 403,
            ISSUER.bearer(sub="eve", azp="app"): 200,
            ISSUER.bearer(lifetime=-3600): 401,
        }
        assert dict(zip(table, statuses(front, *table), strict=True)) == table


def test_a_token_is_required_by_a_deny_of_those_without(mesh: Services) -> None:
    """Istio's usual way: DENY notRequestPrincipals."""
    deny = policy("[{from: [{source: {notRequestPrincipals: ['*']}}]}]", action="DENY")
    with mesh.waypoint(authentication(inline(ISSUER)), deny) as front:
        assert statuses(front, ISSUER.bearer(), NO_TOKEN, FORGED.bearer()) == [200, 403, 401]


def test_several_issuers(mesh: Services) -> None:
    """Each token by the issuer that it names; one of two documents as well as one of two rules."""
    first = authentication(f"{inline(ISSUER)}\n- {inline(OTHER)}")
    third = Issuer("https://third.example")
    with mesh.waypoint(first, authentication(inline(third), "more")) as front:
        bearers = [ISSUER.bearer(), OTHER.bearer(), third.bearer(), NO_TOKEN, FORGED.bearer()]
        assert statuses(front, *bearers) == [200, 200, 200, 200, 401]


def test_where_a_token_is_found_and_what_the_application_gets(mesh: Services) -> None:
    """Headers with a prefix, parameters, cookies; the token itself only where that is asked for, claims as headers."""
    further = (
        ", fromHeaders: [{name: x-token, prefix: 'jwt '}], fromParams: [t], fromCookies: [c]"
        ", outputPayloadToHeader: x-payload, outputClaimToHeaders: [{header: x-sub, claim: sub}]"
    )
    forwarding = inline(ISSUER, ", forwardOriginalToken: true")
    mesh.http("plain")
    elsewhere = "targetRefs: [{group: '', kind: Service, name: plain}]"
    documents = (authentication(inline(ISSUER, further)), authentication(forwarding, "keeps", elsewhere))
    with mesh.waypoint(*documents) as front:
        token = ISSUER.token()
        found = [
            front.ask("web", "GET /", f"x-token: jwt {token}"),
            front.ask("web", f"GET /?t={token}"),
            front.ask("web", "GET /", f"cookie: c={token}"),
        ]
        assert [heard.asked.headers.get("x-sub") for heard in found if heard.asked] == ["ann"] * 3
        assert all(heard.asked and heard.asked.headers["x-payload"] for heard in found)
        assert found[0].asked is not None
        assert "x-token" not in found[0].asked.headers
        unseen = front.ask("web", "GET /", ISSUER.bearer(), "x-sub: forged").asked
        assert unseen is not None
        assert "x-sub" not in unseen.headers
        kept = front.ask("plain", "GET /", f"authorization: Bearer {token}").asked
        assert kept is not None
        assert kept.headers["authorization"] == f"Bearer {token}"


def test_keys_by_address(mesh: Services) -> None:
    """Fetched from the issuer; where that cannot be reached, every token is refused, and what needs none passes."""
    with ISSUER.server(fresh_ip()) as server:
        rule = f"{{issuer: {ISSUER.name}, jwksUri: 'http://{server.ip}:{server.port}/keys.json'}}"
        nowhere = f"{{issuer: {OTHER.name}, jwksUri: 'http://{server.ip}:1/keys.json'}}"
        mesh.http("other")
        elsewhere = "targetRefs: [{group: '', kind: Service, name: other}]"
        documents = (authentication(rule), authentication(nowhere, "nowhere", elsewhere))
        with mesh.waypoint(*documents, policy("[{from: [{source: {requestPrincipals: ['*']}}]}]")) as front:
            assert server.next().path == "/keys.json"
            front.running.until(lambda: front.ask("web", "GET /", ISSUER.bearer()).status == 200)
            assert statuses(front, NO_TOKEN, FORGED.bearer(), ISSUER.bearer(lifetime=-3600)) == [403, 401, 401]
            assert front.ask("other", "GET /", OTHER.bearer()).status == 401
            assert front.ask("other", "GET /").status == 200


def test_keys_from_an_issuer_inside_the_mesh(mesh: Services) -> None:
    """Fetched through HBONE, under the waypoint's identity: nobody else has to be able to reach the issuer."""
    with ISSUER.server(mesh.mesh.ip) as server:
        mesh.at("issuer", server.port, behind="")
        further = "timeout: 20s, spaceDelimitedClaims: [roles]"
        uri = "http://issuer.default.svc.cluster.local/keys"
        rule = f"{{issuer: {ISSUER.name}, jwksUri: '{uri}', {further}}}"
        by_role = policy("[{when: [{key: 'request.auth.claims[roles]', values: [ops]}]}]")
        with mesh.waypoint(authentication(rule), by_role) as front:
            bearers = [
                issuer.bearer(roles=roles) for issuer, roles in ((ISSUER, "dev ops"), (ISSUER, "dev"), (FORGED, "ops"))
            ]
            assert statuses(front, *bearers) == [200, 403, 401]
            asked = server.next()
            assert (asked.path, asked.headers["host"]) == ("/keys", "issuer.default.svc.cluster.local")
            records = mesh.mesh.server.main.wait_logs(2)
            assert {dict(one.fields)["src.identity"] for one in records} == {
                "spiffe://cluster.local/ns/default/sa/waypoint"
            }


def test_an_issuer_with_tls_of_its_own(mesh: Services) -> None:
    """Outside the mesh and inside it Envoy takes the configuration; who cannot prove its name gives no keys."""
    with ISSUER.server(mesh.mesh.ip) as server:
        mesh.at("issuer", server.port, behind="")
        inside = f"{{issuer: {ISSUER.name}, jwksUri: 'https://issuer.default.svc.cluster.local:80/keys'}}"
        outside = f"{{issuer: {OTHER.name}, jwksUri: 'https://{server.ip}:{server.port}/keys'}}"
        with mesh.waypoint(authentication(f"{inside}\n- {outside}")) as front:
            assert statuses(front, ISSUER.bearer(), OTHER.bearer(), NO_TOKEN) == [401, 401, 200]
