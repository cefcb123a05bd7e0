"""A waypoint made of a real Envoy: HBONE in, L7 rules, HBONE out to our own proxies."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import h2.events
import pytest
from tests.support.hbone_peer import dial
from tests.support.pki import ALICE, BOB
from tests.support.proxy import App, Mesh, workload
from tests.support.waypoint import WAYPOINT, Client, waypoint, whole

from hostmesh.kernel.foreign_sockets import shut_down
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import server_name
from hostmesh.model.waypoint import (
    AppProtocol,
    Backend,
    L7Action,
    L7Policy,
    L7Rule,
    MatchText,
    PathKind,
    Rewrite,
    Route,
    RouteMatch,
    WaypointEndpoint,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.rbac.requests import Request, decide_request
from hostmesh.waypoint.names import host_port
from hostmesh.wire.x509 import spiffe_identities

pytestmark = pytest.mark.interop

CAROL = Identity("cluster.local", "default", "carol")
VIP = "10.96.0.1"
WEB = "web.default.svc.cluster.local"
OTHER = "other.default.svc.cluster.local"


def http_app(name: str) -> Callable[[socket.socket], None]:
    """Answers with its name and what it was asked."""

    def serve(sock: socket.socket) -> None:
        said = b""
        while b"\r\n\r\n" not in said:
            data = sock.recv(1 << 16)
            if not data:
                return
            said += data
        line, _, _ = said.partition(b"\r\n")
        body = name.encode() + b" " + line
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))

    return serve


def greeter(sock: socket.socket) -> None:
    """A server that speaks first."""
    sock.sendall(b"220 hello\r\n")
    while sock.recv(1 << 16):
        pass


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh() as made:
        yield made


def endpoint(mesh: Mesh, app: App, identity: Identity = BOB) -> WaypointEndpoint:
    return WaypointEndpoint(mesh.ip, app.port, str(identity), "bob", "default")


def program(*ports: WaypointPort, **other: object) -> WaypointProgram:
    web = WaypointService("default", WEB, (VIP,), ports)
    return replace(WaypointProgram("waypoint", "default", "cluster.local", services=(web,)), **other)  # type: ignore[arg-type]


def allow(*rules: L7Rule, action: L7Action = L7Action.ALLOW, name: str = "rule") -> L7Policy:
    return L7Policy(name, "default", action, rules)


def get(client: Client, path: str = "/", method: str = "GET", authority: str = f"{VIP}:80") -> tuple[int, str]:
    answer = client.ask(authority, f"{method} {path} HTTP/1.1")
    return answer.status, answer.body.decode()


def test_a_request_travels_through_it_under_its_own_identity(mesh: Mesh, tmp_path: Path) -> None:
    """By address and by name; what it does not serve is 404, before any connection."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            alice = running.client(ALICE)
            assert get(alice, "/a") == (200, "web GET /a HTTP/1.1")
            assert get(alice, "/b", authority=f"{WEB}:80") == (200, "web GET /b HTTP/1.1")
            assert alice.ask("10.96.0.9:80").status == 404
            assert alice.ask(f"{VIP}:81").status == 404
            assert alice.ask(f"{mesh.ip}:{app.port}").status == 404
            records = mesh.server.main.wait_logs(2)
            assert {dict(one.fields)["src.identity"] for one in records} == {str(WAYPOINT)}


