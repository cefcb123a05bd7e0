"""`hostmesh explain`: why a connection is allowed, refused, or not what one expects; live, or from files."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import time
from pathlib import Path
from typing import Any

import click

from hostmesh.admin.explain import Explanation, explain
from hostmesh.admin.explain_waypoint import Asked
from hostmesh.admin.heard import newest, served_here, with_heard
from hostmesh.admin.parties import NotUnderstood, find_source, find_target
from hostmesh.admin.steps import Step
from hostmesh.admin.tried import addresses_of, with_tried
from hostmesh.admin.world import Reach, World
from hostmesh.cli.access_line import NoLogLine, parse_line, reason_of_line
from hostmesh.cli.attempt import attempt
from hostmesh.cli.client import Client, socket_option
from hostmesh.cli.dump import load
from hostmesh.cli.journal import inbound_lines
from hostmesh.cli.output import output_option, structured
from hostmesh.cli.status import AgentUnreachable, fetch, table
from hostmesh.cli.waypoint_views import waypoint_views
from hostmesh.cli.world import from_dump
from hostmesh.model.address import SocketAddress
from hostmesh.telemetry.reasons import Reason

_PATIENCE = 2.0
"""Seconds that a port gets to answer."""
_COLOURS = {"fine": "green", "odd": "yellow", "stops": "red"}


@click.command("explain")
@click.argument("source", required=False)
@click.argument("destination", required=False)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), help="A saved config dump.")
@click.option(
    "-f", "--filename", "documents", multiple=True, metavar="FILE", help="Documents of the mesh; may be repeated."
)
@click.option("--log", "line", help="A line of the access log, of hostmesh or ztunnel, instead of SOURCE DESTINATION.")
@click.option("--method", help="Of the request, for waypoints: GET.")
@click.option("--path", "url_path", metavar="PATH", help="The same: /api?version=2.")
@click.option("--host", help="The same: the host that the request names.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="The same; may be repeated.")
@click.option("--no-probe", is_flag=True, help="Make no connections.")
@output_option
@click.option("--port", "--proxy-admin-port", default=15000, show_default=True, help="The agent's admin port.")
@socket_option
def explain_command(
    source: str | None,
    destination: str | None,
    file: Path | None,
    documents: tuple[str, ...],
    line: str | None,
    method: str | None,
    url_path: str | None,
    host: str | None,
    headers: tuple[str, ...],
    no_probe: bool,
    output: str,
    port: int,
    path: Path,
) -> None:
    """Explain what becomes of a connection from SOURCE to DESTINATION (host:port), step by step.

    SOURCE is a workload (namespace/name), a unit, a SPIFFE id or an address; on its host the agent is asked, the next
    hop is tried, and where nothing is in the way a connection is made as the unit makes it, and closed at once. On the
    destination's host its log of the last minutes is looked at, on the control plane's the documents. With --file or -f
    nothing is asked and nothing tried. Where a waypoint is on the way, its L7 rules and routes are looked at on the
    control plane's host, and with -f; --method, --path, --host and --header say which request is meant.

    \b
    hostmesh explain prod/sleep web.prod.svc.cluster.local:80
    hostmesh explain prod/sleep prod/web:80 -f /etc/hostmesh/documents
    hostmesh explain prod/sleep web.prod.svc.cluster.local:80 --method POST --path /orders
    hostmesh explain --log "$(journalctl -u hostmesh-agent -o cat -n1 MESH_REASON=POLICY_DENIED)"

    Exit status 0 if the connection is allowed, 1 if not. docs/reasons/ has a page for each reason.
    """  # noqa: D301 - what click takes for "as written"
    if line is not None:
        _explain_line(line, output)
        return
    if source is None or destination is None:
        raise click.UsageError("give SOURCE and DESTINATION, or --log")
    name, number = _split(destination)
    live = file is None and not documents
    world = _with_own_waypoints(_world(file, documents, port, path)) if live else _world(file, documents, port, path)
    asked = Asked(method, url_path, host, dict(_pair(one) for one in headers))
    may_probe = live and not no_probe
    try:
        found = explain(
            world, source, name, number, time.time(), probe if may_probe else lambda _: Reach.UNKNOWN, asked
        )
        if may_probe and found.allowed:
            found = _tried(found, world, source, name, number)
        if live and found.allowed:
            found = _heard(found, world, source, name)
    except NotUnderstood as error:
        raise click.ClickException(str(error)) from error
    if not structured(output, as_json(found)):
        click.echo(render(found))
    if not found.allowed:
        raise SystemExit(1)


def _tried(found: Explanation, world: World, source: str, name: str, port: int) -> Explanation:
    """What the decisions do not show: who listens there, what the other side's certificate is, where names lead."""
    made = attempt(world, source, name, port)
    return found if made is None else with_tried(found, made[0], addresses_of(world, made[1]))


