"""`hostmesh waypoint` beside a real control plane: documents in, a real Envoy out, whatever happens to either."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.interop.test_waypoint import http_app
from tests.support.addresses import free_port
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document
from tests.support.hbone_peer import dial
from tests.support.patience import PATIENCE
from tests.support.proxy import App, echo, fresh_ip
from tests.support.waypoint import Answer, Client

from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.enrolment import enrol
from hostmesh.identity.node import NodeStore
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import ControlPlane

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).parent / "wasm" / "plugin.wat"
VIP = "10.96.0.1:80"
GATEWAY = document(
    "Gateway", "gatewayClassName: istio-waypoint\nlisteners: [{name: mesh, port: 15008, protocol: HBONE}]", "name: wp"
)
SERVICE = document(
    "Service",
    "selector: {app: web}\nclusterIP: 10.96.0.1\nports: [{port: 80, name: http}]",
    "name: web, labels: {istio.io/use-waypoint: wp}",
)
GET_ONLY = document(
    "AuthorizationPolicy",
    "targetRefs: [{group: '', kind: Service, name: web}]\nrules: [{to: [{operation: {methods: [GET]}}]}]",
    "name: get-only",
)
TO_V1 = document(
    "HTTPRoute",
    """
    parentRefs: [{group: "", kind: Service, name: web}]
    rules:
    - filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v1}}}]
      backendRefs: [{name: web, port: 80}]
    """,
    "name: echo",
)
REFUSED_BY_ENVOY = TO_V1.replace(
    "type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v1}}",
    "type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: '%NOTHING%'}]}",
)


def entry(name: str, address: str, ports: str, labels: str) -> str:
    return document(
        "WorkloadEntry",
        f"address: {address}\nserviceAccount: {name}\nports: {ports}",
        f"name: {name}, labels: {{{labels}}}",
    )


class Lab:
    """A control plane, the waypoint's host, and a client's certificate."""

    def __init__(self, plane: RunningControlPlane, directory: Path, app: App) -> None:
        self.plane = plane
        self.directory = directory
        self.ip, self.port, self.metrics_port = fresh_ip(), free_port(), free_port()
        node = "hostmesh.io/node: n9"
        self.apply(
            GATEWAY,
            SERVICE,
            entry("wp", self.ip, f"{{mesh: {self.port}}}", f"{node}, gateway.networking.k8s.io/gateway-name: wp"),
            entry("alice", "127.0.0.1", "{}", node),
            entry("carol", "127.0.0.1", "{}", node),
            entry("web", app.ip, f"{{http: {app.port}}}", "app: web"),
        )
        self.alice, self.carol = asyncio.run(self._enrol())
        self.config = directory / "agent.yaml"
        settings = {
            "node": "n9",
            "state_dir": str(directory),
            "control_plane": {"address": f"127.0.0.1:{plane.port}", "root_cert": str(self._root)},
        }
        self.config.write_text(json.dumps(settings))

    @property
    def _root(self) -> Path:
        return self.plane.directory / "state" / "ca" / "root-cert.pem"

    async def _enrol(self) -> list[Credentials]:
        endpoint, store = Endpoint("127.0.0.1", self.plane.port), NodeStore(self.directory)
        token = await asyncio.to_thread(lambda: self.plane.client.token("n9", 60)["token"])
        store.save(await enrol(ControlPlane(endpoint, self._root), "n9", "cluster.local", token))
        ca = CaClient(ControlPlane(endpoint, self._root, store.files), 3600)
        names = ("alice", "carol")
        return [await ca.fetch(Identity("cluster.local", "default", name)) for name in names]

    def client(self, credentials: Credentials) -> Client:
        """A new connection of somebody."""
        client = Client.__new__(Client)
        client.baggage = ""
        client.peer = dial((self.ip, self.port), credentials, credentials.roots_pem)
        return client

    def apply(self, *texts: str) -> None:
        self.plane.client.apply(
            [{"source": f"{number}.yaml", "text": text} for number, text in enumerate(texts)], dry_run=False
        )

    @contextmanager
    def waypoint(self) -> Iterator[subprocess.Popen[str]]:
        """Started as systemd does it, and ready."""
        argv = [str(self.program()), "waypoint", "run", "default/wp", "--config", str(self.config)]
        argv += [
            "--metrics-port",
            str(self.metrics_port),
            "--bind",
            self.ip,
            "--runtime-dir",
            str(self.directory / "run"),
            "--state-dir",
            str(self.directory),
        ]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, (self.directory / "log").open("w") as log:
            notified.settimeout(PATIENCE)
            (self.directory / "notify").unlink(missing_ok=True)
            notified.bind(str(self.directory / "notify"))
            environment = {**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify")}
            process = subprocess.Popen(argv, stdout=log, stderr=log, text=True, env=environment)
            try:
                while b"READY=1" not in notified.recv(4096):
                    pass
                self.until(lambda: self.status()["envoy"].get("listeners") == 3)
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                finally:
                    process.kill()
                    process.wait()

    def program(self, version: int = 1) -> Path:
        """The command by its link to a version, as hosts have it; another version is installed by leading it there."""
        script = self.directory / f"hostmesh-{version}"
        said = f"import sys\nprint('version {version}', file=sys.stderr)\n"
        script.write_text(f"#!{sys.executable}\n{said}from hostmesh.cli import main\nmain()\n")
        script.chmod(0o755)
        fresh, link = self.directory / "fresh", self.directory / "hostmesh"
        fresh.symlink_to(script)
        return fresh.replace(link)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def command(self, *words: str) -> str:
        """What `hostmesh waypoint` prints."""
        argv = [sys.executable, "-m", "hostmesh", "waypoint", *words, "--runtime-dir", str(self.directory / "run")]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def status(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.command("status", "default/wp", "-o", "json"))
        return result

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.ip}:{self.metrics_port}/metrics", timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def answer(self, path: str = "/", method: str = "GET") -> Answer:
        """What alice gets for a request on a tunnel of a new connection."""
        client = self.client(self.alice)
        with client.peer:
            return client.ask(VIP, f"{method} {path} HTTP/1.1")

    def ask(self, method: str = "GET", path: str = "/") -> tuple[int, str]:
        """Its status and body."""
        answer = self.answer(path, method)
        return answer.status, answer.body.decode()

    def until(self, condition: Any) -> None:
        """Look every tenth of a second: foreign processes have nothing to wait on."""
        deadline = time.monotonic() + 2 * PATIENCE
        while not condition():
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.1)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    plane, host = tmp_path / "plane", tmp_path / "host"
    plane.mkdir()
    host.mkdir()
    with App(fresh_ip(), http_app("web")) as app, control_plane(plane) as running:
        yield Lab(running, host, app)


def test_documents_take_effect_without_touching_a_workload(lab: Lab) -> None:
    """A method refused, a route rewritten; what Envoy would refuse changes nothing and is said."""
    with lab.waypoint():
        assert lab.ask("POST", "/a") == (200, "web POST /a HTTP/1.1")
        lab.apply(GET_ONLY, TO_V1)
        lab.until(lambda: lab.ask("POST")[0] == 403)
        lab.until(lambda: lab.ask("GET", "/a") == (200, "web GET /v1/a HTTP/1.1"))
        lab.apply(REFUSED_BY_ENVOY)
        lab.until(lambda: lab.status()["configuration"]["error"].startswith("the route default/echo: "))
        assert "NOTHING" in lab.status()["configuration"]["error"]
        assert lab.ask("GET", "/a") == (200, "web GET /v1/a HTTP/1.1")
        lab.apply(TO_V1)
        lab.until(lambda: lab.status()["ready"])
        (service,) = lab.status()["serving"]["services"]
        assert service == {
            "hostname": "web.default.svc.cluster.local",
            "ports": [{"port": 80, "protocol": "HTTP", "endpoints": 1, "routes": 1}],
            "policies": 1,
        }
        table = lab.command("status", "default/wp")
        assert "default/wp (hostmesh" in table
        assert "web.default.svc.cluster.local: 80 (HTTP, 1 endpoints, 1 routes); 1 policies" in table
        assert "istio_requests_total{" in lab.metrics()
        assert "hostmesh_waypoint_ready 1.0" in lab.metrics()


def test_it_survives_its_envoy(lab: Lab) -> None:
    """One that dies is started again; one that is replaced refuses nobody meanwhile."""
    with lab.waypoint() as process:
        assert lab.ask()[0] == 200
        listing = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(listing.stdout.split()[0]), signal.SIGKILL)
        lab.until(lambda: (lab.directory / "log").read_text().count("envoy started") == 2)
        lab.until(lambda: lab.status()["envoy"].get("listeners") == 3)
        assert lab.ask()[0] == 200
        process.send_signal(signal.SIGHUP)
        answers = []
        lab.until(lambda: answers.append(lab.ask()[0]) or "epoch 1" in lab.log())
        answers += [lab.ask()[0] for _ in range(50)]
        assert set(answers) == {200}
    assert process.returncode == 0


def test_certificates_rotate_under_traffic(lab: Lab) -> None:
    """A certificate of 30 s is renewed and used at once; nobody is refused, and a client sees the new one."""
    lab.config.write_text(json.dumps({**json.loads(lab.config.read_text()), "certificates": {"ttl": "30s"}}))

    def shown() -> bytes:
        with dial((lab.ip, lab.port), lab.alice, lab.alice.roots_pem) as peer:
            return peer.sock.getpeercert(binary_form=True) or b""

    with lab.waypoint():
        first, answers = shown(), []
        lab.until(lambda: answers.append(lab.ask()[0]) or shown() != first)
        answers += [lab.ask()[0] for _ in range(20)]
        assert set(answers) == {200}


def test_another_version_takes_over_under_traffic(lab: Lab) -> None:
    """The process becomes the installed program and lets a new Envoy take over; nobody is refused meanwhile."""
    with lab.waypoint() as process:
        stopping = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lambda: [lab.ask()[0] for _ in iter(stopping.is_set, True)])
            lab.program(2)
            process.send_signal(signal.SIGHUP)
            lab.until(lambda: "epoch 1" in lab.log())
            lab.until(lambda: lab.status()["ready"])
            process.send_signal(signal.SIGHUP)  # and once more, now that it is not the first
            lab.until(lambda: "epoch 2" in lab.log())
            lab.until(lambda: lab.status()["ready"])
            stopping.set()
        assert set(asked.result()) == {200}
        assert lab.log().count("envoy started") == 3
        assert lab.log().count("version 2") == 1
    assert process.returncode == 0
    assert subprocess.run(["pgrep", "-f", str(lab.directory / "run")], check=False).returncode == 1  # nobody is left


TCP = "10.96.0.2:80"


def refused(lab: Lab, credentials: Credentials) -> bool:
    """Whether somebody gets no tunnel, or not even a connection."""
    try:
        client = lab.client(credentials)
    except OSError:
        return True
    with client.peer:
        try:
            return client.tunnel(TCP)[1] == 403
        except OSError:
            return True


def test_the_revoked_lose_the_tunnels_that_they_have(lab: Lab) -> None:
    """By serial number and by identity, on a port where nobody reads requests; no listener drains for it."""
    with App(fresh_ip(), echo) as app:
        lab.apply(
            SERVICE.replace("name: web,", "name: db,").replace("{app: web}", "{app: db}")
            .replace("10.96.0.1", "10.96.0.2").replace("name: http", "name: tcp"),
            entry("db", app.ip, f"{{tcp: {app.port}}}", "app: db"),
        )  # fmt: skip
        with lab.waypoint():
            lab.until(lambda: lab.status()["ready"])
            alice, carol = lab.client(lab.alice), lab.client(lab.carol)
            with alice.peer, carol.peer:
                streams = {one: one.tunnel(TCP)[0] for one in (alice, carol)}
                for one, stream in streams.items():
                    one.peer.send(stream, b"hello")
                    assert one.read(stream) == b"hello"
                lab.plane.client.ca_revoke("", f"{lab.alice.serial:x}", "keyCompromise")
                assert ended(alice, streams[alice])
                carol.peer.send(streams[carol], b"again")
                assert carol.read(streams[carol]) == b"again"
                lab.until(lambda: refused(lab, lab.alice))
                assert not refused(lab, lab.carol)
                lab.plane.client.ca_revoke(str(lab.carol.identity), "", "unspecified")
                assert ended(carol, streams[carol])
                lab.until(lambda: refused(lab, lab.carol))


def ended(client: Client, stream: int) -> bool:
    """Waits for a tunnel to end, with its connection."""
    try:
        return client.read(stream) == b""
    except ConnectionError:
        return True


def test_telemetry_and_plugins_are_documents_too(lab: Lab) -> None:
    """A tag and a format of the log, a module that adds a header; one that is missing is named, and changes nothing."""
    module = lab.directory / "plugin.wasm"
    subprocess.run(["wat2wasm", SOURCE, "-o", module], check=True)
    target = "targetRefs: [{group: '', kind: Service, name: web}]"
    plugin = document("WasmPlugin", f"{target}\nurl: file://{module}\npluginConfig: {{a: 1}}", "name: seen")
    telemetry = document(
        "Telemetry",
        f"""
        {target}
        accessLogging: [{{filter: {{expression: "request.path == '/logged'"}}}}]
        metrics: [{{overrides: [{{tagOverrides: {{path: {{value: request.path}}}}}}]}}]
        """,
        "name: web",
    )
    with lab.waypoint():
        lab.apply(telemetry, plugin)
        lab.until(lambda: "x-plugin" in (lab.answer("/silent").headers or {}))
        answer = lab.answer("/logged")
        assert (answer.status, (answer.headers or {})["x-plugin"]) == (200, '{"a": 1}')
        lab.until(lambda: 'path="/logged"' in lab.metrics())
        for path in ("/quiet", "/logged"):
            assert lab.answer(path).status == 200
        lab.until(lambda: lab.log().count('"path":"/logged"') == 2)
        assert "/quiet" not in lab.log()
        lab.apply(telemetry, plugin.replace("plugin.wasm", "missing.wasm"))
        lab.until(lambda: lab.status()["configuration"]["error"])
        assert lab.status()["configuration"]["error"].startswith("WasmPlugin default/seen: ")
        assert lab.ask()[0] == 200
