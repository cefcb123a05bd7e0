"""Applications that see the addresses of their clients: policy routing on the real kernel, and a whole agent on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyroute2.netlink.exceptions import NetlinkError
from tests.netns.two_hosts import MESH, local_agents, local_settings
from tests.support.agent import until
from tests.support.netns import attempt

from hostmesh.kernel import source_routing
from hostmesh.kernel.sockets import bind_as
from hostmesh.model.local import PROXY_MARK

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

FAMILIES = pytest.mark.parametrize("family", ["v4", "v6"])


@contextmanager
def routed(lab: Lab) -> Iterator[None]:
    with lab.host.entered():
        source_routing.apply(PROXY_MARK)
    try:
        yield
    finally:
        with lab.host.entered():
            source_routing.remove(PROXY_MARK)


def routing(lab: Lab) -> str:
    commands = ("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all")
    return "\n".join(lab.host.run(*command.split()) for command in commands)


def received(sock: socket.socket) -> int:
    return sum(len(data) for data in iter(lambda: sock.recv(65536), b""))


@FAMILIES
def test_the_application_sees_the_client(lab: Lab, family: str) -> None:
    """Bytes go both ways between a workload and a socket of the proxy that bears a foreign address."""
    lab.apply()
    host, peer = getattr(lab.host, family), getattr(lab.peer, family)
    listener = lab.listen(lab.host, host, 8010, lab.a)
    with routed(lab):
        sock = lab.socket(lab.host, like=host)
        sock.setsockopt(socket.SOL_SOCKET, 36, 0x1000 | PROXY_MARK)
        bind_as(sock, peer)
        sock.connect((host, 8010))
        served = lab.accept(listener)
        assert served.getpeername()[0] == peer
        sock.sendall(b"ping")
        assert served.recv(10) == b"ping"
        served.sendall(b"pong")
        assert sock.recv(10) == b"pong"


def test_the_guard_holds_for_foreign_addresses_too(lab: Lab) -> None:
    """Whatever address a connection bears, it reaches the workload that it is marked for and no other."""
    lab.apply()
    lab.listen(lab.host, lab.host.v4, 8020, lab.b)
    with routed(lab):
        sock = lab.socket(lab.host, like=lab.host.v4)
        sock.setsockopt(socket.SOL_SOCKET, 36, 0x1000 | PROXY_MARK)
        bind_as(sock, lab.peer.v4)
        assert attempt(sock, (lab.host.v4, 8020)) != 0


def test_other_connections_of_the_proxy_leave_as_before(lab: Lab) -> None:
    """The proxy's tunnels carry its mark without a number, and a workload's own connections none of both."""
    lab.apply()
    remote = lab.listen(lab.peer, lab.peer.v4, 8080)
    with routed(lab):
        for mark in (PROXY_MARK, 0):
            lab.connect(lab.host, (lab.peer.v4, 8080), mark=mark)
            lab.accept(remote)


def test_removal_leaves_nothing(lab: Lab) -> None:
    """Rules and routes are then as they were, word for word; applying twice changes nothing."""
    before = routing(lab)
    with lab.host.entered():
        assert len(source_routing.apply(PROXY_MARK)) == 8
        assert source_routing.apply(PROXY_MARK) == ()
        assert routing(lab) != before
        lab.host.run("ip", "rule", "del", "pref", "15007")
        assert source_routing.missing(PROXY_MARK) == {(socket.AF_INET, "lookup")}
        assert len(source_routing.apply(PROXY_MARK)) == 1
        source_routing.remove(PROXY_MARK)
        source_routing.remove(PROXY_MARK)
    assert routing(lab) == before


def test_never_half(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses the third of eight pieces has none of them afterwards, and the operator learns why."""
    before, change, done = routing(lab), source_routing._change, []

    async def refuse(netlink: object, command: str, piece: source_routing.Piece, mark: int) -> None:
        if command == "add" and len(done) == 3:
            raise NetlinkError(1, "Operation not permitted")
        done.append(piece)
        await change(netlink, command, piece, mark)

    monkeypatch.setattr(source_routing, "_change", refuse)
    with lab.host.entered(), pytest.raises(source_routing.RoutingUnavailable, match="CAP_NET_ADMIN"):
        source_routing.apply(PROXY_MARK)
    assert routing(lab) == before


def test_through_two_agents(lab: Lab, tmp_path: Path) -> None:
    """The server sees its client's address, whether it comes by HBONE or in plaintext, and answers it."""
    with local_agents(lab, tmp_path, MESH.partition("policies:")[0], original_source=True) as (_, server):
        listener = lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)
        for caller in (lab.a, None):
            sock = lab.connect(lab.host, (lab.peer.v4, 8080), caller)
            served = lab.accept(listener)
            assert served.getpeername()[0] == lab.host.v4
            sock.sendall(b"x" * 100_000)
            sock.shutdown(socket.SHUT_WR)
            assert received(served) == 100_000
            served.sendall(b"y" * 100_000)
            served.close()
            assert received(sock) == 100_000
        until(lambda: server.log.count("connection complete") == 2)
        assert 'src.identity="spiffe://cluster.local/ns/prod/sa/w1"' in server.log
        server.configure(
            node="host2",
            **local_settings(server, tmp_path / "mesh.yaml"),
        )
        server.reload()
        assert "15007" not in lab.peer.run("ip", "rule")
