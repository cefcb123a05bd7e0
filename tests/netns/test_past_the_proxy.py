"""What comes to a unit past the proxy, on every backend: refused; older connections, and excluded ones, live on."""

from __future__ import annotations

import select
import socket
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from tests.netns.conftest import workload
from tests.support.netns import attempt, comes, listen

from hostmesh.kernel.iptables import Family
from hostmesh.kernel.notices import Notices
from hostmesh.model.local import NOTICES
from hostmesh.redirect.choose import Backend, tools
from hostmesh.redirect.iptables_apply import IptablesRedirector
from hostmesh.redirect.iptables_plan import start_text
from hostmesh.redirect.plan import compile_intent, unit_text
from hostmesh.redirect.subjects import CapturedHost, Exclusions, Intent, Scope

if TYPE_CHECKING:
    from tests.netns.conftest import Lab
    from tests.support.netns import Cgroup, Namespace

    from hostmesh.redirect.subjects import CapturedUnit

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize(
        ("lab", "family"),
        [("nft", "v6"), ("iptables-nft", "v6"), ("iptables-legacy", "v4"), ("python-iptables", "v6")],
        indirect=["lab"],
    ),
]


def own(lab: Lab, family: str) -> str:
    """The address of the host."""
    return str(getattr(lab.host, family))


def fresh(lab: Lab, address: str, port: int, cgroup: Cgroup) -> socket.socket:
    """A listener that the agent has not seen yet."""
    return lab.stack.enter_context(listen(lab.host, address, port, cgroup))


def capture(lab: Lab, *units: CapturedUnit, host: CapturedHost | None = None) -> None:
    lab.apply(compile_intent(Intent(units, host=host, cgroup_prefix=lab.cgroups.nft_prefix)))
    assert lab.verify() == ()


def heard(service: socket.socket) -> bytes:
    """What is sent to it, if anything comes."""
    with suppress(OSError):
        return service.recv(100) if comes(service) else b""
    return b""


def answered(lab: Lab, where: Namespace, listener: socket.socket, port: int = 0, mark: int = 0) -> tuple[bytes, bytes]:
    """What a client's question to a listener comes to: what the service hears, and what it can say to the client."""
    host, usual, *_ = listener.getsockname()
    client = lab.socket(where, like=host)
    if mark:
        client.setsockopt(socket.SOL_SOCKET, 36, mark)
    if attempt(client, (host, port or usual)) != 0:
        return b"", b""
    with suppress(OSError):
        client.sendall(b"question")
    if not comes(listener):
        return b"", b""
    with lab.accept(listener) as service:
        question = heard(service)
        with suppress(OSError):
            service.sendall(b"answer")
        return question, heard(client)


def test_a_fresh_port_is_not_reached_from_another_host(lab: Lab, family: str) -> None:
    """The service hears nothing, the client no answer, and the agent of both; once it has looked, the proxy gets it."""
    host = own(lab, family)
    capture(lab, *lab.units)
    with lab.host.entered():
        notices = lab.stack.enter_context(closing(Notices(NOTICES)))
    listener = fresh(lab, host, 8020, lab.b)
    assert answered(lab, lab.peer, listener) == (b"", b"")
    if not isinstance(lab.redirector, IptablesRedirector):
        return  # nft captures it: it asks who listens
    assert select.select([notices], [], [], 5)[0]
    lab.look()
    proxy = lab.listen(lab.host, "::", 15006)
    lab.connect(lab.peer, (host, 8020))
    lab.accept(proxy)


def test_a_neighbour_gets_no_answer_from_a_fresh_port(lab: Lab, family: str) -> None:
    """Neither somebody of this host nor the proxy as the client of somebody; over loopback all is as before."""
    host, loopback = own(lab, family), "127.0.0.1" if family == "v4" else "::1"
    capture(lab, *lab.units)
    listener = fresh(lab, host, 8020, lab.b)
    assert [answered(lab, lab.host, listener, mark=mark)[1] for mark in (0, 0x539)] == [b"", b""]
    assert answered(lab, lab.host, fresh(lab, loopback, 8020, lab.b)) == (b"question", b"answer")


def test_a_service_that_speaks_first_is_not_heard(lab: Lab, family: str) -> None:
    """And its connection ends, rather than to wait for an answer."""
    capture(lab, *lab.units)
    listener = fresh(lab, own(lab, family), 8020, lab.b)
    client = lab.socket(lab.peer, like=own(lab, family))
    with suppress(OSError):
        client.connect((own(lab, family), 8020))
        service = lab.accept(listener)
        service.sendall(b"welcome")
        with pytest.raises(ConnectionResetError):
            service.recv(1)
    assert heard(client) == b""


