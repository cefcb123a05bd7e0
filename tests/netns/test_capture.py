"""The planned rules on the real kernel: who is captured, who is not, and what the proxy may reach."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from tests.support.netns import connect, namespace

from hostmesh.kernel.sockets import get_mark, original_destination
from hostmesh.model.address import SocketAddress
from hostmesh.redirect.plan import Intent, compile_intent, plan

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("lab", ["nft", "iptables-legacy", "python-iptables"], indirect=True),
]

FAMILIES = pytest.mark.parametrize("family", ["v4", "v6"])


def address(lab: Lab, of: str, family: str) -> str:
    return str(getattr(getattr(lab, of), family))


@FAMILIES
def test_outbound_of_each_workload_carries_its_mark_and_destination(lab: Lab, family: str) -> None:
    """A workload's connect arrives at 15001 on loopback, marked with its number, original destination intact."""
    lab.apply()
    remote = (address(lab, "peer", family), 8080)
    proxy = lab.listen(lab.host, "127.0.0.1" if family == "v4" else "::1", 15001)
    for cgroup, mark in ((lab.a, 0x1000), (lab.b, 0x2000), (lab.deep, 0x3000)):
        lab.connect(lab.host, remote, cgroup)
        accepted = lab.accept(proxy)
        assert (get_mark(accepted), original_destination(accepted)) == (mark, SocketAddress.of(*remote))


@FAMILIES
def test_outbound_of_others_is_untouched(lab: Lab, family: str) -> None:
    """Neither a unit that is no workload nor a process in no unit is captured."""
    lab.apply()
    remote = lab.listen(lab.peer, address(lab, "peer", family), 8080)
    for cgroup in (lab.other, None):
        lab.connect(lab.host, remote.getsockname()[:2], cgroup)
        assert original_destination(lab.accept(remote)).port == 8080


@FAMILIES
@pytest.mark.parametrize("mark", [0x539, 0x111])
def test_proxy_marks_are_never_captured(lab: Lab, family: str, mark: int) -> None:
    """A socket with the proxy's mark goes straight out, even from a workload's cgroup."""
    lab.apply()
    remote = lab.listen(lab.peer, address(lab, "peer", family), 8080)
    lab.connect(lab.host, remote.getsockname()[:2], lab.a, mark)
    lab.accept(remote)


@pytest.mark.parametrize("loopback", ["127.0.0.1", "127.7.7.7", "::1"])
def test_loopback_is_never_captured(lab: Lab, loopback: str) -> None:
    """127.0.0.0/8 and ::1 stay inside the host."""
    lab.apply()
    local = lab.listen(lab.host, loopback, 8080)
    lab.connect(lab.host, (loopback, 8080), lab.a)
    lab.accept(local)


@FAMILIES
def test_call_between_two_workloads_of_the_host_is_captured(lab: Lab, family: str) -> None:
    """A workload that calls another over the host's own address goes through the mesh like any other."""
    lab.apply()
    own = (address(lab, "host", family), 8020)
    lab.listen(lab.host, own[0], 8020, lab.b)
    proxy = lab.listen(lab.host, "127.0.0.1" if family == "v4" else "::1", 15001)
    lab.connect(lab.host, own, lab.a)
    accepted = lab.accept(proxy)
    assert (get_mark(accepted), original_destination(accepted)) == (0x1000, SocketAddress.of(*own))


@FAMILIES
def test_inbound_is_captured_by_the_listener(lab: Lab, family: str) -> None:
    """Nobody declared ports 8010 and 8030: the cgroup of who listens there decides."""
    lab.apply()
    host = address(lab, "host", family)
    lab.listen(lab.host, "::", 8010, lab.a)
    lab.listen(lab.host, host, 8030, lab.deep)
    proxy = lab.listen(lab.host, "::", 15006)
    for port, mark in ((8010, 0x1000), (8030, 0x3000)):
        lab.connect(lab.peer, (host, port))
        accepted = lab.accept(proxy)
        assert (get_mark(accepted), original_destination(accepted)) == (mark, SocketAddress.of(host, port))


@FAMILIES
def test_inbound_of_others_is_untouched(lab: Lab, family: str) -> None:
    """A service that is no workload is reached directly, sshd among them."""
    lab.apply()
    host = address(lab, "host", family)
    for port, cgroup in ((8040, lab.other), (22, None)):
        listener = lab.listen(lab.host, host, port, cgroup)
        lab.connect(lab.peer, (host, port))
        assert get_mark(lab.accept(listener)) == 0


