"""A process without privileges beside workload b, even under b's own user id: it never is b, whatever it tries."""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from tests.support.netns import comes, is_answered
from tests.support.patience import PATIENCE

from hostmesh.kernel.notices import Notices
from hostmesh.kernel.sockets import get_mark, original_destination
from hostmesh.model.local import NOTICES
from hostmesh.redirect.plan import compile_intent
from hostmesh.redirect.subjects import Exclusions, Intent, Probe, Scope

if TYPE_CHECKING:
    from tests.netns.conftest import Lab
    from tests.support.netns import Cgroup

pytestmark = pytest.mark.netns

UID = 20001
"""Of b's processes, and of the neighbour's."""
SOCKS = 15080
NUMBER_OF_B = 2


@contextmanager
def process(lab: Lab, cgroup: Cgroup) -> Iterator[None]:
    """Sockets made meanwhile are those of an unprivileged process there."""
    with lab.host.entered(), cgroup.entered():
        os.seteuid(UID)
        try:
            yield
        finally:
            os.seteuid(0)


def tcp(lab: Lab, cgroup: Cgroup) -> socket.socket:
    with process(lab, cgroup):
        sock = lab.stack.enter_context(socket.socket())
    sock.settimeout(PATIENCE)
    return sock


@pytest.fixture(autouse=True)
def capture(lab: Lab) -> None:
    """Units a, b and deep are captured, and offered SOCKS."""
    lab.apply(compile_intent(Intent(lab.units, cgroup_prefix=lab.cgroups.nft_prefix, socks5=SOCKS)))


def attributed(lab: Lab, port: int, sock: socket.socket, target: tuple[str, int]) -> int:
    """Whose connection the proxy takes it for; 0 is nobody's, -1 that it does not come there."""
    with lab.listen(lab.host, "127.0.0.1", port) as proxy:
        sock.connect_ex(target)
        return get_mark(lab.accept(proxy)) >> 12 if comes(proxy) else -1


def test_b_itself_is_b(lab: Lab) -> None:
    """Or the others would prove nothing."""
    assert attributed(lab, 15001, tcp(lab, lab.b), (lab.peer.v4, 8080)) == NUMBER_OF_B
    assert attributed(lab, SOCKS, tcp(lab, lab.b), ("127.0.0.1", SOCKS)) == NUMBER_OF_B


def test_by_user_id(lab: Lab) -> None:
    """The cgroup is the service, not the user that it runs as."""
    lab.listen(lab.peer, lab.peer.v4, 8080)
    assert attributed(lab, 15001, tcp(lab, lab.other), (lab.peer.v4, 8080)) == -1


def test_by_source_port(lab: Lab) -> None:
    """From the very port that b has just used, to the same destination."""
    lab.listen(lab.peer, lab.peer.v4, 8080)
    mine = tcp(lab, lab.b)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    mine.bind((lab.host.v4, 40000))
    assert attributed(lab, 15001, mine, (lab.peer.v4, 8080)) == NUMBER_OF_B
    mine.close()
    thief = tcp(lab, lab.other)
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    thief.bind((lab.host.v4, 40000))
    assert attributed(lab, 15001, thief, (lab.peer.v4, 8080)) <= 0


def test_by_socks(lab: Lab) -> None:
    """The name in the request is not asked; the proxy serves nobody who is nobody."""
    assert attributed(lab, SOCKS, tcp(lab, lab.other), ("127.0.0.1", SOCKS)) <= 0


def test_by_mark(lab: Lab) -> None:
    """It takes a capability to mark a socket."""
    sock = tcp(lab, lab.other)
    os.seteuid(UID)
    try:
        with pytest.raises(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, 36, NUMBER_OF_B << 12)
    finally:
        os.seteuid(0)


def test_by_the_proxys_own_ports(lab: Lab) -> None:
    """Without capture behind it, a connection to them is refused."""
    for port in (15001, 15006):
        with lab.listen(lab.host, "0.0.0.0", port), pytest.raises(ConnectionRefusedError):
            tcp(lab, lab.other).connect(("127.0.0.1", port))


@pytest.mark.parametrize("shared", [False, True])
def test_by_listening_at_bs_port(lab: Lab, shared: bool) -> None:
    """While b is away, or beside it (SO_REUSEPORT, which one user may share): what is meant for b never gets there."""
    listeners = [tcp(lab, cgroup) for cgroup in ((lab.b, lab.other) if shared else (lab.other,))]
    for listener in listeners:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((lab.host.v4, 8020))
        listener.listen(64)
    thief = listeners[-1]
    reached = 0
    for _ in range(20):
        # the proxy, on behalf of somebody whom b's policy admits
        sock = lab.socket(lab.host)
        sock.setsockopt(socket.SOL_SOCKET, 36, NUMBER_OF_B << 12 | 0x539)
        reached += sock.connect_ex((lab.host.v4, 8020)) == 0
    assert (reached > 0) == shared
    # plaintext from outside is judged as b's where b would get it
    with lab.listen(lab.host, "::", 15006) as proxy:
        for _ in range(20):
            lab.connect(lab.peer, (lab.host.v4, 8020))
        taken = everything(lab, proxy)
    assert {(get_mark(one) >> 12, original_destination(one).port) for one in taken} <= {(NUMBER_OF_B, 8020)}
    peers = {one.getpeername()[0] for one in everything(lab, thief)}
    assert peers <= {lab.peer.v4}, "the proxy's connection has reached the neighbour"


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_fresh_listener_is_never_reached_past_the_proxy(lab: Lab, family: str) -> None:
    """The kernel asks who listens, so not even in the instant in which b begins to; and the agent hears of it."""
    host = str(getattr(lab.host, family))
    with lab.host.entered():
        notices = lab.stack.enter_context(closing(Notices(NOTICES)))
    listeners = [lab.socket(lab.host, lab.b, host) for _ in range(50)]
    knocking = [[lab.socket(lab.host, lab.other, host) for _ in range(8)] for _ in listeners]
    refused = []

    def knock(ready: threading.Event, port: int, sockets: list[socket.socket]) -> None:
        ready.set()
        refused.extend(sock.connect_ex((host, port)) for sock in sockets)

    for listener, sockets in zip(listeners, knocking, strict=True):
        listener.bind((host, 0))
        ready = threading.Event()
        neighbour = threading.Thread(target=knock, args=(ready, listener.getsockname()[1], sockets))
        neighbour.start()
        ready.wait()
        listener.listen(64)
        neighbour.join()
        refused.append(lab.socket(lab.host, lab.other, host).connect_ex(listener.getsockname()[:2]))
    assert set(refused) == {errno.ECONNREFUSED}
    assert select.select(listeners, [], [], 0)[0] == []
    assert select.select([notices], [], [], 5)[0]