def test_a_foreign_rule_leads_to_nobody(lab: Lab, family: str) -> None:
    """A port of the host that somebody else sends to b's comes to b from nowhere."""
    capture(lab, *lab.units)
    lab.host.run(
        "nft",
        "add table inet other; add chain inet other in { type nat hook prerouting priority dstnat; };"
        "add rule inet other in tcp dport 80 redirect to :8020",
    )
    listener = fresh(lab, own(lab, family), 8020, lab.b)
    lab.look()
    assert answered(lab, lab.peer, listener, port=80) == (b"", b"")


def test_others_are_not_touched(lab: Lab, family: str) -> None:
    """A service that is no workload is reached at the first port that it opens, from everywhere."""
    capture(lab, *lab.units)
    listener = fresh(lab, own(lab, family), 8090, lab.other)
    for where in (lab.peer, lab.host):
        assert answered(lab, where, listener) == (b"question", b"answer")


def test_a_port_of_a_unit_is_not_the_hosts(lab: Lab, family: str) -> None:
    """What the proxy sends for the whole host, as it knows no better yet, gets no answer of a unit."""
    capture(lab, *lab.units, host=CapturedHost(workload(9)))
    assert answered(lab, lab.host, fresh(lab, own(lab, family), 8020, lab.b), mark=0x9539)[1] == b""
    assert answered(lab, lab.host, fresh(lab, own(lab, family), 8090, lab.other), mark=0x9539)[1] == b"answer"


def test_what_is_let_through_lives_on(lab: Lab, family: str) -> None:
    """What a unit excludes is reached at once, and once it is not excluded any more, what is open stays so."""
    a, b, deep = lab.units
    listener = fresh(lab, own(lab, family), 8020, lab.b)
    for scope in (
        Scope(inbound=Exclusions(ports=(8020,))),
        Scope(inbound=Exclusions(networks=(ip_network("10.77.0.0/24"), ip_network("fd77::/64")))),
        Scope(bypass_inbound=True),
    ):
        capture(lab, a, replace(b, scope=scope), deep)
        clients = [lab.connect(where, (own(lab, family), 8020)) for where in (lab.peer, lab.host)]
        services = [lab.accept(listener) for _ in clients]
        for _ in range(2):
            for client, service in zip(clients, services, strict=True):
                client.sendall(b"question")
                service.sendall(b"answer")
                assert (service.recv(100), client.recv(100)) == (b"question", b"answer")
            capture(lab, a, b, deep)


def test_connections_from_before_live_on(lab: Lab, family: str) -> None:
    """A hundred each way, begun while another unit was captured; and after the unit has let go of its port."""
    a, b, deep = lab.units
    capture(lab, a, deep)
    listener = fresh(lab, own(lab, family), 8020, lab.b)
    remote = lab.listen(lab.peer, str(getattr(lab.peer, family)), 5432)
    pairs = []
    for _ in range(100):
        pairs.append((lab.connect(lab.peer, (own(lab, family), 8020)), lab.accept(listener)))
        pairs.append((lab.connect(lab.host, (str(getattr(lab.peer, family)), 5432), lab.b), lab.accept(remote)))
    pairs.append((lab.connect(lab.host, (own(lab, family), 8020)), lab.accept(listener)))
    listener.close()
    for units in ((a, b, deep), (a, deep), (a, b, deep)):
        capture(lab, *units)
        for client, service in pairs:
            client.sendall(b"question")
            service.sendall(b"answer")
            assert (service.recv(100), client.recv(100)) == (b"question", b"answer")


def test_a_unit_that_has_just_started_is_guarded(lab: Lab, family: str) -> None:
    """Its start says which cgroup it has now, before the agent looks."""
    capture(lab, *lab.units)
    lab.a.stop()
    lab.a.start()
    backend = lab.redirector
    with lab.host.entered():
        if isinstance(backend, IptablesRedirector):
            with closing(tools(Backend(backend.ending))) as made:
                made.restore(Family.V4 if family == "v4" else Family.V6, start_text(lab.units[0]))
        else:
            assert lab.applied is not None
            lab.host.run("nft", unit_text(lab.applied, lab.units[0]))
    assert answered(lab, lab.peer, fresh(lab, own(lab, family), 8010, lab.a)) == (b"", b"")


def test_a_unit_that_is_withdrawn_is_reached(lab: Lab, family: str) -> None:
    """From the next connection on."""
    a, b, deep = lab.units
    capture(lab, a, b, deep)
    listener = fresh(lab, own(lab, family), 8020, lab.b)
    assert answered(lab, lab.peer, listener)[1] == b""
    capture(lab, a, deep)
    while select.select([listener], [], [], 0)[0]:
        listener.accept()[0].close()
    assert answered(lab, lab.peer, listener) == (b"question", b"answer")
