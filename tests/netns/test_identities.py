"""Several workloads behind one address: who is asked for, who is shown, and that nobody gets what is another's."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from h2.events import DataReceived
from tests.netns.conftest import made_lab
from tests.netns.test_hosts_port import is_cut
from tests.support import envoy
from tests.support.addresses import free_port
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document
from tests.support.hbone_peer import Peer, context
from tests.support.patience import PATIENCE

from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.node import NodeStore
from hostmesh.kernel.sockets import get_mark
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import PROXY_MARK, server_name
from hostmesh.model.node import inbound_identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.wire.x509 import spiffe_identities

if TYPE_CHECKING:
    from tests.netns.conftest import Lab
    from tests.support.netns import Cgroup

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

WEB, DB, CLIENT, LONE = (Identity("cluster.local", "prod", name) for name in ("web", "db", "client", "lone"))
ALIAS = "10.77.0.77"
NEIGHBOUR = 20001
"""A user without privileges."""
ONLY_CLIENT_AND_WEB = """
selector: {matchLabels: {app: db}}
rules: [{from: [{source: {principals: [cluster.local/ns/prod/sa/client, cluster.local/ns/prod/sa/web]}}]}]
"""
HELLO = (
    "import socket,sys\n"
    "listener=socket.socket(fileno=int(sys.argv[1]))\n"
    "listener.settimeout(None)\n"
    "while True:\n connection=listener.accept()[0]\n connection.send(sys.argv[2].encode())\n connection.close()\n"
)


@dataclass
class Mesh:
    """web and db (units a and b) have the host's address, lone (deep) an alias of its own; client is the peer's."""

    lab: Lab
    plane: RunningControlPlane
    server: RunningAgent
    client: RunningAgent
    credentials: Credentials
    """Those of client, as its own host has them."""

    def call(self, cgroup: Cgroup, port: int) -> bytes:
        """What a process of that cgroup hears from the host's address."""
        lab = self.lab
        with lab.connect(lab.host, (lab.host.v4, port), cgroup) as sock:
            try:
                return sock.recv(16)
            except ConnectionResetError:
                return b""

    def handshake(self, address: str, name: str | None = None, credentials: Credentials | None = None) -> ssl.SSLSocket:
        """A stranger's: with client's certificate, and perhaps a server name."""
        raw = self.lab.socket(self.lab.peer)
        raw.connect((address, 15008))
        stranger = context(credentials or self.credentials, self.credentials.roots_pem, server=False)
        return self.lab.stack.enter_context(stranger.wrap_socket(raw, server_hostname=name))

    def shown(self, address: str, name: str | None = None) -> set[Identity]:
        """Whom the certificate names."""
        leaf = self.handshake(address, name).getpeercert(binary_form=True)
        assert leaf is not None
        return set(spiffe_identities(leaf))

    def uid(self, name: str) -> str:
        """The control plane's name of a workload."""
        dump = json.loads(self.server.get(15000, "/config_dump"))
        return next(str(one["uid"]) for one in dump["workloads"] if one["name"] == name)


def entry(name: str, address: str, node: str) -> str:
    spec = f"address: {address}\nserviceAccount: {name}\nlabels: {{app: {name}}}"
    return document("WorkloadEntry", spec, f"name: {name}, namespace: prod, labels: {{hostmesh.io/node: {node}}}")


def service(app: str, port: int, name: str = "") -> str:
    spec = f"""
    hosts: [{name or app}.mesh]
    location: MESH_INTERNAL
    resolution: STATIC
    ports: [{{number: {port}, name: tcp, protocol: TCP}}]
    workloadSelector: {{labels: {{app: {app}}}}}
    """
    return document("ServiceEntry", spec, f"name: {name or app}, namespace: prod")