def test_an_endpoint_must_be_who_it_is_said_to_be(mesh: Mesh, tmp_path: Path) -> None:
    """Any identity of the trust domain is not enough."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app, CAROL),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            alice = running.client(ALICE)
            assert get(alice)[0] == 503
    assert app.accepted == 0


def test_endpoints_that_share_an_address_are_told_apart(tmp_path: Path) -> None:
    """Each is asked for by its name in TLS, and shows its own certificate."""
    with Mesh(beside_bob=(CAROL,)) as mesh, mesh.app(http_app("bob")) as bob, mesh.app(http_app("carol")) as carol:
        ports = []
        for number, (app, identity) in enumerate(((bob, BOB), (carol, CAROL)), 80):
            uid = workload(identity.service_account, identity, mesh.ip).uid
            one = replace(endpoint(mesh, app, identity), server_name=server_name(uid))
            ports.append(WaypointPort(number, AppProtocol.HTTP, (one,)))
        with waypoint(tmp_path, mesh.authority, program(*ports)) as running:
            alice = running.client(ALICE)
            assert get(alice) == (200, "bob GET / HTTP/1.1")
            assert get(alice, authority=f"{VIP}:81") == (200, "carol GET / HTTP/1.1")


def test_methods_paths_and_callers_are_judged_request_by_request(mesh: Mesh, tmp_path: Path) -> None:
    """GET of alice is allowed below /api; everything else is 403, and carol does not even get a tunnel."""
    rule = L7Rule(
        ({"principals": ("cluster.local/ns/default/sa/alice",)},), ({"methods": ("GET",), "paths": ("/api*",)},)
    )
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port, policies=(allow(rule),))) as running:
            alice, carol = running.client(ALICE), running.client(CAROL)
            assert get(alice, "/api/x")[0] == 200
            assert get(alice, "/api/x", "POST")[0] == 403
            assert get(alice, "/other")[0] == 403
            assert get(carol, "/api/x") == (403, "")
            assert app.accepted == 1


def test_a_changed_policy_holds_at_once_for_an_open_tunnel(mesh: Mesh, tmp_path: Path) -> None:
    """The same stream, the same connection inside it: the next request is refused."""
    deny = allow(L7Rule((), ({"methods": ("POST",)},)), action=L7Action.DENY)
    with mesh.app(keep_alive) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            alice = running.client(ALICE)
            stream, _ = alice.tunnel(f"{VIP}:80")
            assert again(alice, stream, "POST").startswith(b"HTTP/1.1 200")
            chain = f"inbound-vip|80|http|{WEB}"
            loaded = f"http.{chain}.rds.{chain}.update_success".replace("|", "[|]")
            before = running.stat(loaded)
            running.program(program(port, policies=(deny,)))
            running.wait(loaded, before + 1)
            assert again(alice, stream, "POST").startswith(b"HTTP/1.1 403")
            assert again(alice, stream, "GET").startswith(b"HTTP/1.1 200")


def keep_alive(sock: socket.socket) -> None:
    """A minimal server that keeps its connection."""
    said = b""
    while data := sock.recv(1 << 16):
        said += data
        if b"\r\n\r\n" in said:
            said = b""
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def again(client: Client, stream: int, method: str) -> bytes:
    client.peer.send(stream, f"{method} / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n".encode())
    said = b""
    while not whole(said) and (data := client.read(stream)):
        said += data
    return said


def test_two_callers_on_their_tunnels_are_never_taken_for_each_other(mesh: Mesh, tmp_path: Path) -> None:
    """Connections inside the proxy belong to one caller."""
    rule = L7Rule(({"principals": ("cluster.local/ns/default/sa/alice",)},), ({"paths": ("/secret",)},))
    other = L7Rule((), ({"paths": ("/open",)},))
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port, policies=(allow(rule, other),))) as running:
            alice, carol = running.client(ALICE), running.client(CAROL)
            for _ in range(100):
                assert get(alice, "/secret")[0] == 200
                assert get(carol, "/secret")[0] == 403
                assert get(carol, "/open")[0] == 200


def test_a_server_that_speaks_first_greets_nobody_who_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    """On a declared TCP port the tunnel itself is refused; who is allowed is greeted without waiting for HTTP."""
    rule = L7Rule(({"serviceAccounts": ("alice",)},))
    with mesh.app(greeter) as app:
        port = WaypointPort(25, AppProtocol.TCP, (endpoint(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port, policies=(allow(rule),))) as running:
            alice, carol = running.client(ALICE), running.client(CAROL)
            stream, status = alice.tunnel(f"{VIP}:25")
            assert (status, alice.read(stream)) == (200, b"220 hello\r\n")
            assert carol.tunnel(f"{VIP}:25")[1] == 403
            assert app.accepted == 1


def test_routes(mesh: Mesh, tmp_path: Path) -> None:
    """Prefix with rewrite, header, weight, missing backend, and 404 for what no route takes."""
    with mesh.app(http_app("web")) as app, mesh.app(http_app("other")) as second:
        to_web, to_other = Backend(WEB, 80), Backend(OTHER, 80)
        routes = (
            Route("exact", RouteMatch(PathKind.EXACT, "/exact"), (to_other,)),
            Route("rewritten", RouteMatch(path="/api"), (to_other,), rewrite=Rewrite(prefix="/v2")),
            Route("cut", RouteMatch(path="/cut"), (to_other,), rewrite=Rewrite(prefix="/")),
            Route("header", RouteMatch(path="/h", headers=(MatchText("x-to", "other"),)), (to_other,)),
            Route("missing", RouteMatch(path="/missing"), (Backend("", 80),)),
            Route("nothing", RouteMatch(path="/nothing")),
            Route("rest", RouteMatch(path="/h"), (to_web,)),
        )
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),), routes)
        more = WaypointService("default", OTHER, (), (WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, second),)),))
        made = program(port)
        made = replace(made, services=(*made.services, replace(more, served=False)))
        with waypoint(tmp_path, mesh.authority, made) as running:
            alice = running.client(ALICE)
            assert get(alice, "/exact") == (200, "other GET /exact HTTP/1.1")
            assert get(alice, "/exact/no")[0] == 404
            assert get(alice, "/api/x?q=1") == (200, "other GET /v2/x?q=1 HTTP/1.1")
            assert get(alice, "/api") == (200, "other GET /v2 HTTP/1.1")
            assert get(alice, "/apix")[0] == 404
            assert get(alice, "/cut/x") == (200, "other GET /x HTTP/1.1")
            assert get(alice, "/cut") == (200, "other GET / HTTP/1.1")
            assert get(alice, "/h") == (200, "web GET /h HTTP/1.1")
            assert alice.ask(f"{VIP}:80", "GET /h HTTP/1.1", "x-to: other").body.startswith(b"other")
            assert get(alice, "/missing")[0] == 500
            assert get(alice, "/nothing")[0] == 500


def test_a_workload_by_its_address(mesh: Mesh, tmp_path: Path) -> None:
    """Whatever the port; only the ones that use this waypoint."""
    with mesh.app(http_app("web")) as app:
        made = program(workloads=(WaypointEndpoint(mesh.ip, 0, str(BOB), "bob", "default"),))
        with waypoint(tmp_path, mesh.authority, made) as running:
            alice = running.client(ALICE)
            assert get(alice, "/x", authority=f"{mesh.ip}:{app.port}") == (200, "web GET /x HTTP/1.1")
            assert alice.ask("127.0.0.1:80").status == 404


def test_adding_a_service_cuts_no_open_tunnel(mesh: Mesh, tmp_path: Path) -> None:
    """Nor does a new certificate, nor another endpoint."""
    with mesh.app(keep_alive) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            alice = running.client(ALICE)
            stream, _ = alice.tunnel(f"{VIP}:80")
            assert again(alice, stream, "GET").startswith(b"HTTP/1.1 200")
            made = program(port)
            more = WaypointService("default", OTHER, ("10.96.0.2",), (port,))
            running.program(replace(made, services=(*made.services, more)))
            running.obeys(2)
            fresh = running.client(ALICE)
            assert get(fresh, authority="10.96.0.2:80")[0] == 200
            assert again(alice, stream, "GET").startswith(b"HTTP/1.1 200")


JUDGED: dict[str, tuple[L7Policy, ...]] = {
    "a prefix": (allow(L7Rule((), ({"paths": ("/api*",)},))),),
    "a suffix, refused": (allow(L7Rule((), ({"paths": ("*.key",)},)), action=L7Action.DENY),),
    "templates": (allow(L7Rule((), ({"paths": ("/{*}/x", "/deep/{**}")},))),),
    "all but": (allow(L7Rule((), ({"notMethods": ("POST",), "notPaths": ("/secret",)},))),),
    "a header": (allow(L7Rule((), (), (("request.headers[x-a]", ("1", "2*"), ()),))),),
    "not from": (allow(L7Rule(({"notPrincipals": ("*/sa/carol",)},), ({"methods": ("GET",)},))),),
    "hosts": (allow(L7Rule((), ({"hosts": ("TEST", "*.example")},))),),
    "nobody": (allow(),),
    "refused before allowed": (
        allow(L7Rule((), ({"methods": ("*",)},))),
        allow(L7Rule(({"serviceAccounts": ("alice",)},), ({"paths": ("/no",)},)), action=L7Action.DENY, name="no"),
    ),
}
REQUESTS = [("GET", "/api/x?q=/secret"), ("POST", "/secret"), ("GET", "/no"), ("PUT", "/deep/a/b.key"), ("GET", "/a/x")]


def test_what_is_explained_is_what_envoy_does(mesh: Mesh, tmp_path: Path) -> None:
    """Every verdict of `hostmesh explain` on a request that is wholly known."""
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        services, policies = [], []
        for number, chosen in enumerate(JUDGED.values(), 1):
            host = f"s{number}.default.svc.cluster.local"
            services.append(WaypointService("default", host, (f"10.96.1.{number}",), (port,)))
            policies += [replace(one, hostnames=(host,), name=f"{one.name}-{number}") for one in chosen]
        made = replace(program(), services=tuple(services), policies=tuple(policies))
        with waypoint(tmp_path, mesh.authority, made) as running:
            for identity in (ALICE, CAROL):
                client = running.client(identity)
                for (name, chosen), service in zip(JUDGED.items(), services, strict=True):
                    for method, path in REQUESTS:
                        request = Request(
                            *(str(identity), "default", identity.service_account, "127.0.0.1", 80, service.vips[0]),
                            *(method, path, "test", {"x-a": "23"}),
                        )
                        answer = client.ask(f"{service.vips[0]}:80", f"{method} {path} HTTP/1.1", "x-a: 23")
                        verdict = decide_request(chosen, request)
                        assert verdict.allowed is (answer.status == 200), (name, method, path, verdict, answer)


def test_it_reports_whose_tunnels_it_has_accepted_and_opened(mesh: Mesh, tmp_path: Path) -> None:
    """With the address by which each connection is found, and closed."""
    with mesh.app(keep_alive) as app:
        port = WaypointPort(80, AppProtocol.TCP, (endpoint(mesh, app),))
        with waypoint(tmp_path, mesh.authority, program(port)) as running:
            alice = running.client(ALICE)
            stream, _ = alice.tunnel(f"{VIP}:80")
            assert again(alice, stream, "GET").startswith(b"HTTP/1.1 200")
            reports = tmp_path / "xds" / "tunnels"
            running.until(lambda: reports.read_text().count("\n") == 2)
            found = {}
            for line in reports.read_text().splitlines():
                side, address, certificate = line.split(" ")
                (identity,) = spiffe_identities(ssl.PEM_cert_to_DER_cert(unquote(certificate)))
                found[side] = identity, address
            assert {side: identity for side, (identity, _) in found.items()} == {"accepted": ALICE, "opened": BOB}
            _, own_address = found["opened"]
            assert shut_down(running.process.pid, lambda own, _: host_port(*own) == own_address) == 1
            assert alice.read(stream) == b""
            _, peer_address = found["accepted"]
            assert shut_down(running.process.pid, lambda _, peer: host_port(*peer) == peer_address) == 1
            with pytest.raises(ConnectionError):
                alice.peer.wait(h2.events.PushedStreamReceived)  # of which there is none before the end


def test_revoked_certificates_are_refused_in_the_handshake(mesh: Mesh, tmp_path: Path) -> None:
    """By lists of an authority below the root, too; a renewed certificate of the same identity is good."""
    below = mesh.authority.intermediate()
    with mesh.app(http_app("web")) as app:
        port = WaypointPort(80, AppProtocol.HTTP, (endpoint(mesh, app),))
        with waypoint(tmp_path, below, program(port)) as running:
            stolen = below.issue(ALICE)

            def status(credentials: Credentials) -> int:
                try:
                    peer = dial((running.ip, 15008), credentials, credentials.roots_pem)
                except (ConnectionError, ssl.SSLError):
                    return 0
                with peer:
                    try:
                        return int(peer.answer(peer.connect(f"{VIP}:80"))[":status"])
                    except (ConnectionError, ssl.SSLError):
                        return 0

            assert status(stolen) == 200
            before = running.stat("sds.ROOTCA.update_success")
            running.program(program(port), below.crl_pem(stolen) + mesh.authority.crl_pem())
            running.wait("sds.ROOTCA.update_success", before + 1)
            assert status(stolen) == 0
            assert status(below.issue(ALICE)) == 200
            assert get(running.client(ALICE))[0] == 200
