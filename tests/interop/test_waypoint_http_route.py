"""HTTPRoutes as users write them, obeyed by a real Envoy: requests in, what the application saw and answered out."""

from __future__ import annotations

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.behind_waypoint import Front, Services, services
from tests.support.documents import document
from tests.support.http_app import Behaviour, HttpApp, told
from tests.support.patience import PATIENCE
from tests.support.proxy import App, echo

pytestmark = pytest.mark.interop


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Services]:
    with services(tmp_path) as made:
        yield made


def route(rules: str, *, service: str = "echo", name: str = "r") -> str:
    return document(
        "HTTPRoute", f"parentRefs: [{{group: '', kind: Service, name: {service}}}]\nrules:\n{rules}", f"name: {name}"
    )


def to(name: str) -> str:
    return f"backendRefs: [{{name: {name}, port: 80}}]"


def test_the_example_of_the_ambient_documentation(mesh: Services) -> None:
    """What is asked of echo, echo-v1 answers, under the waypoint's identity; echo-v1 itself uses no waypoint."""
    mesh.http("echo")
    mesh.http("echo-v1", behind="")
    example = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: echo
spec:
  parentRefs:
  - group: ""
    kind: Service
    name: echo
  rules:
  - backendRefs:
    - name: echo-v1
      port: 80
"""
    with mesh.waypoint(example) as front:
        assert front.ask("echo", "GET /a").brief == (200, "echo-v1")
        (record,) = mesh.mesh.server.main.wait_logs(1)
        assert dict(record.fields)["src.identity"].endswith("/sa/waypoint")
    with mesh.waypoint() as front:
        assert front.ask("echo", "GET /a").brief == (200, "echo")


MATCHES = f"""
- matches: [{{path: {{type: Exact, value: /exact}}}}]
  {to("v1")}
- matches: [{{path: {{value: /api}}, method: POST}}]
  {to("v1")}
- matches: [{{path: {{value: /api}}, headers: [{{name: x-version, value: one}}]}}]
  {to("v1")}
- matches: [{{path: {{value: /api}}, headers: [{{name: x-user, type: RegularExpression, value: "b.*"}}]}}]
  {to("v1")}
- matches: [{{path: {{value: /api}}, queryParams: [{{name: v, value: "1"}}]}}]
  {to("v1")}
- matches: [{{path: {{value: /api}}, queryParams: [{{name: q, type: RegularExpression, value: "[0-9]+"}}]}}]
  {to("v1")}
- matches:
  - {{path: {{value: /api}}, method: PUT, headers: [{{name: a, value: b}}], queryParams: [{{name: c, value: d}}]}}
  {to("v1")}
- matches: [{{path: {{type: RegularExpression, value: "/r/[a-z]+"}}}}, {{path: {{value: /or}}}}]
  {to("v1")}
- matches: [{{path: {{value: /api}}}}]
  {to("v2")}
