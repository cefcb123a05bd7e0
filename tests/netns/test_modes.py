"""Users, the whole host, exclusions, and what remains of a connection, on the real kernel."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.netns.conftest import captured, workload
from tests.support.agent import until
from tests.support.netns import attempt, is_answered
from tests.support.patience import PATIENCE

from hostmesh.kernel.listeners import Listener, listeners
from hostmesh.kernel.sockets import get_mark, original_destination
from hostmesh.model.address import SocketAddress
from hostmesh.proxy.sockets import Connect
from hostmesh.redirect.plan import compile_intent
from hostmesh.redirect.subjects import CapturedHost, CapturedUser, Exclusions, Intent, Reserved, Scope
from hostmesh.transport.loop import Loop

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns

FAMILIES = pytest.mark.parametrize("family", ["v4", "v6"])
BACKENDS = pytest.mark.parametrize(
    ("lab", "family"),
    [("nft", "v6"), ("iptables-nft", "v4"), ("iptables-legacy", "v6"), ("python-iptables", "v6")],
    indirect=["lab"],
)
ALICE, BOB = 20001, 20002
USER = CapturedUser(workload(5), ALICE, (8050,))
HOST = CapturedHost(workload(9))


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Sockets that are made meanwhile belong to the user."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def socket_of(lab: Lab, uid: int, like: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in like else socket.AF_INET
    with lab.host.entered(), acting_as(uid):
        sock = lab.stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    sock.settimeout(PATIENCE)
    return sock


def listen_as(lab: Lab, uid: int, address: str, port: int) -> socket.socket:
    sock = socket_of(lab, uid, address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen()
    return sock


def intent(lab: Lab, **changed: object) -> Intent:
    whole = Intent(lab.units, (USER,), HOST, cgroup_prefix=lab.cgroups.nft_prefix)
    return replace(whole, **changed)  # type: ignore[arg-type]


def apply(lab: Lab, **changed: object) -> None:
    lab.apply(compile_intent(intent(lab, **changed)))
    assert lab.verify() == ()


def address(lab: Lab, of: str, family: str) -> str:
    return str(getattr(getattr(lab, of), family))


def captured_mark(lab: Lab, connect: Callable[[], object], port: int, family: str = "v4") -> int:
    """The mark of what arrives at the proxy's port."""
    proxy = lab.listen(lab.host, "::" if port == 15006 else "127.0.0.1" if family == "v4" else "::1", port)
    connect()
    return get_mark(lab.accept(proxy))


# Users


@FAMILIES
def test_outbound_of_a_user_is_captured(lab: Lab, family: str) -> None:
    """The owner of the socket decides; a process of a captured unit is that unit, whoever it runs as."""
    apply(lab, host=None)
    remote = (address(lab, "peer", family), 8080)
    proxy = lab.listen(lab.host, "127.0.0.1" if family == "v4" else "::1", 15001)
    socket_of(lab, ALICE, remote[0]).connect(remote)
    accepted = lab.accept(proxy)
    assert (get_mark(accepted), original_destination(accepted)) == (0x5000, SocketAddress.of(*remote))
    with lab.a.entered():
        inside = socket_of(lab, ALICE, remote[0])
    inside.connect(remote)
    assert get_mark(lab.accept(proxy)) == 0x1000


@FAMILIES
def test_outbound_of_other_users_is_not(lab: Lab, family: str) -> None:
    """Neither another user nor root."""
    apply(lab, host=None)
    remote = lab.listen(lab.peer, address(lab, "peer", family), 8080)
    for uid in (BOB, 0):
        socket_of(lab, uid, remote.getsockname()[0]).connect(remote.getsockname()[:2])
        lab.accept(remote)


@FAMILIES
def test_inbound_of_a_user_is_captured_by_its_ports(lab: Lab, family: str) -> None:
    """The kernel tells which ports those are."""
    host = address(lab, "host", family)
    listen_as(lab, ALICE, host, 8050)
    with lab.host.entered():
        seen = listeners()
    assert [(one.port, one.uid) for one in seen] == [(8050, ALICE)]
    apply(lab, users=(replace(USER, ports=tuple(one.port for one in seen if one.uid == ALICE)),), host=None)
    mark = captured_mark(lab, lambda: lab.connect(lab.peer, (host, 8050)), 15006)
    assert mark == 0x5000