def _heard(found: Explanation, world: World, source: str, name: str) -> Explanation:
    """On the destination's host: what its log says of a caller elsewhere."""
    caller = find_source(world, source)
    if caller.captured is not None or caller.workload is None:
        return found
    target = find_target(world, name, caller.workload.namespace)
    served = served_here(world, target) if target is not None else ()
    line = newest(inbound_lines(), caller.workload, served) if served else None
    # Whoever may not read the journal has not seen that there is nothing in it.
    if not served or (line is None and os.geteuid() != 0):
        return found
    return with_heard(found, line, caller.workload, time.time())


def _split(destination: str) -> tuple[str, int]:
    name, colon, port = destination.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.UsageError(f"{destination!r} is not host:port, such as web.prod.svc:80 or [2001:db8::1]:443")
    return name.strip("[]"), int(port)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--header {text!r} is not NAME=VALUE")
    return name, value


def _world(file: Path | None, documents: tuple[str, ...], port: int, socket_: Path) -> World:
    written = _written(documents, None if file is not None else socket_)
    if file is None and documents and written is not None:
        return written
    try:
        world = from_dump(load(file, port), str(file)) if file is not None else _agents(port)
    except AgentUnreachable:
        if written is None:
            raise
        return written
    return _joined(world, written) if written is not None else world


def _agents(port: int) -> World:
    return from_dump({**load(None, port), "status": fetch(port, "/status")}, "the agent")


def _written(documents: tuple[str, ...], socket_: Path | None) -> World | None:
    """What documents say: these, or those of a control plane on this host; None if there are none."""
    if not documents and (socket_ is None or not socket_.exists()):
        return None
    # Takes longer than all the rest, and most hosts have none.
    from hostmesh.cli.documents_world import from_control_plane, from_documents

    return from_documents(documents) if documents or socket_ is None else from_control_plane(Client(socket_))


def _with_own_waypoints(world: World) -> World:
    """What the waypoints of this host say of themselves, to whoever may ask them."""
    return dataclasses.replace(world, waypoints=waypoint_views())


def _joined(world: World, registry: World) -> World:
    """What an agent knows, and what only documents and the control plane say."""
    return dataclasses.replace(
        world,
        sources=registry.sources,
        network_policies=registry.network_policies,
        membership=registry.membership,
        revoked=world.revoked | registry.revoked,
        programs=registry.programs,
        attachments=registry.attachments,
        gone=registry.gone,
        unhealthy=registry.unhealthy,
    )


def probe(address: SocketAddress) -> Reach:
    """Try a TCP connection from here."""
    try:
        with socket.create_connection((str(address.ip), address.port), timeout=_PATIENCE):
            return Reach.OPEN
    except ConnectionRefusedError:
        return Reach.REFUSED
    except OSError as error:
        unknown = error.errno in (errno.ENETUNREACH, errno.EPERM, errno.EACCES)
        return Reach.UNKNOWN if unknown else Reach.SILENT


def _explain_line(line: str, output: str) -> None:
    try:
        fields = parse_line(line)
    except NoLogLine as error:
        raise click.ClickException(str(error)) from error
    reason = reason_of_line(fields)
    code = reason.name if reason is not None else None
    if not structured(output, {"allowed": reason is None, "reason": code, "fields": fields}):
        click.echo("\n".join(table([(key, value) for key, value in fields.items()])))
        click.echo(_result(False, reason) if reason is not None else "nothing failed")
    if reason is not None:
        raise SystemExit(1)


def render(found: Explanation) -> str:
    """The steps as a person reads them, and the result."""
    width = max((len(step.about) for step in found.steps), default=0)
    lines = [f"{_mark(step)} {step.about.ljust(width)}  {step.text}" for step in found.steps]
    return "\n".join([*lines, "", _result(found.allowed, found.reason)])


def _mark(step: Step) -> str:
    return click.style({"fine": "+", "odd": "?", "stops": "x"}[step.weight], fg=_COLOURS[step.weight])


def _result(allowed: bool, reason: Reason) -> str:
    word = click.style("ALLOWED" if allowed else "REFUSED", fg="green" if allowed else "red", bold=True)
    return f"{word}  {reason.name}: {reason.value}\n         docs/reasons/{reason.name}.md"


def as_json(found: Explanation) -> dict[str, Any]:
    """For scripts; names are stable."""
    return {
        "allowed": found.allowed,
        "reason": found.reason.name,
        "summary": found.reason.value,
        "steps": [
            {
                "about": step.about,
                "text": step.text,
                "verdict": step.weight,
                "reason": step.reason.name if step.reason else None,
            }
            for step in found.steps
        ],
    }
