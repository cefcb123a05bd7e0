"""hostmesh-netns on the real kernel: what it opens and lays out in a namespace, and what it refuses."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.agent import until
from tests.support.netns import Namespace, linked, listen, make_socket, namespace
from tests.support.netns_helper import running_helper
from tests.support.patience import PATIENCE

from hostmesh.enrolment.netns_client import Entered, HelperUnavailable, NamespaceRefused, NetnsHelper
from hostmesh.kernel.namespaces import open_namespace
from hostmesh.kernel.sockets import get_mark, original_destination
from hostmesh.redirect.plan import ListenerPorts

pytestmark = pytest.mark.netns

PORTS = ListenerPorts()


@dataclass
class Lab:
    """`pod` is what is captured, `peer` is outside; `fd` is the pod's namespace."""

    helper: NetnsHelper
    peer: Namespace
    pod: Namespace
    fd: int
    stack: ExitStack

    def enter(self, *, excluded: tuple[int, ...] = (), addresses: tuple[str, ...] = ()) -> Entered:
        entered = self.helper.enter(self.fd, PORTS, excluded, map(ip_address, addresses))
        for _, sock in entered.listeners:
            self.stack.enter_context(sock)
            sock.settimeout(PATIENCE)
        return entered

    def connect(self, where: Namespace, address: str, port: int, mark: int = 0) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = self.stack.enter_context(make_socket(where, None, family))
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sock.connect((address, port))
        return sock

    def accepted(self, listener: socket.socket) -> socket.socket:
        return self.stack.enter_context(listener.accept()[0])


def of(entered: Entered, kind: str, *, ipv6: bool = False) -> socket.socket:
    """The listener of a kind; the outbound one has a listener for each family."""
    found = [sock for name, sock in entered.listeners if name == kind]
    return found[1] if ipv6 and kind == "outbound" else found[0]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        peer, pod = stack.enter_context(linked("peer", "pod"))
        fd = open_namespace(pod.path)
        stack.callback(os.close, fd)
        yield Lab(stack.enter_context(running_helper(tmp_path)), peer, pod, fd, stack)


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_what_connects_out_comes_to_the_outbound_listener(lab: Lab, ipv6: bool) -> None:
    """With its original destination; the listener is one of the namespace, the caller is not."""
    entered = lab.enter()
    address = lab.peer.v6 if ipv6 else lab.peer.v4
    lab.connect(lab.pod, address, 8080)
    accepted = lab.accepted(of(entered, "outbound", ipv6=ipv6))
    assert str(original_destination(accepted)) == (f"[{address}]:8080" if ipv6 else f"{address}:8080")


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_what_comes_from_outside_comes_to_the_plaintext_listener(lab: Lab, ipv6: bool) -> None:
    """Whether anything listens there or not: the proxy decides."""
    entered = lab.enter()
    address = lab.pod.v6 if ipv6 else lab.pod.v4
    lab.connect(lab.peer, address, 8080)
    accepted = lab.accepted(of(entered, "inbound_plaintext"))
    assert str(original_destination(accepted)) == (f"[{address}]:8080" if ipv6 else f"{address}:8080")


def test_hbone_peers_come_unchanged(lab: Lab) -> None:
    """15008 is not redirected."""
    entered = lab.enter()
    lab.connect(lab.peer, lab.pod.v4, 15008)
    accepted = lab.accepted(of(entered, "inbound"))
    assert accepted.getsockname()[1] == 15008


def test_the_workload_talks_to_itself_in_peace(lab: Lab) -> None:
    """Over loopback and over its own address, both families."""
    lab.enter()
    for address in ("127.0.0.1", "::1", lab.pod.v4, lab.pod.v6):
        app = lab.stack.enter_context(listen(lab.pod, address, 8080))
        lab.connect(lab.pod, address, 8080)
        lab.accepted(app)


def test_excluded_ports_are_reached_directly(lab: Lab) -> None:
    """What the operator keeps out of the mesh."""
    lab.enter(excluded=(9100,))
    app = lab.stack.enter_context(listen(lab.pod, lab.pod.v4, 9100))
    lab.connect(lab.peer, lab.pod.v4, 9100)
    lab.accepted(app)


@pytest.mark.parametrize("port", [15001, 15006])
def test_redirected_ports_cannot_be_called(lab: Lab, port: int) -> None:
    """Neither by the workload nor from outside: the original destination would be the proxy itself."""
    lab.enter()
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.pod, "127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.peer, lab.pod.v4, port)


def test_sockets_are_of_the_namespace_and_never_captured(lab: Lab) -> None:
    """They leave with the namespace's own source address, past the rules."""
    lab.enter()
    server = lab.stack.enter_context(listen(lab.peer, lab.peer.v4, 8080))
    sockets = lab.helper.sockets(lab.fd, 3, ipv6=False)
    for sock in sockets:
        lab.stack.enter_context(sock)
        assert get_mark(sock) == 0x539
        sock.settimeout(PATIENCE)
        sock.connect((lab.peer.v4, 8080))
        accepted, (source, _) = server.accept()
        with accepted:
            assert source == lab.pod.v4


