"""Make one connection as a captured unit of this host makes it, and look up what the agent said about it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time

from hostmesh.admin.parties import Target, find_source, find_target
from hostmesh.admin.tried import Outcome, Tried
from hostmesh.admin.world import World
from hostmesh.cli.access_line import parse_line, reason_of_line
from hostmesh.kernel.cgroup import NoCgroup2, find_root
from hostmesh.kernel.units import SystemdUnavailable, show
from hostmesh.kernel.within import sockets_of
from hostmesh.model.address import IPAddress, SocketAddress, parse_ip

PATIENCE = 5.0
"""Seconds until silence counts as an answer."""
_LOG_PATIENCE = 1.0
_LOG_PAUSE = 0.1


def attempt(world: World, source: str, name: str, port: int) -> tuple[Tried, Target] | None:
    """Try it; None where this process cannot act for the source: not root, no unit of this host, not running."""
    captured = find_source(world, source).captured
    if captured is None or not captured.unit.endswith(".service") or os.geteuid() != 0:
        return None
    target = find_target(world, name, captured.namespace)
    if target is None:
        return None
    resolved = resolve(name)
    # The address that the mesh knows, if the resolver leaves the choice.
    ip = target.ip if target.ip in resolved or not resolved else resolved[0]
    address = SocketAddress(ip, port)
    began = time.time()
    try:
        sock = _socket(captured.unit, address)
    except (OSError, NoCgroup2, SystemdUnavailable):
        return None
    if sock is None:
        return Tried(captured.unit, name, resolved, address, Outcome.NOT_RUNNING), target
    with sock:
        outcome, port_here = _connect(sock, address)
    said = _said_of(port_here, began) if outcome is Outcome.REFUSED else {}
    reason = reason_of_line(said) if said else None
    return Tried(captured.unit, name, resolved, address, outcome, said.get("error", ""), reason), target


def resolve(name: str) -> tuple[IPAddress, ...]:
    """What this host's resolver says; an address is itself."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(parse_ip(str(sockaddr[0])) for *_, sockaddr in found))


def _socket(unit: str, address: SocketAddress) -> socket.socket | None:
    known = show([unit])[unit]
    if not known.active:
        return None
    family = socket.AF_INET if address.ip.version == 4 else socket.AF_INET6
    (sock,) = sockets_of(find_root(), known.cgroup, [family])
    return sock


def _connect(sock: socket.socket, address: SocketAddress) -> tuple[Outcome, int]:
    """What becomes of it, and the port of this end, by which the agent's log knows it.

    Our side is closed at once: whoever answers or closes too is reached, whoever resets refuses.
    """
    sock.settimeout(PATIENCE)
    sock.bind(("", 0))
    port = int(sock.getsockname()[1])
    try:
        sock.connect((str(address.ip), address.port))
        sock.shutdown(socket.SHUT_WR)
        readable, _, _ = select.select([sock], [], [], PATIENCE)
        if not readable:
            return Outcome.SILENT, port
        sock.recv(1)
    except TimeoutError:
        return Outcome.SILENT, port
    except OSError:
        return Outcome.REFUSED, port
    return Outcome.OPEN, port


def _said_of(port: int, began: float) -> dict[str, str]:
    """The fields of the access log's line about a connection from a port of this host; none if there is none."""
    command = ["journalctl", "--unit=hostmesh-agent.service", "--output=cat", "--no-pager", f"--since=@{int(began)}"]
    deadline = time.monotonic() + _LOG_PATIENCE
    while time.monotonic() < deadline:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)  # noqa: S603 - no input
        except (OSError, subprocess.TimeoutExpired):
            return {}
        for line in reversed(done.stdout.splitlines()):
            if f":{port} " in line and "error=" in line and (said := parse_line(line))["src.addr"].endswith(f":{port}"):
                return said
        time.sleep(_LOG_PAUSE)
    return {}