"""


def test_matches(mesh: Services) -> None:
    """Path, method, header and query, AND-ed within a match, OR-ed among them; the more specific one wins."""
    for name in ("echo", "v1", "v2"):
        mesh.http(name)
    table = [
        ("GET /exact", (), (200, "v1")),
        ("GET /exact?q", (), (200, "v1")),
        ("GET /exact/", (), (404, "")),
        ("POST /api/x", (), (200, "v1")),
        ("GET /api/x", (), (200, "v2")),
        ("GET /apix", (), (404, "")),
        ("GET /api", ("x-version: one",), (200, "v1")),
        ("GET /api", ("X-Version: one",), (200, "v1")),
        ("GET /api", ("x-version: two",), (200, "v2")),
        ("GET /api", ("x-user: bob",), (200, "v1")),
        ("GET /api", ("x-user: rob",), (200, "v2")),
        ("GET /api?v=1", (), (200, "v1")),
        ("GET /api?v=2", (), (200, "v2")),
        ("GET /api?q=77", (), (200, "v1")),
        ("GET /api?q=7x", (), (200, "v2")),
        ("PUT /api?c=d", ("a: b",), (200, "v1")),
        ("PUT /api?c=d", ("a: x",), (200, "v2")),
        ("PUT /api", ("a: b",), (200, "v2")),
        ("GET /r/abc", (), (200, "v1")),
        ("GET /r/abc/d", (), (404, "")),
        ("GET /or/x", (), (200, "v1")),
        ("GET /api/../exact", (), (200, "v1")),
        ("GET /", (), (404, "")),
    ]
    with mesh.waypoint(route(MATCHES)) as front:
        found = [(line, headers, front.ask("echo", line, *headers).brief) for line, headers, _ in table]
        assert found == table


PREFIX = "type: ReplacePrefixMatch, replacePrefixMatch:"
FILTERS = f"""
- matches: [{{path: {{value: /request-headers}}}}]
  filters:
  - type: RequestHeaderModifier
    requestHeaderModifier: {{set: [{{name: x-set, value: new}}], add: [{{name: x-add, value: two}}], remove: [x-gone]}}
  {to("v1")}
- matches: [{{path: {{value: /response-headers}}}}]
  filters:
  - type: ResponseHeaderModifier
    responseHeaderModifier:
      {{set: [{{name: x-app, value: hidden}}], add: [{{name: x-mesh, value: "yes"}}], remove: [x-secret]}}
  {to("v1")}
- matches: [{{path: {{value: /prefix}}}}]
  filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}}}}]
  {to("v1")}
- matches: [{{path: {{value: /full}}}}]
  filters:
  - type: URLRewrite
    urlRewrite: {{hostname: other.example, path: {{type: ReplaceFullPath, replaceFullPath: /whole}}}}
  {to("v1")}
- matches: [{{path: {{value: /moved}}}}]
  filters:
  - type: RequestRedirect
    requestRedirect:
      {{scheme: https, hostname: new.example, port: 8443, statusCode: 308, path: {{{PREFIX} /there}}}}
- matches: [{{path: {{value: /cut}}}}]
  filters: [{{type: RequestRedirect, requestRedirect: {{path: {{{PREFIX} /}}}}}}]
- matches: [{{path: {{value: /secure}}}}]
  filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https}}}}]
- matches: [{{path: {{value: /named}}}}]
  filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https, hostname: a.example}}}}]
- matches: [{{path: {{value: /found}}}}]
  filters: [{{type: RequestRedirect, requestRedirect: {{path: {{type: ReplaceFullPath, replaceFullPath: /login}}}}}}]
