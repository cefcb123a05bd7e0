"""Listeners that systemd makes for a unit, outside the unit's cgroup, as those of a socket unit are."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.netns.conftest import WHOLE, captured
from tests.support.netns import attempt, comes, listen

from hostmesh.enrolment.socket_units import still_systemds
from hostmesh.kernel.listeners import listeners
from hostmesh.kernel.sockets import get_mark
from hostmesh.redirect.iptables_apply import IptablesRedirector
from hostmesh.redirect.plan import compile_intent
from hostmesh.redirect.subjects import CapturedHost, CapturedUnit, Exclusions, Intent, Scope, Sockets

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

PORT = 8060
REFUSED = (ConnectionRefusedError, ConnectionResetError)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("lab", ["nft", "iptables-nft"], indirect=True),
]


def unit(lab: Lab, scope: Scope = WHOLE) -> CapturedUnit:
    """Unit a, for which systemd listens; it is `other`, or in a cgroup that is not there."""
    sockets = Sockets((PORT,), (lab.other.path, f"{lab.other.path}/gone.socket"))
    return replace(captured(lab.a, 1, scope), sockets=sockets)


def apply(lab: Lab, scope: Scope = WHOLE, host: CapturedHost | None = None) -> None:
    intent = Intent((unit(lab, scope), captured(lab.b, 2)), host=host, cgroup_prefix=lab.cgroups.nft_prefix)
    lab.apply(compile_intent(intent))
    assert lab.verify() == ()


def made(lab: Lab, address: str) -> socket.socket:
    """What systemd listens on, and a process of a accepts."""
    return lab.stack.enter_context(listen(lab.host, address, PORT, lab.other))


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_stranger_is_captured(lab: Lab, family: str) -> None:
    """From outside and from the host, before systemd listens, while it does, and when it listens anew."""
    host = str(getattr(lab.host, family))
    proxy = lab.listen(lab.host, "0.0.0.0" if family == "v4" else "::", 15006)
    apply(lab)
    for _ in range(2):
        for who in (lab.peer, lab.host):
            lab.connect(who, (host, PORT))
            assert get_mark(lab.accept(proxy)) == 0x1000
        with listen(lab.host, host, PORT, lab.other):
            lab.connect(lab.peer, (host, PORT))
            assert get_mark(lab.accept(proxy)) == 0x1000


def test_other_ports_of_systemd_are_left_alone(lab: Lab) -> None:
    """Neither captured, nor reached by the proxy."""
    apply(lab)
    service = lab.listen(lab.host, lab.host.v4, PORT + 1, lab.other)
    lab.connect(lab.peer, (lab.host.v4, PORT + 1))
    lab.accept(service)
    with pytest.raises(REFUSED):
        lab.connect(lab.host, (lab.host.v4, PORT + 1), mark=0x1539)


def test_the_proxy_reaches_the_socket_as_its_unit_only(lab: Lab) -> None:
    """Marked as a it does, marked as b or as the host it does not."""
    host = CapturedHost(replace(captured(lab.deep, 9).workload, unit=""))
    for whole in (None, host):
        apply(lab, host=whole)
        with listen(lab.host, lab.host.v4, PORT, lab.other) as service:
            lab.connect(lab.host, (lab.host.v4, PORT), mark=0x1539)
            lab.accept(service)
            for mark in (0x2539, 0x9539):
                with pytest.raises(REFUSED):
                    lab.connect(lab.host, (lab.host.v4, PORT), mark=mark)


def test_who_else_takes_the_port_is_not_reached(lab: Lab) -> None:
    """The kernel says that the listener is not systemd's, whatever the agent believes."""
    apply(lab)
    if isinstance(lab.redirector, IptablesRedirector):
        return  # iptables cannot ask who listens: the agent's list says it, see below
    for cgroup in (lab.b, lab.deep):
        with listen(lab.host, lab.host.v4, PORT, cgroup), pytest.raises(REFUSED):
            lab.connect(lab.host, (lab.host.v4, PORT), mark=0x1539)


@pytest.mark.parametrize("from_", ["peer", "host"])
def test_past_the_proxy(lab: Lab, from_: str) -> None:
    """What somebody else's rule sends to the port is not heard."""
    service = made(lab, lab.host.v4)
    apply(lab)
    lab.host.run("nft", "add table ip foreign")
    for hook in ("prerouting", "output"):
        lab.host.run("nft", f"add chain ip foreign {hook} {{ type nat hook {hook} priority -150; }}")
        lab.host.run("nft", f"add rule ip foreign {hook} tcp dport 7000 redirect to :{PORT}")
    client = lab.socket(getattr(lab, from_))
    with suppress(OSError):
        if attempt(client, (lab.host.v4, 7000)) == 0:
            client.sendall(b"question")
    if comes(service):
        accepted = lab.accept(service)
        with suppress(OSError):
            accepted.sendall(b"answer")
    if comes(client):
        with suppress(OSError):
            assert client.recv(10) == b""


@pytest.mark.parametrize("scope", [Scope(inbound=Exclusions(ports=(PORT,))), Scope(bypass_inbound=True)])
def test_exclusions(lab: Lab, scope: Scope) -> None:
    """What is not captured inbound arrives as it came."""
    service = made(lab, lab.host.v4)
    apply(lab, scope)
    lab.connect(lab.peer, (lab.host.v4, PORT))
    lab.accept(service)


def test_withdrawn(lab: Lab) -> None:
    """Once systemd has no socket unit for it any more, its port is anybody's."""
    service = made(lab, lab.host.v4)
    apply(lab)
    lab.apply(compile_intent(Intent((captured(lab.a, 1),), cgroup_prefix=lab.cgroups.nft_prefix)))
    lab.look()  # at the second look leftovers go
    assert lab.verify() == ()
    lab.connect(lab.peer, (lab.host.v4, PORT))
    lab.accept(service)


def test_a_port_that_somebody_else_has_taken(lab: Lab) -> None:
    """While nobody listens the port is kept for systemd; of somebody else who listens it is his."""

    def ports() -> tuple[int, ...]:
        with lab.host.entered():
            (known,) = still_systemds([unit(lab)], lab.cgroups.id, listeners())
        return known.sockets.ports

    assert ports() == (PORT,)
    for address, cgroup, kept in (
        (lab.host.v4, lab.other, (PORT,)),
        (lab.host.v4, lab.deep, ()),
        ("127.0.0.1", lab.deep, (PORT,)),
    ):
        with listen(lab.host, address, PORT, cgroup):
            assert ports() == kept
    with listen(lab.host, "127.0.0.1", PORT, lab.deep), listen(lab.host, lab.host.v4, PORT, lab.other):
        assert ports() == (PORT,)
    with listen(lab.host, "127.0.0.1", PORT, lab.other), listen(lab.host, lab.host.v4, PORT, lab.deep):
        assert ports() == ()