@BACKENDS
@pytest.mark.parametrize("who", ["peer", "host"])
def test_port_of_a_user_that_nobody_knows_yet_does_not_answer(lab: Lab, family: str, who: str) -> None:
    """Neither another host nor a neighbour; nor is who has asked before answered once it is known."""
    apply(lab, host=None)
    host = address(lab, "host", family)
    fresh = listen_as(lab, ALICE, host, 8051)
    early = lab.socket(getattr(lab, who), like=host)
    assert not is_answered(early, (host, 8051))
    apply(lab, users=(replace(USER, ports=(8050, 8051)),), host=None)
    assert captured_mark(lab, lambda: lab.connect(getattr(lab, who), (host, 8051)), 15006) == 0x5000
    fresh.settimeout(1.5)  # the first one's second attempt comes after a second
    with pytest.raises(TimeoutError):
        fresh.accept()


@FAMILIES
def test_loopback_of_a_user_is_the_hosts_own(lab: Lab, family: str) -> None:
    """Whoever runs here reaches it there, known or not."""
    apply(lab, host=None)
    loopback = "127.0.0.1" if family == "v4" else "::1"
    fresh = listen_as(lab, ALICE, loopback, 8051)
    lab.connect(lab.host, (loopback, 8051))
    lab.accept(fresh)


@FAMILIES
def test_proxy_reaches_a_users_port_only_if_the_user_listens_there(lab: Lab, family: str) -> None:
    """Whoever else takes the port, in a unit or not, is not reached under the user's policy."""
    apply(lab, host=None)
    host = address(lab, "host", family)
    for uid, reached in ((ALICE, True), (BOB, False), (0, False)):
        with listen_as(lab, uid, host, 8050):
            sock = lab.socket(lab.host, like=host)
            sock.setsockopt(socket.SOL_SOCKET, 36, 0x5539)
            assert (attempt(sock, (host, 8050)) == 0) == reached, uid
    for port, cgroup in ((8010, lab.a), (8040, lab.other)):
        lab.listen(lab.host, host, port, cgroup)
        with pytest.raises(ConnectionRefusedError):
            lab.connect(lab.host, (host, port), mark=0x5539)


# The whole host


@FAMILIES
def test_host_captures_everybody_else(lab: Lab, family: str) -> None:
    """Units and users stay who they are; everybody else, root and other services, is the host's workload."""
    apply(lab)
    remote = (address(lab, "peer", family), 8080)
    proxy = lab.listen(lab.host, "127.0.0.1" if family == "v4" else "::1", 15001)
    for make, mark in (
        (lambda: lab.socket(lab.host, lab.a, remote[0]), 0x1000),
        (lambda: lab.socket(lab.host, lab.other, remote[0]), 0x9000),
        (lambda: socket_of(lab, ALICE, remote[0]), 0x5000),
        (lambda: socket_of(lab, BOB, remote[0]), 0x9000),
    ):
        make().connect(remote)
        assert get_mark(lab.accept(proxy)) == mark


@FAMILIES
def test_host_captures_inbound_too(lab: Lab, family: str) -> None:
    """Any port, but sshd's and the proxy's own."""
    apply(lab, reserved=Reserved(inbound_ports=(22, 2222)))
    host = address(lab, "host", family)
    proxy = lab.listen(lab.host, "::", 15006)
    for port, cgroup, mark in ((8010, lab.a, 0x1000), (8040, lab.other, 0x9000), (8060, None, 0x9000)):
        lab.listen(lab.host, host, port, cgroup)
        lab.connect(lab.peer, (host, port))
        assert get_mark(lab.accept(proxy)) == mark
    for port in (22, 2222, 15008):
        listener = lab.listen(lab.host, host, port)
        lab.connect(lab.peer, (host, port))
        lab.accept(listener)


@FAMILIES
def test_host_never_loses_what_repairs_it(lab: Lab, family: str) -> None:
    """Resolvers and the control plane are reached directly, the agent's own sockets too, and so is the host itself."""
    peer, host = address(lab, "peer", family), address(lab, "host", family)
    apply(lab, reserved=Reserved(outbound=((ip_network(peer), 53),), owners=(BOB,)))
    resolver, elsewhere = lab.listen(lab.peer, peer, 53), lab.listen(lab.peer, peer, 8080)
    lab.connect(lab.host, (peer, 53))
    lab.accept(resolver)
    socket_of(lab, BOB, peer).connect((peer, 8080))
    lab.accept(elsewhere)
    local = lab.listen(lab.host, host, 8080)
    lab.connect(lab.host, (host, 8080))
    lab.accept(local)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.host, (peer, 8080))


