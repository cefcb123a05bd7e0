"""CONNECT requests of a foreign client: which status for what, and what policies, logs and metrics make of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network

import h2.events
import pytest
from tests.support.agent import until
from tests.support.hbone_peer import Headers, Peer, dial
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import CONFIG, Mesh, echo, receive_all, workload

from hostmesh.model.address import NetworkAddress, parse_ip
from hostmesh.model.authorization import Action, Authorization, Match, PolicyScope
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.model.workload import ApplicationTunnel, TunnelKind
from hostmesh.proxy import inbound_stream
from hostmesh.telemetry.metrics import CLOSED, FAILED, OPENED

DENY_PORT_1 = Authorization(
    "no-port-1", "default", PolicyScope.NAMESPACE, Action.DENY, (((Match(destination_ports=(1,)),),),)
)
DENY_ALL = Authorization("closed", "default", PolicyScope.NAMESPACE, Action.DENY, ((),))


GET: Headers = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x:1")]
STATED = "x-hostmesh-reason"


def connect(authority: str) -> Headers:
    return [(":method", "CONNECT"), (":authority", authority)]


@pytest.mark.parametrize(
    ("headers", "status", "error", "reason"),
    [
        (GET, "400", "expected method CONNECT, got GET", "NOT_HBONE"),
        (connect("nonsense"), "400", "no valid authority pseudo header", "DESTINATION_MISMATCH"),
        (connect("1.2.3.4"), "400", "no valid authority pseudo header", "DESTINATION_MISMATCH"),
        (connect("10.1.2.3:80"), "400", "ip mismatch: {ip} != 10.1.2.3", "DESTINATION_MISMATCH"),
        (connect("unknown.example:80"), "503", "no service or workload for hostname: unknown.example", "NAME_UNKNOWN"),
        (connect("{ip}:15008"), "503", "attempted recursive call to ourselves", "RECURSIVE_CALL"),
        (connect("{ip}:15001"), "503", "attempted recursive call to ourselves", "RECURSIVE_CALL"),
    ],
)
def test_what_is_no_connect_to_us_is_declined(
    mesh: Mesh, peer: Peer, headers: Headers, status: str, error: str, reason: str
) -> None:
    """Declined before anything is counted; answer and log have the reason's code; the tunnel lives on."""
    stream = peer.request([(name, value.format(ip=mesh.ip)) for name, value in headers])
    answer = peer.answer(stream)
    assert (answer[":status"], answer[STATED]) == (status, reason)
    record = mesh.server.main.wait_logs(1)[0]
    assert record.message == "connection failed"
    assert error.format(ip=mesh.ip) in str(dict(record.fields)["error"])
    assert dict(record.fields)["reason"] == reason
    assert mesh.server.samples(OPENED) == []
    with mesh.app(echo) as app:
        again = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(again)[":status"] == "200"


def test_200_comes_after_the_application_has_accepted(mesh: Mesh, peer: Peer) -> None:
    """Refused means 503 and never a 200 that breaks; the answer describes who answers."""
    with socket.create_server((mesh.ip, 0)) as closed:
        port = closed.getsockname()[1]
    stream = peer.connect(f"{mesh.ip}:{port}")
    assert peer.answer(stream)[":status"] == "503"
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        answer = peer.answer(stream)
    assert answer[":status"] == "200"
    assert "k8s.deployment.name=bob" in answer["baggage"]


def test_eager_clients_lose_nothing(mesh: Mesh, peer: Peer) -> None:
    """Payload and end that come before the application has accepted are delivered to it."""
    seen: list[bytes] = []
    done = threading.Event()

    def serve(sock: socket.socket) -> None:
        seen.append(receive_all(sock))
        done.set()

    with mesh.app(serve) as app:
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, connect(f"{mesh.ip}:{app.port}"))
        peer.h2.send_data(stream, b"early ")
        peer.h2.send_data(stream, b"bird", end_stream=True)
        peer.flush()
        assert peer.answer(stream)[":status"] == "200"
        assert done.wait(PATIENCE)
    assert seen == [b"early bird"]