def test_what_is_for_the_workload_cannot_leave(lab: Lab) -> None:
    """A peer that asks the proxy for another address does not get out by the workload's namespace."""
    lab.enter()
    lab.stack.enter_context(listen(lab.peer, lab.peer.v4, 8080))
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.pod, lab.peer.v4, 8080, mark=0x539 | 7 << 12)


def test_without_the_proxy_nothing_leaves(lab: Lab) -> None:
    """Listeners closed, as soon as the helper has closed its own too, rules there: refused, not sent in plaintext."""
    entered = lab.enter()
    beyond = lab.stack.enter_context(listen(lab.peer, lab.peer.v4, 8080))
    for _, sock in entered.listeners:
        sock.close()

    def refused() -> bool:
        try:
            lab.connect(lab.pod, lab.peer.v4, 8080)
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # it was in the queue of a listener that the helper closed just then
        return False

    until(refused)
    beyond.setblocking(False)
    with pytest.raises(BlockingIOError):
        beyond.accept()


def test_rules_are_put_back_and_removed(lab: Lab) -> None:
    """A digest tells that they are as they were; laying them out twice gives the same one."""
    entered = lab.enter()
    assert lab.helper.digest(lab.fd) == entered.digest
    lab.pod.run("nft", "flush", "chain", "inet", "hostmesh", "outbound")
    assert lab.helper.digest(lab.fd) != entered.digest
    assert lab.helper.lay_out(lab.fd, PORTS) == entered.digest
    lab.helper.leave(lab.fd)
    assert lab.helper.digest(lab.fd) not in ("", entered.digest)
    assert "redirect" not in lab.pod.run("nft", "list", "ruleset")


def test_an_open_connection_lives_on(lab: Lab) -> None:
    """Enrolment and withdrawal touch no flow that was there before."""
    server = lab.stack.enter_context(listen(lab.peer, lab.peer.v4, 8080))
    client = lab.connect(lab.pod, lab.peer.v4, 8080)
    theirs = lab.accepted(server)
    lab.enter()
    client.sendall(b"a")
    assert theirs.recv(1) == b"a"
    lab.helper.leave(lab.fd)
    theirs.sendall(b"b")
    assert client.recv(1) == b"b"


def test_lo_that_is_down_is_brought_up(lab: Lab) -> None:
    """A fresh namespace has none, and redirection needs it."""
    lab.pod.ip("link set lo down")
    lab.enter()
    assert "state UNKNOWN" in lab.pod.run("ip", "link", "show", "lo")


def test_an_address_that_must_be_there(lab: Lab) -> None:
    """A namespace found by its name may be another one than was meant; then nothing is done in it."""
    lab.enter(addresses=(lab.pod.v4, lab.pod.v6))
    lab.pod.run("nft", "flush", "ruleset")
    with pytest.raises(NamespaceRefused, match=r"does not have the address 10\.9\.9\.9"):
        lab.enter(addresses=(lab.pod.v4, "10.9.9.9"))
    assert lab.helper.digest(lab.fd) == ""


def test_a_taken_port_changes_nothing(lab: Lab) -> None:
    """All or nothing: no rules without listeners."""
    lab.stack.enter_context(listen(lab.pod, "0.0.0.0", 15006))
    with pytest.raises(NamespaceRefused, match="15006"):
        lab.enter()
    assert lab.helper.digest(lab.fd) == ""


def test_a_namespace_without_ipv6(lab: Lab) -> None:
    """Is captured for IPv4."""
    lab.pod.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    entered = lab.enter()
    lab.connect(lab.pod, lab.peer.v4, 8080)
    lab.accepted(of(entered, "outbound"))


def test_the_host_itself_is_refused(lab: Lab) -> None:
    """The helper's own namespace: everything on the host would be captured."""
    with Path("/proc/self/ns/net").open() as own, pytest.raises(NamespaceRefused, match="host's own"):
        lab.helper.enter(own.fileno(), PORTS)


def test_what_is_no_namespace_is_refused(lab: Lab) -> None:
    """Another file, and a namespace of another kind."""
    for path in ("/dev/null", "/proc/self/ns/mnt"):
        with Path(path).open() as file, pytest.raises(NamespaceRefused, match="no network namespace"):
            lab.helper.digest(file.fileno())


def test_strangers_are_refused(tmp_path: Path) -> None:
    """Whoever reaches the socket must be the one it was made for."""
    with running_helper(tmp_path, users=frozenset({12345})) as helper, namespace() as pod, pod.path.open() as file:
        with pytest.raises(NamespaceRefused, match=f"user {os.getuid()} may not ask"):
            helper.enter(file.fileno(), PORTS)
        assert pod.run("nft", "list", "ruleset") == ""


def test_nobody_there(tmp_path: Path) -> None:
    """The error says what to start."""
    helper = NetnsHelper(tmp_path / "nobody")
    with Path("/dev/null").open() as file, pytest.raises(HelperUnavailable, match=r"systemctl start hostmesh-netns"):
        helper.digest(file.fileno())