"""


def test_filters(mesh: Services) -> None:
    """Headers of both directions, rewrites of path and host, redirects: seen by the application or by the caller."""
    mesh.http("echo")
    mesh.http("v1", Behaviour(headers={"x-app": "v1", "x-secret": "1"}))
    with mesh.waypoint(route(FILTERS)) as front:
        sent = ("x-set: old", "x-add: one", "x-gone: 1", "x-kept: 1")
        asked = front.ask("echo", "GET /request-headers", *sent).asked
        assert asked is not None
        names = ("x-set", "x-add", "x-gone", "x-kept")
        assert [asked.headers.get(name) for name in names] == ["new", "one,two", None, "1"]
        heard = front.ask("echo", "GET /response-headers").headers
        assert [heard.get(name) for name in ("x-app", "x-mesh", "x-secret")] == ["hidden", "yes", None]
        paths = {
            "/prefix": "/v2", "/prefix/": "/v2/", "/prefix/a?b=c": "/v2/a?b=c",
            "/full/a": "/whole", "/full/a?b=c": "/whole?b=c",
        }  # fmt: skip
        seen = {path: front.ask("echo", f"GET {path}").asked for path in paths}
        assert {path: asked.path for path, asked in seen.items() if asked} == paths
        assert [asked.headers["host"] for asked in seen.values() if asked] == ["test"] * 3 + ["other.example"] * 2
        moved = front.ask("echo", "GET /moved/a?b=c")
        assert (moved.status, moved.headers["location"]) == (308, "https://new.example:8443/there/a?b=c")
        cut = {path: front.ask("echo", f"GET {path}").headers["location"] for path in ("/cut", "/cut/", "/cut/a?b=c")}
        assert list(cut.values()) == ["http://test/", "http://test/", "http://test/a?b=c"]
        secure = [
            front.ask("echo", f"GET /{path}", "host: test:81").headers["location"] for path in ("secure", "named")
        ]
        assert secure == ["https://test:443/secure", "https://a.example/named"]
        found = front.ask("echo", "GET /found/a")
        assert (found.status, found.headers["location"]) == (302, "http://test/login")


def test_weights(mesh: Services) -> None:
    """Shares of a canary, none for weight 0, and the share of a backend that is missing is 500, as in Istio."""
    for name in ("echo", "v1", "v2"):
        mesh.http(name)
    shares = """
    - matches: [{path: {value: /canary}}]
      backendRefs: [{name: v1, port: 80, weight: 80}, {name: v2, port: 80, weight: 20}]
    - matches: [{path: {value: /off}}]
      backendRefs: [{name: v1, port: 80, weight: 0}, {name: v2, port: 80, weight: 1}]
    - matches: [{path: {value: /half}}]
      backendRefs: [{name: v1, port: 80}, {name: gone, port: 80}]
    - matches: [{path: {value: /none}}]
      backendRefs: [{name: v1, port: 80, weight: 0}]
    - matches: [{path: {value: /wrong-port}}]
      backendRefs: [{name: v1, port: 81}]
    """
    with mesh.waypoint(route(shares)) as front:
        canary = Counter(front.ask("echo", "GET /canary").brief for _ in range(100))
        assert set(canary) == {(200, "v1"), (200, "v2")}
        assert 4 <= canary[200, "v2"] <= 50
        assert {front.ask("echo", "GET /off").brief for _ in range(10)} == {(200, "v2")}
        assert {front.ask("echo", "GET /half").brief for _ in range(30)} == {(200, "v1"), (500, "")}
        assert front.ask("echo", "GET /none").brief == (500, "")
        assert front.ask("echo", "GET /wrong-port").brief == (500, "")


def test_a_mirror_gets_a_copy_and_its_answer_is_lost(mesh: Services) -> None:
    """Even while it fails; a share of 0 copies nothing."""
    mesh.http("echo")
    mesh.http("v1")
    shadow = mesh.apps
    mesh.http("shadow", Behaviour(statuses=[503]))
    mirrored = f"""
    - matches: [{{path: {{value: /copied}}}}]
      filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: shadow, port: 80}}}}}}]
      {to("v1")}
    - matches: [{{path: {{value: /never}}}}]
      filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: shadow, port: 80}}, percent: 0}}}}]
      {to("v1")}
    """
    with mesh.waypoint(route(mirrored)) as front:
        assert front.ask("echo", "GET /never").brief == (200, "v1")
        assert front.ask("echo", "GET /copied/a").brief == (200, "v1")
        assert shadow["shadow"].next().path == "/copied/a"
        assert shadow["shadow"].asked.empty()


def retries(front: Front) -> int:
    """How often Envoy has tried a request of any service again."""
    return sum(int(line.split()[-1]) for line in front.running.get("/stats?filter=upstream_rq_retry$").splitlines())


def test_time_outs_and_retries(mesh: Services) -> None:
    """504 when the time is over; named codes are tried again, as often as was said, others are not."""
    hold = threading.Event()
    hold.set()
    mesh.http("echo")
    mesh.http("slow", Behaviour(hold=hold))
    mesh.http("weak", Behaviour(statuses=[503, 503]))
    mesh.http("weaker", Behaviour(statuses=[503, 503, 503]))
    mesh.http("other", Behaviour(statuses=[500]))
    rules = f"""
    - matches: [{{path: {{value: /slow}}}}]
      timeouts: {{request: 700ms}}
      {to("slow")}
    - matches: [{{path: {{value: /warm}}}}]
      {to("slow")}
    - matches: [{{path: {{value: /weak}}}}]
      retry: {{codes: [503], attempts: 2, backoff: 1ms}}
      {to("weak")}
    - matches: [{{path: {{value: /weaker}}}}]
      retry: {{codes: [503], attempts: 2, backoff: 1ms}}
      {to("weaker")}
    - matches: [{{path: {{value: /other}}}}]
      retry: {{codes: [503], attempts: 2, backoff: 1ms}}
      {to("other")}
    - matches: [{{path: {{value: /never}}}}]
      retry: {{codes: [503], attempts: 0}}
      timeouts: {{backendRequest: 700ms}}
      {to("slow")}
    - matches: [{{path: {{value: /tries}}}}]
      timeouts: {{request: 10s, backendRequest: 700ms}}
      retry: {{codes: [503, 504], attempts: 1, backoff: 1ms}}
      {to("slow")}
    """
    with mesh.waypoint(route(rules)) as front:
        assert front.ask("echo", "GET /warm").brief == (200, "slow")
        hold.clear()
        # Envoy knows how often it has tried; whether an attempt gets as far as the application in its time is chance
        for path, tries_again in (("/slow", 0), ("/tries", 1), ("/never", 0)):
            before = retries(front)
            assert front.ask("echo", f"GET {path}").status == 504
            assert retries(front) - before == tries_again
        hold.set()
        assert front.ask("echo", "GET /weak").brief == (200, "weak")
        assert mesh.apps["weak"].asked.qsize() == 3
        assert front.ask("echo", "GET /weaker").status == 503
        assert mesh.apps["weaker"].asked.qsize() == 3
        assert front.ask("echo", "GET /other").status == 500
        assert mesh.apps["other"].asked.qsize() == 1


def test_requests_of_one_connection_are_shared_among_the_endpoints(mesh: Services) -> None:
    """Each is called under the waypoint's identity; what one refuses to take, another one takes."""
    mesh.http("echo")
    with HttpApp(mesh.mesh.ip, "second") as second:
        more = document(
            "WorkloadEntry",
            f"address: {mesh.mesh.ip}\nserviceAccount: bob\nports: {{http: {second.port}}}",
            "name: echo-2, labels: {app: echo, hostmesh.io/node: n1}",
        )
        with mesh.waypoint(more) as front:
            where = front.captured("echo")
            connection = http.client.HTTPConnection(str(where.ip), where.port, timeout=PATIENCE)

            def ask() -> str:
                connection.request("GET", "/")
                return told(connection.getresponse().read()).app

            with closing(connection):
                assert {ask() for _ in range(20)} == {"echo", "second"}
                second.close()
                assert {ask() for _ in range(20)} == {"echo"}