def test_a_policy_on_trial_tells_and_refuses_nobody(mesh: Mesh, peer: Peer) -> None:
    """The access log says what would have been refused, by which policy; the connection goes on."""
    with mesh.app(echo) as app:
        mesh.server.put(replace(DENY_ALL, dry_run=True))
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(stream)[":status"] == "200"
    record = mesh.server.main.wait_logs(1)[0]  # before that of the connection's end
    assert (record.level, record.message) == ("info", "connection would be refused")
    assert dict(record.fields)["audit"] == "dry-run: deny policy match: default/closed"
    assert dict(record.fields)["src.identity"] == str(ALICE)


def test_a_denied_connection_is_401_and_names_its_policy(mesh: Mesh, peer: Peer) -> None:
    """In the log and on the closed series; the application never hears of it."""
    with mesh.app(echo) as app:
        mesh.server.put(DENY_ALL)
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(stream)[":status"] == "401"
        assert app.accepted == 0
    fields = dict(mesh.server.main.wait_logs(1)[0].fields)
    assert str(fields["error"]).startswith(
        "connection closed due to policy rejection: explicitly denied by: default/closed"
    )
    assert fields["response_flags"] == "DENY"
    ((closed, count),) = mesh.server.samples(CLOSED)
    assert (closed["response_flags"], closed["authorization_policy"], count) == ("DENY", "default/closed", 1)
    assert closed["source_principal"] == str(ALICE)
    assert mesh.server.total(OPENED) == mesh.server.total(FAILED) == 1


def test_policies_judge_the_applications_port(mesh: Mesh, peer: Peer) -> None:
    """Never 15008."""
    mesh.server.put(DENY_PORT_1)
    with mesh.app(echo) as app:
        assert peer.answer(peer.connect(f"{mesh.ip}:{app.port}"))[":status"] == "200"
        assert peer.answer(peer.connect(f"{mesh.ip}:1"))[":status"] == "401"


def test_policies_judge_who_connects_and_not_for_whom(mesh: Mesh, peer: Peer) -> None:
    """The address is the TCP peer's, whatever a header says."""
    said = ("forwarded", 'for="10.1.2.3:4711"')
    own = str(peer.sock.getsockname()[0])
    for denied, status in (("10.1.2.3", "200"), (own, "401")):
        mesh.server.put(replace(DENY_ALL, rules=(((Match(source_ips=(ip_network(denied),)),),),)))
        with mesh.app(echo) as app:
            assert peer.answer(peer.connect(f"{mesh.ip}:{app.port}", said))[":status"] == status


def test_a_policy_that_comes_later_ends_the_connection_and_not_the_tunnel(mesh: Mesh, peer: Peer) -> None:
    """Only what it forbids; the stream is cancelled and logged with the policy."""
    with mesh.app(echo) as app, mesh.app(echo) as other:
        doomed = peer.connect(f"{mesh.ip}:{app.port}")
        spared = peer.connect(f"{mesh.ip}:{other.port}")
        peer.answer(doomed)
        peer.answer(spared)
        rules = (((Match(destination_ports=(app.port,)),),),)
        mesh.server.put(Authorization("late", "default", PolicyScope.NAMESPACE, Action.DENY, rules))
        event = peer.wait(h2.events.StreamReset, doomed)
        assert event.error_code == 8  # type: ignore[attr-defined]
        peer.send(spared, b"still here")
        assert peer.wait(h2.events.DataReceived, spared).data == b"still here"  # type: ignore[attr-defined]
    fields = dict(mesh.server.main.wait_logs(1)[0].fields)
    assert str(fields["error"]).startswith("connection closed due to policy change")
    labels = {sample["response_flags"]: sample for sample, _ in mesh.server.samples(CLOSED)}
    assert labels["DENY"]["authorization_policy"] == "default/late"