def test_excluded_port_is_never_captured_inbound(lab: Lab) -> None:
    """The real port of sshd stays reachable even if somebody enrolled the unit that listens there."""
    lab.apply(plan(lab.units, excluded_ports=(2222,), cgroup_prefix=lab.cgroups.nft_prefix))
    ssh = lab.listen(lab.host, lab.host.v4, 2222, lab.a)
    lab.connect(lab.peer, (lab.host.v4, 2222))
    lab.accept(ssh)


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_sessions_older_than_the_rules_live_on(lab: Lab, direction: str) -> None:
    """Enrolling takes new connections only: the next packet of an old one is no SYN."""
    if direction == "inbound":
        listener = lab.listen(lab.host, lab.host.v4, 8010, lab.a)
        client = lab.connect(lab.peer, (lab.host.v4, 8010))
    else:
        listener = lab.listen(lab.peer, lab.peer.v4, 8080)
        client = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    server = lab.accept(listener)
    lab.apply()
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"still here")
        assert receiver.recv(100) == b"still here"


def test_forwarded_connection_is_not_taken_for_a_local_one(lab: Lab) -> None:
    """A wildcard listener of a workload must not attract what the host only routes."""
    lab.apply()
    lab.listen(lab.host, "0.0.0.0", 8010, lab.a)
    with namespace("behind") as fresh:
        _, behind = connect(lab.host, fresh, 78)
        behind.ip("route add default via 10.78.0.1")
        lab.peer.ip(f"route add 10.78.0.0/24 via {lab.host.v4}")
        with lab.host.entered():
            lab.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        target = lab.listen(behind, behind.v4, 8010)
        lab.connect(lab.peer, (behind.v4, 8010))
        lab.accept(target)


@FAMILIES
def test_guard_lets_the_proxy_reach_the_workloads_own_port_only(lab: Lab, family: str) -> None:
    """Marked for workload 1, the proxy reaches unit a; unit b, another service and sshd answer with a reset."""
    lab.apply()
    host = address(lab, "host", family)
    for port, cgroup in ((8010, lab.a), (8020, lab.b), (8030, lab.deep), (8040, lab.other), (22, None)):
        lab.listen(lab.host, host, port, cgroup)
    allowed = {(0x1539, 8010), (0x2539, 8020), (0x3539, 8030)}
    for mark in (0x1539, 0x2539, 0x3539, 0x4539):
        for port in (8010, 8020, 8030, 8040, 22, 8099):
            sock = lab.socket(lab.host, like=host)
            sock.setsockopt(socket.SOL_SOCKET, 36, mark)
            reached = sock.connect_ex((host, port)) == 0
            assert reached == ((mark, port) in allowed), (hex(mark), port)


@FAMILIES
def test_connection_to_a_workload_cannot_leave_the_host(lab: Lab, family: str) -> None:
    """A peer that names an address elsewhere does not get there under the workload's mark."""
    lab.apply()
    remote = lab.listen(lab.peer, address(lab, "peer", family), 8080)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.host, remote.getsockname()[:2], mark=0x1539)
    lab.connect(lab.host, remote.getsockname()[:2], mark=0x539)


def test_guard_holds_on_loopback_too(lab: Lab) -> None:
    """A workload that listens on 127.0.0.1 only is reached by the proxy as its own, and as no other's."""
    lab.apply()
    lab.listen(lab.host, "127.0.0.1", 8010, lab.a)
    lab.connect(lab.host, ("127.0.0.1", 8010), mark=0x1539)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.host, ("127.0.0.1", 8010), mark=0x2539)


def test_guard_leaves_the_proxys_other_connections_alone(lab: Lab) -> None:
    """Outbound connections of the proxy carry no number: they may go to the host's own ports, 15008 above all."""
    lab.apply()
    inbound = lab.listen(lab.host, "::", 15008)
    lab.connect(lab.host, (lab.host.v4, 15008), mark=0x539)
    lab.accept(inbound)


def test_application_answers_the_proxy(lab: Lab) -> None:
    """The guarded connection carries data both ways, though the accepted socket inherits the proxy's mark."""
    lab.apply()
    listener = lab.listen(lab.host, lab.host.v4, 8010, lab.a)
    client = lab.connect(lab.host, (lab.host.v4, 8010), mark=0x1539)
    server = lab.accept(listener)
    client.sendall(b"ping")
    assert server.recv(10) == b"ping"
    server.sendall(b"pong")
    assert client.recv(10) == b"pong"


