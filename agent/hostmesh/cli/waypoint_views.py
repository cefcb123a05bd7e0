"""What the waypoints of this host say of themselves, to whoever may ask them."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hostmesh.admin.world import WaypointView

RUNTIME = Path("/run/hostmesh-waypoint")
SOCKET = "waypoint.sock"


def waypoint_views() -> dict[str, WaypointView]:
    """How the waypoints of this host are, as far as whoever asks may know."""
    found = {}
    for name in here():
        try:
            said = told(name)
        except click.ClickException as error:
            found[name] = WaypointView(False, error.message)
        else:
            text = "ready" if said["ready"] else "not ready"
            found[name] = WaypointView(said["ready"], ", ".join([text, *troubles(said)]))
    return found


def told(gateway: str) -> dict[str, Any]:
    """What the waypoint of a Gateway on this host says of itself.

    Raises:
        click.ClickException: it does not answer.
    """
    return ask(RUNTIME / gateway.replace("/", ".") / SOCKET)


def here() -> list[str]:
    """The Gateways whose waypoints have run on this host since it booted."""
    try:
        return sorted(one.name.replace(".", "/", 1) for one in RUNTIME.iterdir() if (one / SOCKET).exists())
    except OSError:
        return []


def troubles(found: dict[str, Any]) -> Iterator[str]:
    """What is wrong with it."""
    plane, envoy, configuration = found["control_plane"], found["envoy"], found["configuration"]
    if not plane["connected"]:
        yield f"the control plane is not connected: {plane['error'] or 'no attempt yet'}"
    if envoy["state"] != "LIVE":
        yield f"envoy is {envoy['state']}: {envoy.get('error', '')}"
    if configuration["error"]:
        yield f"the newest configuration is refused: {configuration['error']}"


def ask(path: Path) -> dict[str, Any]:
    """The waypoint that listens on a socket.

    Raises:
        click.ClickException: it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            connection = http.client.HTTPConnection("waypoint")
            connection.sock = sock
            connection.request("GET", "/status")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
    except OSError as error:
        why = f"{path}: the waypoint does not answer ({error.strerror or error})"
        raise click.ClickException(
            f"{why}; is hostmesh-waypoint@ running? `systemctl status 'hostmesh-waypoint@*'`"
        ) from error