@contextmanager
def busy(mesh: Mesh) -> Iterator[socket.socket]:
    """An application that takes no connection until it has accepted the one that waits already."""
    with (
        socket.create_server((mesh.ip, 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname(), timeout=PATIENCE),
    ):
        listener.settimeout(PATIENCE)
        yield listener


def dialling(mesh: Mesh, peer: Peer, listener: socket.socket) -> int:
    """A stream whose application is being connected to."""
    stream = peer.connect(f"{mesh.ip}:{listener.getsockname()[1]}")
    until(lambda: mesh.server.call(lambda: list(mesh.server.server.connections())))
    return stream


def test_a_policy_that_comes_while_the_application_is_dialled_ends_the_connection(mesh: Mesh, peer: Peer) -> None:
    """A connection is registered before it is judged, not when the application has accepted."""
    with busy(mesh) as listener:
        stream = dialling(mesh, peer, listener)
        mesh.server.put(DENY_ALL)
        event = peer.wait(h2.events.StreamReset, stream)
        assert event.error_code == 8  # type: ignore[attr-defined]


def test_what_comes_while_the_application_is_dialled_is_kept_for_it(mesh: Mesh, peer: Peer) -> None:
    """Payload and end, each by itself."""
    with busy(mesh) as listener:
        stream = dialling(mesh, peer, listener)
        peer.send(stream, b"early ")
        peer.send(stream, b"bird", end=True)
        listener.accept()[0].close()
        with listener.accept()[0] as app:
            app.settimeout(PATIENCE)
            assert receive_all(app) == b"early bird"


def test_a_policy_that_is_attached_later_ends_the_connection_too(mesh: Mesh, peer: Peer) -> None:
    """A workload's own list counts as it is now."""
    selector = Authorization("mine", "default", PolicyScope.WORKLOAD_SELECTOR, Action.DENY, ((),))
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        mesh.server.put(selector)
        mesh.server.put(replace(mesh.bob, authorization_policies=("default/mine",)))
        peer.wait(h2.events.StreamReset, stream)


def test_unrelated_changes_leave_connections_alone(mesh: Mesh, peer: Peer) -> None:
    """Pushes of workloads and of policies for others."""
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}")
        peer.answer(stream)
        elsewhere = replace(DENY_ALL, namespace="elsewhere")
        mesh.server.put(elsewhere, workload("new", BOB, "127.9.9.9"))
        peer.send(stream, b"x")
        assert peer.wait(h2.events.DataReceived, stream).data == b"x"  # type: ignore[attr-defined]


def test_a_hostname_means_the_services_target_port(mesh: Mesh, peer: Peer) -> None:
    """Waypoints and gateways call by name."""
    with mesh.app(echo) as app:
        service = Service(
            "shop", "default", "shop.lab", (NetworkAddress("lab", parse_ip("10.9.9.9")),), ports={80: app.port}
        )
        mesh.server.put(service)
        stream = peer.connect("shop.lab:80")
        assert peer.answer(stream)[":status"] == "200"
        ((labels, _),) = mesh.server.samples(OPENED)
        assert labels["destination_service"] == "shop.lab"


def test_an_address_counts_for_the_service_that_leads_to_its_port(mesh: Mesh, peer: Peer) -> None:
    """The server's numbers name the service too, although the client asked for an endpoint."""
    with mesh.app(echo) as app:
        service = Service("shop", "default", "shop.lab", ports={80: app.port})
        mesh.server.put(service, replace(mesh.bob, services={service.namespaced_hostname: {80: app.port}}))
        peer.answer(peer.connect(f"{mesh.ip}:{app.port}"))
        ((labels, _),) = mesh.server.samples(OPENED)
        assert labels["destination_service"] == "shop.lab"