def _join(made: RunningAgent, plane: RunningControlPlane, node: str, address: str) -> None:
    (made.directory / "join-token").write_text(plane.client.token(node, 600)["token"])
    made.configure(
        node=node,
        workers=1,
        certificates={"shared_inbound": node == "host1"},
        control_plane={
            "address": f"{address}:15012",
            "server_name": "localhost",
            "root_cert": str(plane.directory / "state" / "ca" / "root-cert.pem"),
        },
    )
    start(made)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    tmp_path = tmp_path_factory.mktemp("identities")
    with ExitStack() as stack:
        lab = stack.enter_context(made_lab(tmp_path))
        device = lab.host.run("ip", "-o", "-4", "addr", "show", "scope", "global").split()[1]
        lab.host.ip(f"addr add {ALIAS}/24 dev {device}")
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer, certificates={"shared_inbound": True}))
        documents = [
            entry("web", lab.host.v4, "host1"),
            entry("db", lab.host.v4, "host1"),
            entry("lone", ALIAS, "host1"),
            entry("client", lab.peer.v4, "host2"),
            service("web", 8080),
            service("db", 5432),
            document("AuthorizationPolicy", ONLY_CLIENT_AND_WEB, "name: db, namespace: prod"),
        ]
        plane.client.apply([{"source": "mesh.yaml", "text": text} for text in documents], dry_run=False)
        agents = []
        hosts: tuple[tuple[str, dict[str, Cgroup]], ...] = (
            ("host1", {"web": lab.a, "db": lab.b, "lone": lab.deep}),
            ("host2", {"client": lab.other}),
        )
        for node, units in hosts:
            directory = tmp_path / node
            directory.mkdir()
            where = lab.host if node == "host1" else lab.peer
            cgroups = {f"{name}.service": cgroup.path for name, cgroup in units.items()}
            made = stack.enter_context(agent(where, directory, "", cgroups))
            for name in units:
                (made.workloads / f"{name}.yaml").write_text(
                    f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{unit: {name}.service}}\n"
                )
            _join(made, plane, node, lab.peer.v4)
            agents.append(made)
        for name, address, port, cgroup in (
            ("web", lab.host.v4, 8080, lab.a),
            ("db", lab.host.v4, 5432, lab.b),
            ("db's other port", lab.host.v4, 9999, lab.b),
            ("lone", ALIAS, 7000, lab.deep),
        ):
            process = _say(lab.listen(lab.host, address, port, cgroup), f"I am {name}")
            stack.callback(process.wait)
            stack.callback(process.kill)
        until(lambda: all(json.loads(one.get(15000, "/status"))["ready"] for one in agents))
        yield Mesh(lab, plane, *agents, _fetch(lab, plane, agents[1], CLIENT))


def _fetch(lab: Lab, plane: RunningControlPlane, of: RunningAgent, identity: Identity) -> Credentials:
    """With the node certificate of an agent."""
    root = plane.directory / "state" / "ca" / "root-cert.pem"
    endpoint = Endpoint(lab.peer.v4, 15012, "localhost")
    ca = CaClient(ControlPlane((endpoint,), root, NodeStore(of.directory / "state").files), 3600)
    with lab.peer.entered():
        return asyncio.run(ca.fetch(identity))


def _say(listener: socket.socket, what: str) -> subprocess.Popen[bytes]:
    """Greet everybody, in a process of its own."""
    fd = listener.fileno()
    return subprocess.Popen([sys.executable, "-c", HELLO, str(fd), what], pass_fds=[fd])


def test_who_is_asked_for_and_who_is_shown(mesh: Mesh) -> None:
    """The address where it is one workload's; else the server name; else all, each at its own services' ports."""
    here = mesh.lab.host.v4
    assert mesh.shown(ALIAS) == {LONE}
    assert mesh.shown(here, server_name("lab//nobody")) == {WEB, DB, LONE}
    for name, identity in (("web", WEB), ("db", DB)):
        assert mesh.shown(here, server_name(mesh.uid(name))) == {identity}
    assert mesh.shown(here) == {WEB, DB, LONE}

    with Peer(mesh.handshake(here), client=True) as peer:
        for port, greeting in ((8080, b"I am web"), (5432, b"I am db")):
            stream = peer.connect(f"{here}:{port}")
            assert peer.answer(stream)[":status"] == "200"
            assert peer.wait(DataReceived, stream).data == greeting
        # db listens there, but nobody has told the mesh: the peer might take it for web
        assert peer.answer(peer.connect(f"{here}:9999"))[":status"] == "503"
    until(lambda: "no single workload of 10.77.0.2 has a service at 10.77.0.2:9999" in mesh.server.log)


def test_stock_clients_reach_each_of_them(mesh: Mesh) -> None:
    """Envoy sends no server name and insists on the identity that it expects; OpenSSL finds the certificate sound."""
    lab, here = mesh.lab, mesh.lab.host.v4
    with lab.peer.entered():
        for peer, port, greeting in ((DB, 5432, b"I am db"), (WEB, 8080, b"I am web"), (CLIENT, 8080, b"")):
            listen, admin = free_port(), free_port()
            config = envoy.client(listen, (here, 15008), f"{here}:{port}", peer, mesh.credentials, admin)
            with (
                envoy.running(config, mesh.client.directory, admin),
                socket.create_connection(("127.0.0.1", listen), timeout=20) as sock,
            ):
                assert sock.recv(16) == greeting
    folder = mesh.client.directory
    for name, content in (
        ("key", mesh.credentials.key_pem),
        ("chain", mesh.credentials.chain_pem),
        ("roots", mesh.credentials.roots_pem),
    ):
        (folder / name).write_bytes(content)
    command = lab.peer.command(
        *("openssl", "s_client", "-connect", f"{here}:15008", "-noservername", "-alpn", "h2", "-purpose", "sslserver"),
        *("-cert", f"{folder}/chain", "-key", f"{folder}/key", "-CAfile", f"{folder}/roots", "-verify_return_error"),
    )
    said = subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True).stdout
    assert b"Verify return code: 0 (ok)" in said


def test_the_shared_certificate_is_no_clients(mesh: Mesh) -> None:
    """It is for the inbound listener: whoever shows it as a client is refused."""
    everybody = _fetch(mesh.lab, mesh.plane, mesh.server, inbound_identity("cluster.local", "host1"))
    sock = mesh.handshake(ALIAS, credentials=everybody)
    assert is_refused(sock)
    until(lambda: "the peer's certificate is not meant for this use" in mesh.server.log)