@FAMILIES
def test_proxy_reaches_of_the_host_only_what_is_no_other_workloads(lab: Lab, family: str) -> None:
    """Nobody gets around the policy of a unit or a user by asking for the host."""
    apply(lab)
    host = address(lab, "host", family)
    for port, cgroup in ((8010, lab.a), (8030, lab.deep), (8040, lab.other), (8060, None)):
        lab.listen(lab.host, host, port, cgroup)
    listen_as(lab, ALICE, host, 8050)
    for port, reached in ((8010, False), (8030, False), (8040, True), (8050, False), (8060, True)):
        sock = lab.socket(lab.host, like=host)
        sock.setsockopt(socket.SOL_SOCKET, 36, 0x9539)
        assert (attempt(sock, (host, port)) == 0) == reached, port


def test_sessions_live_on_when_the_whole_host_is_captured(lab: Lab) -> None:
    """Those of units, of users and of root alike, in both directions."""
    remote, local = lab.listen(lab.peer, lab.peer.v4, 8080), lab.listen(lab.host, lab.host.v4, 8060)
    makers = (lambda: lab.socket(lab.host, lab.a), lambda: socket_of(lab, ALICE, ""), lambda: lab.socket(lab.host))
    pairs = []
    for make in makers:
        client = make()
        client.connect((lab.peer.v4, 8080))
        pairs.append((client, lab.accept(remote)))
    pairs.append((lab.connect(lab.peer, (lab.host.v4, 8060)), lab.accept(local)))
    apply(lab)
    for one, other in pairs:
        one.sendall(b"still here")
        assert other.recv(100) == b"still here"
        other.sendall(b"so am I")
        assert one.recv(100) == b"so am I"


# Exclusions


EXCLUSIONS = [
    Exclusions(ports=(8080, 5432)),
    Exclusions(networks=(ip_network("10.77.0.0/24"), ip_network("fd77::/64"))),
    Exclusions(interfaces=("LINK",)),
    Exclusions(owners=(0, ALICE)),
]
KINDS = ["ports", "networks", "interfaces", "owners"]
ELSEWHERE = [
    Exclusions(ports=(8081,)),
    Exclusions(networks=(ip_network("10.0.0.0/16"), ip_network("fd78::/64"))),
    Exclusions(interfaces=("other0",)),
    Exclusions(owners=(BOB,)),
]


def link(lab: Lab) -> str:
    return lab.host.run("ip", "-o", "route", "get", lab.peer.v4).split(" dev ")[1].split()[0]


def scoped(lab: Lab, subject: str, scope: Scope) -> None:
    """Everybody is captured, and the scope is that of one."""
    apply(
        lab,
        units=(captured(lab.a, 1, scope if subject == "unit" else Scope()), captured(lab.b, 2)),
        users=(replace(USER, scope=scope if subject == "user" else Scope()),),
        host=replace(HOST, scope=scope) if subject == "host" else None,
    )


@FAMILIES
@pytest.mark.parametrize("subject", ["unit", "user", "host"])
@pytest.mark.parametrize(("excluded", "elsewhere"), list(zip(EXCLUSIONS, ELSEWHERE, strict=True)), ids=KINDS)
def test_outbound_exclusions(lab: Lab, subject: str, excluded: Exclusions, elsewhere: Exclusions, family: str) -> None:
    """Each kind lets connections of the one workload go their own way, and of no other; the mark stays nobody's."""
    peer = address(lab, "peer", family)
    remote = lab.listen(lab.peer, peer, 8080)
    makers: dict[str, Callable[[], socket.socket]] = {
        "unit": lambda: lab.socket(lab.host, lab.a, peer),
        "user": lambda: socket_of(lab, ALICE, peer),
        "host": lambda: lab.socket(lab.host, lab.other, peer),
    }
    if excluded.interfaces:
        excluded = replace(excluded, interfaces=(link(lab),))
    scoped(lab, subject, Scope(outbound=excluded))
    makers[subject]().connect((peer, 8080))
    lab.accept(remote)
    with pytest.raises(ConnectionRefusedError):
        lab.socket(lab.host, lab.b, peer).connect((peer, 8080))
    scoped(lab, subject, Scope(outbound=elsewhere))
    with pytest.raises(ConnectionRefusedError):
        makers[subject]().connect((peer, 8080))


