"""TCPRoutes obeyed by a real Envoy: connections of alice's application, divided among servers behind their agent."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.behind_waypoint import Front, Services, services
from tests.support.documents import document
from tests.support.patience import PATIENCE
from tests.support.proxy import App, receive_all

pytestmark = pytest.mark.interop


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Services]:
    """Servers that greet with their name and end."""
    with services(tmp_path) as made, ExitStack() as stack:
        for name in ("db", "v1", "v2"):
            app = stack.enter_context(App(made.mesh.ip, lambda sock, name=name: sock.sendall(name.encode())))  # type: ignore[misc]
            made.at(name, app.port, port_name="tcp", behind="wp" if name == "db" else "")
        yield made


def route(rules: str, port: str = "") -> str:
    parents = f"parentRefs: [{{group: '', kind: Service, name: db{port}}}]"
    return document("TCPRoute", f"{parents}\nrules:\n{rules}", "name: r")


def greeted(front: Front, service: str = "db") -> str:
    """By whom an application of alice is greeted; nothing if it is only cut off."""
    where = front.captured(service)
    with socket.create_connection((str(where.ip), where.port), timeout=PATIENCE) as sock:
        try:
            return receive_all(sock).decode()
        except ConnectionResetError:
            return ""


def test_shares(mesh: Services) -> None:
    """By weight, and none for weight 0; the first rule takes everything."""
    rules = """
- backendRefs: [{name: v1, port: 80, weight: 3}, {name: v2, port: 80, weight: 1}, {name: db, port: 80, weight: 0}]
- backendRefs: [{name: db, port: 80}]
"""
    with mesh.waypoint(route(rules)) as front:
        shares = Counter(greeted(front) for _ in range(60))
        assert set(shares) == {"v1", "v2"}
        assert shares["v1"] > shares["v2"]


def test_where_nothing_is_meant_nothing_is_reached(mesh: Services) -> None:
    """A missing backend and weights that are all 0 close connections; they do not fall back to the service."""
    for backends in ("{name: gone, port: 80}", "{name: v1, port: 80, weight: 0}"):
        with mesh.waypoint(route(f"- backendRefs: [{backends}]")) as front:
            assert greeted(front) == ""


def test_the_default_is_the_service_itself(mesh: Services) -> None:
    """And so it is on ports that the route does not name."""
    with mesh.waypoint(route("- backendRefs: [{name: v1, port: 80}]", ", port: 81")) as front:
        assert greeted(front) == "db"
