"""`hostmesh probe`: what captured services of this host reach through the mesh, tried with connections of theirs.

A connection is made as the service makes it: captured, with its identity, judged by the destination. Our side
is closed at once; whoever answers or closes too is reached, whoever resets refuses.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from hostmesh.cli.dump import load
from hostmesh.cli.output import output_option, structured
from hostmesh.cli.status import fetch, table
from hostmesh.kernel.cgroup import NoCgroup2, find_root
from hostmesh.kernel.units import SystemdUnavailable, show
from hostmesh.kernel.within import sockets_of
from hostmesh.model.address import SocketAddress, parse_ip

MAX_PROBES = 200
"""Connections of one call; the first ones by name if there are more."""

Json = dict[str, Any]
Results = dict[str, str]
"""`source -> destination` to `open`, `refused` or `silent`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One connection to try: the unit whose it is, and where to."""

    source: str
    unit: str
    target: str
    address: SocketAddress

    @property
    def name(self) -> str:
        """How results call it."""
        return f"{self.source} -> {self.target}"


@click.command()
@click.option("--node", help="Only workloads of this host, by their own addresses, instead of services.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds until silence counts as an answer.")
@click.option(
    "--baseline",
    type=click.File(encoding="utf-8"),
    help="What an earlier call printed with -o json: fail only if something that was open is not.",
)
@output_option
@click.option("--port", "--proxy-admin-port", default=15000, show_default=True, help="The agent's admin port.")
def probe(node: str | None, timeout: float, baseline: TextIO | None, output: str, port: int) -> None:
    """Try what the captured services of this host reach, each with its own identity.

    Needs root. Exit status 1 if the agent is not ready or not of this installation (yet), or if something that was open
    in --baseline is not.
    """
    status = fetch(port, "/status")
    chosen = probes(status, load(None, port), node)[:MAX_PROBES]
    try:
        results = run(chosen, timeout)
    except (OSError, NoCgroup2, SystemdUnavailable) as error:
        raise click.ClickException(f"cannot act for a service: {error}; run this as root") from error
    before = read_baseline(baseline.read()) if baseline is not None else {}
    worse = sorted(name for name, was in before.items() if was == "open" and results.get(name) != "open")
    if not structured(output, {"ready": not _not_ready(status), "results": results, "worse": worse}):
        rows: list[tuple[str, ...]] = [("CONNECTION", "RESULT")]
        rows += [(name, result) for name, result in sorted(results.items())]
        click.echo("\n".join(table(rows)))
    for name in worse:
        click.echo(f"{name} was open and is {results.get(name, 'not tried any more')}", err=True)
    complaints = _not_ready(status)
    for complaint in complaints:
        click.echo(complaint, err=True)
    if worse or complaints:
        sys.exit(1)


def _not_ready(status: Json) -> list[str]:
    """Why this agent is not to be judged yet: a reload goes on after `systemctl reload` has returned."""
    complaints = [] if status["ready"] else [f"the agent is not ready, pending: {', '.join(status['pending'])}"]
    running, installed = status.get("installation"), str(Path(sys.prefix).resolve())
    if running != installed:
        complaints.append(f"the agent runs {running or 'an earlier version'} and not {installed} (yet)")
    return complaints


def read_baseline(text: str) -> Mapping[str, str]:
    """What an earlier call printed.

    Raises:
        click.ClickException: it is something else.
    """
    try:
        found = json.loads(text)["results"]
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException("--baseline is not what `hostmesh probe -o json` printed") from error
    return {str(name): str(result) for name, result in found.items()}


def probes(status: Json, dump: Json, node: str | None) -> list[Probe]:
    """Every captured service to every port of every service of the mesh, or of every workload of a node.

    Slices, users and namespaces have no cgroup of their own that a process may enter for a moment.
    """
    targets = list(_workload_targets(dump, node) if node is not None else _service_targets(dump))
    return [
        Probe(f"{one['namespace']}/{one['name']}", one["unit"], name, address)
        for one in status["workloads"]
        if one["unit"].endswith(".service") and one["capture"] == "captured"
        for name, address in targets
    ]


def _service_targets(dump: Json) -> Iterator[tuple[str, SocketAddress]]:
    for service in sorted(dump["services"], key=lambda one: (one["namespace"], one["hostname"])):
        vips = [parse_ip(vip.rpartition("/")[2]) for vip in service.get("vips") or ()]
        vip = min(vips, key=lambda ip: ip.version, default=None)
        for port in sorted(map(int, service.get("ports") or ())) if vip is not None and service["endpoints"] else ():
            assert vip is not None
            yield f"{service['hostname']}:{port}", SocketAddress(vip, port)


def _workload_targets(dump: Json, node: str) -> Iterator[tuple[str, SocketAddress]]:
    for workload in sorted(dump["workloads"], key=lambda one: str(one["uid"])):
        if workload.get("node") == node and workload["workloadIps"]:
            ports = {int(target) for found in (workload.get("services") or {}).values() for target in found.values()}
            for port in sorted(ports - {0}):
                address = SocketAddress(parse_ip(workload["workloadIps"][0]), port)
                yield f"{workload['namespace']}/{workload['name']}:{port}", address


def run(chosen: Iterable[Probe], timeout: float) -> Results:
    """Try them all at the same time.

    Raises:
        OSError: this process may not act for a service.
    """
    waiting: dict[socket.socket, Probe] = {}
    results: Results = {}
    try:
        for probe_, sock in _made(list(chosen)):
            sock.setblocking(False)
            waiting[sock] = probe_
            sock.connect_ex((str(probe_.address.ip), probe_.address.port))
        _watch(waiting, results, time.monotonic() + timeout)
    finally:
        for sock in waiting:
            sock.close()
    return {**dict.fromkeys((one.name for one in waiting.values()), "silent"), **results}


def _made(chosen: list[Probe]) -> Iterator[tuple[Probe, socket.socket]]:
    root = find_root()
    units = show(sorted({one.unit for one in chosen}))
    for unit, known in units.items():
        own = [one for one in chosen if one.unit == unit]
        if known.active:
            families = [socket.AF_INET if one.address.ip.version == 4 else socket.AF_INET6 for one in own]
            yield from zip(own, sockets_of(root, known.cgroup, families), strict=True)


def _watch(waiting: dict[socket.socket, Probe], results: Results, deadline: float) -> None:
    """Wait for answers; `waiting` keeps all sockets, `results` gets what is decided."""
    connected: set[socket.socket] = set()
    undecided = set(waiting)
    while undecided and (left := deadline - time.monotonic()) > 0:
        connecting = [sock for sock in undecided if sock not in connected]
        readable, writable, _ = select.select(list(undecided & connected), connecting, [], left)
        for sock in writable:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                results[waiting[sock].name] = "refused"
                undecided.discard(sock)
                continue
            connected.add(sock)
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                results[waiting[sock].name] = "refused"
                undecided.discard(sock)
        for sock in readable:
            results[waiting[sock].name] = _answer(sock)
            undecided.discard(sock)


def _answer(sock: socket.socket) -> str:
    try:
        sock.recv(1)
    except OSError:
        return "refused"
    return "open"