def test_what_callers_say_in_envoys_name_is_dropped(mesh: Services) -> None:
    """They neither order retries nor name another path in the log; a POST is not repeated unasked."""
    mesh.http("echo", Behaviour(statuses=[503]))
    orders = ("x-envoy-retry-on: 5xx", "x-envoy-max-retries: 9", "X-Envoy-Original-Path: /harmless")
    with mesh.waypoint() as front:
        assert front.ask("echo", "GET /secret", *orders).status == 503
        asked = mesh.apps["echo"].next()
        assert [name for name in asked.headers if "retr" in name or "original" in name] == []
        heard = front.ask("echo", "POST /", *orders)
        assert heard.brief == (200, "echo")
        assert heard.asked is not None
        assert [name for name in heard.asked.headers if "retr" in name] == []
        assert mesh.apps["echo"].asked.qsize() == 1


def test_a_service_entry_and_hosts_by_name(mesh: Services) -> None:
    """A route of a ServiceEntry, a backend of kind Hostname, and a parentRef to one port of two."""
    mesh.http("web", behind="")
    entry = document(
        "ServiceEntry",
        "hosts: [shop.example]\naddresses: [10.97.0.3]\nresolution: STATIC\nworkloadSelector: {labels: {app: web}}\n"
        "ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP, targetPort: 1}]",
        "name: shop, labels: {istio.io/use-waypoint: wp}",
    )
    mesh.vips["shop"] = "10.97.0.3"
    by_name = document(
        "HTTPRoute",
        """
        parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: shop, port: 81}]
        rules:
        - backendRefs: [{group: networking.istio.io, kind: Hostname, name: shop.example, port: 80}]
          filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /by-name}}}]
        """,
        "name: r",
    )
    with mesh.waypoint(entry, by_name) as front:
        paths = [front.ask("shop", "GET /a", port=port).asked for port in (80, 81)]
        assert [asked.path for asked in paths if asked] == ["/a", "/by-name"]