@FAMILIES
@pytest.mark.parametrize("subject", ["unit", "user", "host"])
@pytest.mark.parametrize(
    ("excluded", "elsewhere"), list(zip(EXCLUSIONS[:3], ELSEWHERE[:3], strict=True)), ids=KINDS[:3]
)
def test_inbound_exclusions(lab: Lab, subject: str, excluded: Exclusions, elsewhere: Exclusions, family: str) -> None:
    """As outbound: ports, where the peer comes from, and by which interface."""
    host = address(lab, "host", family)
    ports = {"unit": 8010, "user": 8050, "host": 8060}
    opened = {
        "unit": lab.listen(lab.host, host, 8010, lab.a),
        "user": listen_as(lab, ALICE, host, 8050),
        "host": lab.listen(lab.host, host, 8060),
    }
    if excluded.interfaces:
        excluded = replace(excluded, interfaces=(link(lab),))
    if excluded.ports:
        excluded = replace(excluded, ports=(ports[subject],))
    lab.listen(lab.host, host, 8020, lab.b)
    scoped(lab, subject, Scope(inbound=excluded))
    lab.connect(lab.peer, (host, ports[subject]))
    lab.accept(opened[subject])
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.peer, (host, 8020))
    scoped(lab, subject, Scope(inbound=elsewhere))
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.peer, (host, ports[subject]))


@pytest.mark.parametrize("subject", ["unit", "user", "host"])
def test_bypass_of_inbound_capture(lab: Lab, subject: str) -> None:
    """Plaintext reaches the workload, what it sends is captured, and HBONE still comes in under its own policy."""
    scoped(lab, subject, Scope(bypass_inbound=True))
    opened = {
        "unit": (lab.listen(lab.host, lab.host.v4, 8010, lab.a), lab.socket(lab.host, lab.a), 0x1539),
        "user": (listen_as(lab, ALICE, lab.host.v4, 8050), socket_of(lab, ALICE, ""), 0x5539),
        "host": (lab.listen(lab.host, lab.host.v4, 8060), lab.socket(lab.host), 0x9539),
    }
    listener, caller, mark = opened[subject]
    lab.connect(lab.peer, listener.getsockname())
    lab.accept(listener)
    lab.connect(lab.host, listener.getsockname(), mark=mark)
    lab.accept(listener)
    with pytest.raises(ConnectionRefusedError):
        caller.connect((lab.peer.v4, 8080))


def test_slice_is_a_workload(lab: Lab) -> None:
    """Everything in it is the one workload, but a unit of it that is one itself."""
    whole = captured(lab.deep, 7)
    apply(lab, units=(captured(lab.deep, 3), replace(whole, cgroup=parent(lab.deep.path))), users=(), host=None)
    proxy = lab.listen(lab.host, "127.0.0.1", 15001)
    sibling = type(lab.deep)(lab.cgroups, f"{parent(lab.deep.path)}/app@2.service")
    sibling.start()
    for cgroup, mark in ((lab.deep, 0x3000), (sibling, 0x7000)):
        lab.connect(lab.host, (lab.peer.v4, 8080), cgroup)
        assert get_mark(lab.accept(proxy)) == mark


def parent(path: str) -> str:
    return path.rpartition("/")[0]


# What remains of a connection


def remains(lab: Lab, where: str, port: int, cgroup: object, mark: int = 0) -> tuple[str, int]:
    """A connection to a listener of the host has ended there first; the client's address and port."""
    listener = lab.listen(lab.host, lab.host.v4, port, cgroup)  # type: ignore[arg-type]
    client = lab.connect(getattr(lab, where), (lab.host.v4, port), mark=mark)
    server = lab.accept(listener)
    server.close()
    assert client.recv(1) == b""
    name: tuple[str, int] = client.getsockname()
    client.close()
    until(lambda: lab.host.run("ss", "-Htn", "state", "time-wait", f"sport = :{port}") != "")
    return name


def again(lab: Lab, where: str, name: tuple[str, int], port: int, mark: int = 0) -> int:
    sock = lab.socket(getattr(lab, where))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, 36, mark)
    sock.bind(name)
    return sock.connect_ex((lab.host.v4, port))


def test_new_connection_where_one_has_just_ended_is_captured(lab: Lab) -> None:
    """A client that keeps its port cannot stay outside the mesh by what an older connection left behind."""
    name = remains(lab, "peer", 8010, lab.a)
    apply(lab, host=None, listening={"prod/w1": (8010,)})
    proxy = lab.listen(lab.host, "::", 15006)
    assert again(lab, "peer", name, 8010) == 0
    assert get_mark(lab.accept(proxy)) == 0x1000


def test_service_that_is_no_workload_keeps_its_own(lab: Lab) -> None:
    """Its clients may reuse their ports as before."""
    name = remains(lab, "peer", 8040, lab.other)
    apply(lab, host=None, listening={"prod/w1": (8010,)})
    assert again(lab, "peer", name, 8040) == 0


