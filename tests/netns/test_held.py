"""What the drop-in of a socket unit closes until it is captured; only systemctl's answer is made up."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.netns import Namespace, is_answered, linked, listen, make_socket

from hostmesh.model.local import PROXY_MARK
from hostmesh.redirect.held import held, release

pytestmark = pytest.mark.netns

HOLD = Path(__file__).parents[2] / "roles" / "_common" / "files" / "hold-sockets.sh"
LISTENS = "".join(
    f"Listen={one}\n"
    for one in ("[::]:8080 (Stream)", "192.0.2.1:8081 (Stream)", "/run/x (Stream)", "[::]:53 (Datagram)")
)


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """A host, and a stranger beside it."""
    with linked("host", "peer") as (host, peer):
        yield host, peer


def hold(host: Namespace, tmp_path: Path, listens: str = LISTENS) -> None:
    """A start of the socket unit."""
    (tmp_path / "listens").write_text(listens)
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\nexec cat {tmp_path}/listens\n")
    systemctl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(host.command("sh", str(HOLD), "web.socket"), env={**os.environ, "PATH": path}, check=True)


@contextmanager
def client(where: Namespace, address: str, mark: int = 0) -> Iterator[socket.socket]:
    """Somebody who is about to connect."""
    with make_socket(where, family=socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        yield sock


def reach(where: Namespace, address: str, port: int, mark: int = 0) -> None:
    """Connects, however long that takes here."""
    with client(where, address, mark) as sock:
        sock.connect((address, port))


def closed(where: Namespace, address: str, port: int) -> bool:
    """There is no answer at all."""
    with client(where, address) as sock:
        return not is_answered(sock, (address, port))


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_port_is_closed_until_it_is_released(pair: tuple[Namespace, Namespace], tmp_path: Path, family: str) -> None:
    """To strangers and neighbours, not to the proxy, not over loopback; other ports are left alone."""
    host, peer = pair
    address, loopback = str(getattr(host, family)), "127.0.0.1" if family == "v4" else "::1"
    anywhere = "0.0.0.0" if family == "v4" else "::"
    with listen(host, anywhere, 8080), listen(host, anywhere, 8082):
        reach(peer, address, 8080)
        hold(host, tmp_path)
        with host.entered():
            assert {int.from_bytes(port, "big") for port in held()} == {8080, 8081}
        assert closed(peer, address, 8080)
        assert closed(host, address, 8080)
        reach(host, address, 8080, PROXY_MARK | 0x1000)
        reach(host, loopback, 8080)
        reach(peer, address, 8082)
        hold(host, tmp_path)  # again, as at a restart
        with host.entered():
            release(held())
            assert held() == frozenset()
            release([b"\x1f\x90"])  # what somebody else has opened
        reach(peer, address, 8080)


def test_a_unit_without_ports_closes_nothing(pair: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    """No table is made for it."""
    host, _ = pair
    hold(host, tmp_path, "Listen=/run/x.sock (Stream)\n")
    assert host.run("nft", "list", "tables") == ""