def test_a_sandwiched_application_gets_a_proxy_header(mesh: Mesh, peer: Peer) -> None:
    """Version 2, with the peer's identity, before the payload, on loopback."""
    received: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        received.append(receive_all(sock))

    with socket.create_server(("127.0.0.1", 0)) as app:
        port = app.getsockname()[1]
        mesh.server.put(replace(mesh.bob, application_tunnel=ApplicationTunnel(TunnelKind.PROXY, port)))
        stream = peer.connect(f"{mesh.ip}:8080")
        assert peer.answer(stream)[":status"] == "200"
        peer.send(stream, b"payload", end=True)
        sock, _ = app.accept()
        with sock:
            sock.settimeout(PATIENCE)
            serve(sock)
    assert received[0].startswith(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11")
    assert str(ALICE).encode() in received[0]
    assert received[0].endswith(b"payload")


def test_a_sandwiched_application_without_proxy_protocol_gets_the_bytes_alone(mesh: Mesh, peer: Peer) -> None:
    """For whatever address the request is: the application is a waypoint."""
    with mesh.app(echo) as app:
        mesh.server.put(replace(mesh.bob, application_tunnel=ApplicationTunnel(TunnelKind.NONE, app.port)))
        stream = peer.connect("10.9.9.9:8080")
        assert peer.answer(stream)[":status"] == "200"
        peer.send(stream, b"payload", end=True)
        assert peer.wait(h2.events.DataReceived).data == b"payload"  # type: ignore[attr-defined]


def test_a_sandwiched_application_is_judged_by_its_workloads_address(mesh: Mesh, peer: Peer) -> None:
    """Policies see the workload's address and the tunnel's port, not the loopback that is dialled."""
    elsewhere = Match(not_destination_ips=(ip_network(mesh.ip),))
    mesh.server.put(replace(DENY_ALL, rules=(((elsewhere,),),)))
    with socket.create_server(("127.0.0.1", 0)) as app:
        port = app.getsockname()[1]
        mesh.server.put(replace(mesh.bob, application_tunnel=ApplicationTunnel(TunnelKind.PROXY, port)))
        assert peer.answer(peer.connect(f"{mesh.ip}:8080"))[":status"] == "200"
        mesh.server.put(replace(DENY_ALL, rules=(((Match(destination_ports=(port,)),),),)))
        assert peer.answer(peer.connect(f"{mesh.ip}:8080"))[":status"] == "401"


def test_a_client_that_resets_while_the_application_is_dialled_leaves_nothing(mesh: Mesh, peer: Peer) -> None:
    """No connection stays registered, no application socket stays open."""
    with mesh.app(echo) as app:
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, connect(f"{mesh.ip}:{app.port}"))
        peer.h2.reset_stream(stream, 8)
        peer.flush()
        mesh.server.main.wait_logs(1)
        assert mesh.server.call(lambda: list(mesh.server.server.connections())) == []


def test_an_unknown_peer_is_described_by_its_baggage(mesh: Mesh, peer: Peer) -> None:
    """Identity comes from the certificate only; the rest may be said by the peer."""
    mesh.server.call(lambda: mesh.server.state.remove_address("lab//alice"))
    baggage = "k8s.cluster.name=far,k8s.namespace.name=lies,k8s.deployment.name=cart,service.name=cart-svc"
    with mesh.app(echo) as app:
        stream = peer.connect(f"{mesh.ip}:{app.port}", ("baggage", baggage))
        peer.answer(stream)
        ((labels, _),) = mesh.server.samples(OPENED)
    assert (labels["source_workload"], labels["source_canonical_service"]) == ("cart", "cart-svc")
    assert (labels["source_cluster"], labels["source_workload_namespace"]) == ("far", "default")
    assert labels["source_principal"] == str(ALICE)


@pytest.mark.parametrize(("network", "name"), [("dc2", "cart"), ("LAB", "alice")])
def test_who_comes_from_another_network_is_described_by_its_baggage(
    mesh: Mesh, peer: Peer, network: str, name: str
) -> None:
    """The address of a gateway names nobody, even where a workload has it; networks are compared without case."""
    with mesh.app(echo) as app:
        said = (("baggage", "k8s.deployment.name=cart"), ("x-forwarded-network", network))
        assert peer.answer(peer.connect(f"{mesh.ip}:{app.port}", *said))[":status"] == "200"
        ((labels, _),) = mesh.server.samples(OPENED)
    assert labels["source_workload"] == name