@pytest.mark.parametrize("mark", [0, NUMBER_OF_B << 12 | 0x539])
def test_where_nobody_listens_the_kernel_is_not_asked_again(lab: Lab, mark: int) -> None:
    """Or it would find b, who begins to in this instant, after the rules have found nobody: neighbour's and proxy's."""
    lab.host.run("nft", TAP.format(name="delivered", priority=250, verdict="accept"))
    for address in (lab.host.v4, lab.host.v6):
        with pytest.raises(ConnectionRefusedError):
            lab.connect(lab.host, (address, 8020), None, mark)
    assert tapped(lab, "delivered") == 0
    lab.connect(lab.host, lab.listen(lab.host, lab.host.v4, 8090, lab.other).getsockname()[:2])
    assert tapped(lab, "delivered") >= 1, "or the count would prove nothing"


def test_a_closed_port_looks_as_the_hosts_firewall_wants_it(lab: Lab) -> None:
    """A firewall that drops without a word goes first: no reset tells who knocks that the host is there."""
    lab.host.run("nft", TAP.format(name="filter", priority=0, verdict="drop"))
    knocking = lab.socket(lab.peer)
    assert not is_answered(knocking, (lab.host.v4, 8020))
    assert tapped(lab, "filter") >= 1


def test_from_outside_nothing_leads_past_the_proxy(lab: Lab) -> None:
    """Not even a rule of somebody else that sends another port of the host to b's."""
    lab.host.run(
        "nft",
        "add table ip other; add chain ip other in { type nat hook prerouting priority dstnat; };"
        "add rule ip other in tcp dport 80 redirect to :8020",
    )
    listener = lab.listen(lab.host, lab.host.v4, 8020, lab.b)
    for port in (8020, 80):
        with pytest.raises(ConnectionRefusedError):
            lab.connect(lab.peer, (lab.host.v4, port))
    assert everything(lab, listener) == []


@pytest.mark.parametrize("lab", ["nft", "iptables-nft", "python-iptables"], indirect=True)
def test_an_exclusion_does_not_lead_past_policies(lab: Lab) -> None:
    """What a leaves the mesh for is plaintext to b, and comes to the proxy as a stranger's, as does the proxy's own."""
    a, b, deep = lab.units
    scope = Scope(Exclusions(ports=(8020,), networks=(ip_network(f"{lab.host.v4}/32"),)))
    units = (replace(a, scope=scope), b, deep)
    listening = {b.workload.key: (8020,)}
    lab.apply(compile_intent(Intent(units, cgroup_prefix=lab.cgroups.nft_prefix, listening=listening)))
    listener = lab.listen(lab.host, lab.host.v4, 8020, lab.b)
    proxy = lab.listen(lab.host, "::", 15006)
    for cgroup, mark in ((lab.a, 0), (None, 0x539)):
        lab.connect(lab.host, (lab.host.v4, 8020), cgroup, mark)
        accepted = lab.accept(proxy)
        assert (get_mark(accepted) >> 12, original_destination(accepted).port) == (NUMBER_OF_B, 8020)
    assert everything(lab, listener) == []


def test_what_is_let_through_is_let_through(lab: Lab) -> None:
    """Excluded ports and networks, and probes, reach b's listener from beside it as from outside."""
    a, b, deep = lab.units
    for scope in (
        Scope(inbound=Exclusions(ports=(8020,))),
        Scope(inbound=Exclusions(networks=(ip_network("10.77.0.0/24"),))),
        Scope(probes=(Probe(8020, (ip_network("10.77.0.0/24"),)),)),
        Scope(bypass_inbound=True),
    ):
        units = (a, replace(b, scope=scope), deep)
        lab.apply(compile_intent(Intent(units, cgroup_prefix=lab.cgroups.nft_prefix)))
        with closing(lab.listen(lab.host, lab.host.v4, 8020, lab.b)) as listener:
            for where in (lab.peer, lab.host):
                lab.connect(where, (lab.host.v4, 8020))
                lab.accept(listener)


TAP = """
add table inet {name}
add chain inet {name} in {{ type filter hook input priority {priority}; }}
add rule inet {name} in tcp flags & (syn | ack) == syn counter {verdict}
"""
"""A rule of somebody else, which counts what begins and has come so far."""


def tapped(lab: Lab, name: str) -> int:
    counted = re.search(r"packets (\d+)", lab.host.run("nft", "list", "table", "inet", name))
    assert counted is not None
    return int(counted[1])


def everything(lab: Lab, listener: socket.socket) -> list[socket.socket]:
    """All that waits to be accepted."""
    found: list[socket.socket] = []
    while comes(listener):
        found.append(lab.accept(listener))
    return found