def test_proxy_reaches_a_port_where_a_connection_has_just_ended(lab: Lab) -> None:
    """Services that close first would else refuse the proxy, once it has gone through its ports."""
    apply(lab, host=None, listening={"prod/w1": (8010,), "prod/w2": (8020,)})
    for port, cgroup, mark in ((8010, lab.a, 0x1539), (8020, lab.b, 0x2539)):
        name = remains(lab, "host", port, cgroup, mark)
        assert again(lab, "host", name, port, mark) == 0
    name = remains(lab, "host", 8021, lab.b, 0x2539)
    assert again(lab, "host", name, 8021, 0x1539) != 0, "a neighbour's remains are a way in"


def test_another_attempt_is_not_made_from_the_next_such_port(lab: Lab) -> None:
    """Of a port that nobody has told of yet; the kernel draws ports in a row, so the next ones have just ended, too."""
    apply(lab, host=None)
    with lab.host.entered():
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40015")
    listener = lab.listen(lab.host, lab.host.v4, 8010, lab.a)
    with lab.host.entered(), closing(Loop()) as loop:
        for port in range(40000, 40016, 2):
            client = lab.socket(lab.host)
            client.setsockopt(socket.SOL_SOCKET, 36, 0x1539)
            client.bind((lab.host.v4, port))
            client.connect((lab.host.v4, 8010))
            lab.accept(listener).close()
            assert client.recv(1) == b""
            client.close()
        refused = lab.socket(lab.host)
        refused.setsockopt(socket.SOL_SOCKET, 36, 0x1539)
        assert refused.connect_ex((lab.host.v4, 8010)), "a port is left that has not just ended"
        made = Connect(loop, SocketAddress.of(lab.host.v4, 8010), 1, lambda *_: None, 0x1539, local=True)
        assert made.connected
        made.sock.close()


def test_listeners_tell_their_cgroup_and_owner(lab: Lab) -> None:
    """What `listening` is made of."""
    lab.listen(lab.host, lab.host.v4, 8010, lab.a)
    lab.listen(lab.host, lab.host.v6, 8020, lab.b)
    with lab.host.entered():
        found = listeners()
    expected = {
        Listener(type(one.address)(one.address), port, 0, lab.cgroups.id(cgroup.path) or 0)
        for one, (port, cgroup) in zip(found, ((8010, lab.a), (8020, lab.b)), strict=True)
    }
    assert set(found) == expected


MARKS = {"unit": 0x1000, "user": 0x5000, "host": 0x9000}


@BACKENDS
@pytest.mark.parametrize("who", list(MARKS))
def test_a_port_that_the_proxy_has_reset_is_known_again(lab: Lab, who: str, family: str) -> None:
    """The kernel remembers the connection for ten seconds, and looks at no rule for nat when its client comes again."""
    apply(lab)
    remote = (address(lab, "peer", family), 8080)
    makers = {
        "unit": lambda: lab.socket(lab.host, lab.a, remote[0]),
        "user": lambda: socket_of(lab, ALICE, remote[0]),
        "host": lambda: lab.socket(lab.host, lab.other, remote[0]),
    }
    name = reset_by_proxy(lab, 15001, makers[who](), remote, MARKS[who])
    for _ in range(2):
        assert reset_by_proxy(lab, 15001, makers[who](), remote, MARKS[who], name) == name


@BACKENDS
@pytest.mark.parametrize("who", list(MARKS))
def test_so_is_one_from_outside(lab: Lab, who: str, family: str) -> None:
    """By the port that was asked for, as a workload was last seen to listen on it."""
    ports = {"unit": 8010, "user": 8050, "host": 8040}
    apply(lab, listening={"prod/w1": (8010,)})
    host = address(lab, "host", family)
    lab.listen(lab.host, host, 8010, lab.a)
    lab.listen(lab.host, host, 8040, lab.other)
    listen_as(lab, ALICE, host, 8050)
    name = None
    for _ in range(3):
        sock = lab.socket(lab.peer, like=host)
        name = reset_by_proxy(lab, 15006, sock, (host, ports[who]), MARKS[who], name)


def reset_by_proxy(
    lab: Lab, port: int, client: socket.socket, remote: tuple[str, int], mark: int, name: Any = None
) -> Any:
    """A redirected connection, perhaps from a name that it is to have; the proxy sees `mark`. The client's name."""
    proxy = lab.listen(lab.host, "::" if port == 15006 else "127.0.0.1" if "." in remote[0] else "::1", port)
    if name is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(name)
    client.connect(remote)
    name = client.getsockname()
    accepted = lab.accept(proxy)
    assert get_mark(accepted) == mark
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()
    proxy.close()
    return name