def test_two_workloads_of_one_host_talk_as_themselves(mesh: Mesh) -> None:
    """Through the proxy, with both identities and policy; loopback is theirs; a neighbour is nobody to the policy."""
    lab = mesh.lab
    assert mesh.call(lab.a, 5432) == b"I am db"
    for direction in ("outbound", "inbound"):
        who = (
            f'src.identity="{WEB}"',
            f'dst.identity="{DB}"',
            f'direction="{direction}"',
            "bytes_sent=7" if direction == "inbound" else "bytes_recv=7",
        )
        until(lambda who=who: any(all(one in line for one in who) for line in mesh.server.log.splitlines()))
    assert mesh.call(lab.deep, 5432) == b"", "the policy does not name lone"
    assert mesh.call(lab.b, 8080) == b"I am web"
    local = lab.listen(lab.host, "127.0.0.1", 6000, lab.b)
    lab.connect(lab.host, ("127.0.0.1", 6000), lab.a).sendall(b"untouched")
    assert lab.accept(local).recv(16) == b"untouched"
    until(lambda: "5432" in lab.host.run("nft", "list", "ruleset"))
    for source in ("", lab.host.v4, ALIAS):
        with lab.host.entered():
            os.seteuid(NEIGHBOUR)
            try:
                sock = lab.stack.enter_context(socket.socket())
            finally:
                os.seteuid(0)
        sock.settimeout(PATIENCE)
        sock.bind((source, 0))
        assert sock.connect_ex((lab.host.v4, 5432)) == errno.ECONNRESET or is_cut(sock)


def test_a_neighbour_waits_for_no_plaintext_at_fresh_ports(mesh: Mesh) -> None:
    """He never reaches db, as policy says; web, which no policy closes, in a moment, and through the proxy."""
    lab = mesh.lab
    listeners = [lab.listen(lab.host, lab.host.v4, 0, lab.b) for _ in range(100)]
    for listener in listeners:
        sock = lab.socket(lab.host, lab.other)
        assert sock.connect_ex(listener.getsockname()) in (errno.ECONNREFUSED, errno.ECONNRESET) or is_cut(sock)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    fresh = lab.listen(lab.host, lab.host.v4, 0, lab.a)

    def answered() -> bool:
        sock = lab.socket(lab.host, lab.other)
        return sock.connect_ex(fresh.getsockname()) == 0

    until(answered)
    with lab.accept(fresh) as accepted:
        assert get_mark(accepted) & 0xFFF == PROXY_MARK


def test_who_takes_a_neighbours_port_gets_nothing_of_it(mesh: Mesh) -> None:
    """Web is away and db listens where web is registered: what is meant for web, named or not, never gets there."""
    lab, here = mesh.lab, mesh.lab.host.v4
    thief = lab.listen(lab.host, here, 8081, lab.b)
    mesh.plane.client.apply([{"source": "more.yaml", "text": service("web", 8081, "more")}], dry_run=False)
    until(lambda: "more.mesh" in mesh.server.get(15000, "/config_dump"))
    for name in (None, server_name(mesh.uid("web"))):
        with Peer(mesh.handshake(here, name), client=True) as peer:
            assert peer.answer(peer.connect(f"{here}:8081"))[":status"] == "503"
    thief.settimeout(0)
    with pytest.raises(BlockingIOError):
        thief.accept()


def test_without_a_shared_certificate_the_default_is_meant(mesh: Mesh) -> None:
    """The one that the operator has chosen is shown to whoever names nobody, and only that one they get.

    Meanwhile they are shown what was shown before: nobody is refused because it is switched off.
    """
    document, config = mesh.server.workloads / "db.yaml", mesh.server.config
    before = document.read_text(), config.read_text()
    document.write_text(before[0] + "annotations: {hostmesh.io/default-inbound: 'true'}\n")
    config.write_text(json.dumps({**json.loads(before[1]), "certificates": {"shared_inbound": False}}))
    everybody = mesh.shown(mesh.lab.host.v4)
    mesh.server.process.send_signal(signal.SIGHUP)
    seen = [everybody]
    try:
        until(lambda: seen.append(mesh.shown(mesh.lab.host.v4)) or seen[-1] == {DB}, seconds=60)
        mesh.server.notes("READY=1")
        assert [one for one in seen if one != everybody] == [{DB}]
        with Peer(mesh.handshake(mesh.lab.host.v4), client=True) as peer:
            assert peer.answer(peer.connect(f"{mesh.lab.host.v4}:5432"))[":status"] == "200"
            assert peer.answer(peer.connect(f"{mesh.lab.host.v4}:8080"))[":status"] == "503"
    finally:
        document.write_text(before[0])
        config.write_text(before[1])
        mesh.server.reload()


def is_refused(sock: ssl.SSLSocket) -> bool:
    """In TLS 1.3 the client learns it when it reads."""
    try:
        return sock.recv(1) == b""
    except (ConnectionResetError, ssl.SSLError):
        return True