def head(sock: socket.socket) -> bytes:
    """A request or an answer up to the empty line, behind which the other side says nothing yet."""
    said = b""
    while b"\r\n\r\n" not in said and (data := sock.recv(1 << 16)):
        said += data
    return said


def test_a_web_socket(mesh: Services) -> None:
    """An upgraded connection is a tunnel from then on; policies have judged its request."""

    def serve(sock: socket.socket) -> None:
        if b"upgrade: websocket" in head(sock).lower():
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        echo(sock)

    only_chat = document(
        "AuthorizationPolicy",
        "targetRefs: [{group: '', kind: Service, name: chat}]\nrules: [{to: [{operation: {paths: [/chat]}}]}]",
        "name: p",
    )
    upgrade = "GET /%s HTTP/1.1\r\nhost: chat\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    with App(mesh.mesh.ip, serve) as app:
        mesh.at("chat", app.port)
        with mesh.waypoint(only_chat) as front:
            where = front.captured("chat")
            statuses = {}
            for path in ("chat", "other"):
                with socket.create_connection((str(where.ip), where.port), timeout=PATIENCE) as sock:
                    sock.sendall((upgrade % path).encode())
                    statuses[path] = int(head(sock).split()[1])
                    if statuses[path] == 101:
                        sock.sendall(b"\x81\x02hi")
                        assert sock.recv(100) == b"\x81\x02hi"
            assert statuses == {"chat": 101, "other": 403}


def test_web_pages_of_other_origins(mesh: Services) -> None:
    """A preflight is answered by the waypoint; only origins that are allowed may read the answers."""
    mesh.http("echo")
    cors = f"""
    - filters:
      - type: CORS
        cors:
          allowOrigins: ["https://shop.example", "https://*.test.example"]
          allowMethods: [GET, PUT]
          allowHeaders: [x-token]
          exposeHeaders: [x-total]
          allowCredentials: true
          maxAge: 60
      {to("echo")}
    """
    with mesh.waypoint(route(cors)) as front:
        preflight = ("access-control-request-method: PUT", "access-control-request-headers: x-token")
        answer = front.ask("echo", "OPTIONS /a", "origin: https://shop.example", *preflight)
        wanted = {
            "access-control-allow-origin": "https://shop.example",
            "access-control-allow-methods": "GET, PUT",
            "access-control-allow-headers": "x-token",
            "access-control-allow-credentials": "true",
            "access-control-max-age": "60",
        }
        assert (answer.status, answer.asked) == (200, None)
        assert {name: answer.headers.get(name) for name in wanted} == wanted
        origins = {
            "https://shop.example": True,
            "https://a.test.example": True,
            "http://shop.example": False,
            "https://test.example": False,
            "https://shop.example.evil": False,
        }
        heard = {origin: front.ask("echo", "GET /a", f"origin: {origin}") for origin in origins}
        assert {one.status for one in heard.values()} == {200}
        found = {origin: "access-control-allow-origin" in one.headers for origin, one in heard.items()}
        assert found == origins
        assert heard["https://shop.example"].headers["access-control-expose-headers"] == "x-total"
