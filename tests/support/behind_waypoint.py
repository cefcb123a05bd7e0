"""Documents in, real requests through: an Envoy programmed by what a user writes, applications behind an agent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.documents import document, objects
from tests.support.http_app import Asked, Behaviour, HttpApp, told
from tests.support.pki import ALICE
from tests.support.proxy import Mesh, fresh_ip
from tests.support.waypoint import Client, RunningWaypoint, waypoint

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import Translation, translate
from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.xds.waypoint_codec import decode_program, encode_program

USES = "labels: {istio.io/use-waypoint: wp}"
GATEWAY = document(
    "Gateway", "gatewayClassName: istio-waypoint\nlisteners: [{name: mesh, port: 15008, protocol: HBONE}]", "name: wp"
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client got: the status and headers, and what the application was asked if it was reached."""

    status: int
    asked: Asked | None
    headers: dict[str, str]

    @property
    def brief(self) -> tuple[int, str]:
        """The status, and which application answered."""
        return self.status, self.asked.app if self.asked is not None else ""


class Services:
    """Services of bob's host, each with an address of its own and one application; `documents` describe them.

    A service called NAME is at `vips[NAME]`:80, and its hostname is NAME.default.svc.cluster.local.
    """

    def __init__(self, mesh: Mesh, directory: Path, stack: ExitStack) -> None:
        self.mesh = mesh
        self.config = MeshConfig(network="lab")
        self.ip = fresh_ip()
        self.vips: dict[str, str] = {}
        self.apps: dict[str, HttpApp] = {}
        self._directory = directory
        self._stack = stack
        self._numbers = itertools.count(1)
        instance = document(
            "WorkloadEntry",
            f"address: {self.ip}\nserviceAccount: waypoint",
            "name: wp1, labels: {hostmesh.io/node: n9, gateway.networking.k8s.io/gateway-name: wp}",
        )
        self.gateway = GATEWAY
        self._documents = [instance]

    def http(
        self, name: str, behaviour: Behaviour | None = None, *, port_name: str = "http", behind: str = "wp"
    ) -> str:
        """A service with an HTTP application; `behind` this waypoint or ("") none."""
        app = self._stack.enter_context(HttpApp(self.mesh.ip, name, behaviour))
        self.apps[name] = app
        return self.at(name, app.port, port_name=port_name, behind=behind)

    def at(self, name: str, port: int, *, port_name: str = "http", behind: str = "wp") -> str:
        """A service whose application listens on a port of bob's host."""
        vip = self.vips[name] = f"10.96.0.{next(self._numbers)}"
        labels = f", labels: {{istio.io/use-waypoint: {behind}}}" if behind else ""
        self._documents += [
            document(
                "Service",
                f"selector: {{app: {name}}}\nclusterIP: {vip}\nports: [{{port: 80, name: {port_name}}}]",
                f"name: {name}{labels}",
            ),
            document(
                "WorkloadEntry",
                f"address: {self.mesh.ip}\nserviceAccount: bob\nports: {{{port_name}: {port}}}",
                f"name: {name}-1, labels: {{app: {name}, hostmesh.io/node: n1}}",
            ),
        ]
        return vip

    def told(self, *documents: str) -> Translation:
        """What the control plane makes of these documents beside the services."""
        return translate(objects(self.gateway, *self._documents, *documents), self.config)

    def program(self, *documents: str) -> WaypointProgram:
        """The waypoint's part of it, once across the wire."""
        (made,) = (one for one in self.told(*documents).waypoints if one.name == "wp")
        return decode_program(encode_program(made))

    @contextmanager
    def waypoint(self, *documents: str) -> Iterator[Front]:
        """An Envoy that obeys the documents."""
        with waypoint(self._directory, self.mesh.authority, self.program(*documents), self.ip) as running:
            yield Front(self, running)


class Front:
    """The running waypoint and its callers."""

    def __init__(self, services: Services, running: RunningWaypoint) -> None:
        self.running = running
        self.services = services
        self._clients: dict[Identity, Client] = {}

    def client(self, identity: Identity = ALICE) -> Client:
        """The one connection of this caller."""
        if identity not in self._clients:
            self._clients[identity] = self.running.client(identity)
        return self._clients[identity]

    def ask(self, service: str, line: str = "GET /", *headers: str, caller: Identity = ALICE, port: int = 80) -> Heard:
        """One request on a tunnel of its own."""
        authority = f"{self.services.vips[service]}:{port}"
        answer = self.client(caller).ask(authority, f"{line} HTTP/1.1", *headers)
        asked = told(answer.body) if answer.body.startswith(b'["') else None
        return Heard(answer.status, asked, answer.headers or {})

    def captured(self, service: str, port: int = 80) -> SocketAddress:
        """Where an application of alice's host connects to, so that it talks to the service as her agent has it."""
        client = self.services.mesh.client
        told = self.services.told()
        client.put(*told.workloads, *told.services)
        client.destination = SocketAddress.of(self.services.vips[service], port)
        return self.services.mesh.outbound


@contextmanager
def services(directory: Path) -> Iterator[Services]:
    """An empty mesh to put services into."""
    with Mesh() as mesh, ExitStack() as stack:
        yield Services(mesh, directory, stack)