@pytest.mark.parametrize("port", [15001, 15006])
def test_capture_ports_refuse_direct_connections(lab: Lab, port: int) -> None:
    """From outside, from the host and from a workload over loopback: the ports look closed."""
    lab.apply()
    lab.listen(lab.host, "::", port)
    for where, target, cgroup in (
        (lab.peer, lab.host.v4, None),
        (lab.peer, lab.host.v6, None),
        (lab.host, "127.0.0.1", None),
        (lab.host, "127.0.0.1", lab.a),
    ):
        with pytest.raises(ConnectionRefusedError):
            lab.connect(where, (target, port), cgroup)


@FAMILIES
def test_agent_gone_means_refused_never_plaintext(lab: Lab, family: str) -> None:
    """Rules without a proxy fail closed both ways, though the real destination would answer."""
    lab.apply()
    host, remote = address(lab, "host", family), address(lab, "peer", family)
    lab.listen(lab.peer, remote, 8080)
    lab.listen(lab.host, host, 8010, lab.a)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.host, (remote, 8080), lab.a)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.peer, (host, 8010))


def test_socket_made_before_enrolment_of_the_unit_is_captured(lab: Lab) -> None:
    """Enrolling needs no restart: the cgroup counts at the connect, and the unit had it before."""
    sock = lab.socket(lab.host, lab.a)
    lab.apply()
    proxy = lab.listen(lab.host, "127.0.0.1", 15001)
    sock.connect((lab.peer.v4, 8080))
    assert get_mark(lab.accept(proxy)) == 0x1000


def test_the_kernel_tells_who_asks_the_socks_proxy(lab: Lab) -> None:
    """A workload's connection to it is marked and not redirected; nobody else has a mark, not even who sets one."""
    lab.apply(compile_intent(Intent(lab.units, cgroup_prefix=lab.cgroups.nft_prefix, socks5=15080)))
    proxy = lab.listen(lab.host, "127.0.0.1", 15080)
    callers = ((lab.a, 0, 0x1000), (lab.deep, 0, 0x3000), (lab.other, 0, 0), (None, 0x1000, 0))
    for cgroup, own_mark, expected in callers:
        lab.connect(lab.host, ("127.0.0.1", 15080), cgroup, own_mark)
        assert get_mark(lab.accept(proxy)) == expected


@FAMILIES
def test_a_neighbour_outside_the_mesh_is_a_stranger(lab: Lab, family: str) -> None:
    """At the host's own address it comes to the proxy in plaintext, to be judged; over loopback it is at home."""
    host, loopback = address(lab, "host", family), "127.0.0.1" if family == "v4" else "::1"
    lab.apply(compile_intent(Intent(lab.units, cgroup_prefix=lab.cgroups.nft_prefix, listening={"prod/w1": (8010,)})))
    own = lab.listen(lab.host, "::", 8010, lab.a)
    other = lab.listen(lab.host, host, 8040, lab.other)
    proxy = lab.listen(lab.host, "::", 15006)
    for cgroup in (None, lab.other):
        lab.connect(lab.host, (host, 8010), cgroup)
        accepted = lab.accept(proxy)
        assert (get_mark(accepted), original_destination(accepted)) == (0x1000, SocketAddress.of(host, 8010))
        lab.connect(lab.host, (loopback, 8010), cgroup)
        lab.accept(own)
        lab.connect(lab.host, (host, 8040), cgroup)
        lab.accept(other)


def test_the_proxy_itself_is_no_neighbour(lab: Lab) -> None:
    """Its connection to the workload must not come back to it."""
    lab.apply(compile_intent(Intent(lab.units, cgroup_prefix=lab.cgroups.nft_prefix, listening={"prod/w1": (8010,)})))
    own = lab.listen(lab.host, lab.host.v4, 8010, lab.a)
    lab.connect(lab.host, (lab.host.v4, 8010), mark=0x1539)
    lab.accept(own)


def test_a_neighbour_calls_other_hosts_as_ever(lab: Lab) -> None:
    """The same port elsewhere is not the workload's."""
    lab.apply(compile_intent(Intent(lab.units, cgroup_prefix=lab.cgroups.nft_prefix, listening={"prod/w1": (8010,)})))
    remote = lab.listen(lab.peer, lab.peer.v4, 8010)
    lab.connect(lab.host, (lab.peer.v4, 8010))
    lab.accept(remote)