def test_each_request_of_a_tunnel_counts_as_what_it_says_of_itself(mesh: Mesh, peer: Peer) -> None:
    """Who asks, for which service of several at the port, from where: what one said is not taken for the next."""
    with mesh.app(echo) as app:
        shops = [Service(name, "default", f"{name}.lab", ports={80: app.port}) for name in ("one", "two")]
        for shop in shops:
            mesh.server.put(shop)
        mesh.server.put(replace(mesh.bob, services={shop.namespaced_hostname: {80: app.port} for shop in shops}))
        told = []
        for said in (
            (("x-forwarded-network", "far"), ("baggage", "k8s.deployment.name=cart")),
            (("x-forwarded-network", "far"), ("baggage", "k8s.deployment.name=till")),
            (("baggage", "k8s.deployment.name=till"),),
            (("forwarded", 'for="10.1.2.3:4711";host=two.lab'), ("baggage", "k8s.deployment.name=till")),
            (("forwarded", 'for="10.1.2.3:4711";host=three.lab'), ("baggage", "k8s.deployment.name=till")),
        ):
            before = mesh.server.samples(OPENED)
            assert peer.answer(peer.connect(f"{mesh.ip}:{app.port}", *said))[":status"] == "200"
            ((labels, _),) = [one for one in mesh.server.samples(OPENED) if one not in before]
            told.append((labels["source_workload"], labels["destination_service"]))
    assert told == [
        ("cart", "one.lab"),
        ("till", "one.lab"),
        ("alice", "one.lab"),
        ("alice", "two.lab"),
        ("alice", "one.lab"),
    ]


def test_without_baggage_nobody_is_told_who_answers_nor_believed_who_asks() -> None:
    """`response_baggage: false` leaves the workload's description out of the answer, and the peer's unread."""
    with (
        Mesh(server_config=replace(CONFIG, response_baggage=False)) as mesh,
        dial((mesh.ip, 15008), mesh.authority.issue(ALICE), mesh.authority.pem) as peer,
        mesh.app(echo) as app,
    ):
        mesh.server.call(lambda: mesh.server.state.remove_address("lab//alice"))
        answer = peer.answer(peer.connect(f"{mesh.ip}:{app.port}", ("baggage", "k8s.deployment.name=cart")))
        ((labels, _),) = mesh.server.samples(OPENED)
    assert (answer[":status"], "baggage" in answer) == ("200", False)
    assert (labels["source_workload"], labels["source_workload_namespace"]) == ("unknown", "default")


CAROL = replace(BOB, service_account="carol")


@pytest.mark.parametrize("now", [[], [LocalWorkload(1, "carol", "default", CAROL, "carol.service")]])
def test_a_stream_that_comes_behind_the_goodbye_of_a_workload_is_refused(
    mesh: Mesh, peer: Peer, now: list[LocalWorkload]
) -> None:
    """An announced GOAWAY still takes what was on its way; who is not captured any more gets nothing of it.

    Nor does whoever has its number now.
    """
    mesh.server.put(workload("carol", CAROL, mesh.ip))
    with mesh.app(echo) as app:
        first = peer.connect(f"{mesh.ip}:{app.port}")
        assert peer.answer(first)[":status"] == "200"
        peer.send(first, b"here")
        peer.wait(h2.events.DataReceived)
        mesh.server.call(lambda: mesh.server.server.set_local_workloads(now))
        peer.connect(f"{mesh.ip}:{app.port}")  # GOAWAY has not been read yet
        [record] = mesh.server.main.wait_logs(1)
        assert str(dict(record.fields)["error"]).endswith("is not captured any more")
        assert app.accepted == 1
        peer.sock.close()


def test_what_a_tunnel_remembers_of_its_requests_is_bounded(
    mesh: Mesh, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that describes itself anew each time costs no memory."""
    monkeypatch.setattr(inbound_stream, "MAX_KNOWN", 2)
    with mesh.app(echo) as app:
        for number in range(5):
            stream = peer.connect(f"{mesh.ip}:{app.port}", ("baggage", f"service.name=n{number}"))
            assert peer.answer(stream)[":status"] == "200"
            known = mesh.server.call(lambda: [len(one.known) for one in mesh.server.server._host.inbound._peers])
            assert 1 <= known[0] <= 2
