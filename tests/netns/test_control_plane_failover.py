"""Two whole agents, two control planes, one etcd: a control plane is killed under traffic, a host dies and returns."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.control_plane import RunningControlPlane, configure, started
from tests.support.documents import document
from tests.support.etcd import etcd_cluster

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

LEASE = 4.0
STRICT = document("PeerAuthentication", "mtls: {mode: STRICT}", "name: default, namespace: prod")


def entry(name: str, address: str, node: str) -> str:
    return document(
        "WorkloadEntry",
        f"address: {address}\nserviceAccount: {name}",
        f"name: {name}, namespace: prod, labels: {{hostmesh.io/node: {node}}}",
    )


class Estate:
    """w1 on host1, whose capture the client's connections meet, and w2 on host2, where the control planes run too."""

    def __init__(self, stack: ExitStack, lab: Lab, directory: Path) -> None:
        self._lab = lab
        self._directory = directory
        places = [("127.0.0.1", tuple(lab.peer.command()))]
        stack.enter_context(etcd_cluster(directory / "etcd", places=places))
        key = directory / "store.key"
        key.write_bytes(base64.b64encode(os.urandom(32)))
        store = {"etcd": {"endpoints": ["127.0.0.1:2379"], "encryption_key_file": str(key)}}
        self.planes = [
            self._plane(stack, f"cp{number}", port, names=[lab.peer.v4], store=store, registry={"lease": LEASE})
            for number, port in ((1, 15012), (2, 15013))
        ]
        entries = entry("w1", lab.host.v4, "host1"), entry("w2", lab.peer.v4, "host2")
        self.apply(self.planes[0], *entries, STRICT)
        self.client = self._agent(stack, "w1", "host1", 0)
        self.server = self._agent(stack, "w2", "host2", 1)
        until(lambda: all(json.loads(one.get(15000, "/status"))["ready"] for one in (self.client, self.server)))

    def apply(self, plane: RunningControlPlane, *texts: str) -> None:
        files = [{"source": f"{number}.yaml", "text": text} for number, text in enumerate(texts)]
        plane.client.apply(files, dry_run=False)

    def told(self, made: RunningAgent) -> dict[str, str]:
        """What an agent knows: workloads and whether they are in rotation."""
        dump = json.loads(made.get(15000, "/config_dump"))
        return {one["name"]: one["status"] for one in dump["workloads"]}

    def _plane(self, stack: ExitStack, name: str, port: int, **settings: Any) -> RunningControlPlane:
        directory = self._directory / name
        directory.mkdir()
        config = configure(directory, port, self._lab.peer.v4, **settings)
        return stack.enter_context(started(directory, config, port, self._lab.peer))

    def _agent(self, stack: ExitStack, name: str, node: str, first: int) -> RunningAgent:
        """Enrolled by a token of one control plane; of the addresses it tries the other one's first."""
        lab, directory = self._lab, self._directory / name
        directory.mkdir()
        where, cgroup = (lab.host, lab.a) if name == "w1" else (lab.peer, lab.b)
        made = stack.enter_context(agent(where, directory, cgroup.path))
        (made.workloads / "w.yaml").write_text(
            f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{unit: {name}.service}}\n"
        )
        shutil.copy(self.planes[0].directory / "state" / "ca" / "root-cert.pem", directory / "root.pem")
        (directory / "join-token").write_text(self.planes[first].client.token(node, 60)["token"])
        addresses = [f"{lab.peer.v4}:{plane.port}" for plane in self.planes]
        made.configure(
            node=node,
            workers=1,
            control_plane={"addresses": addresses, "root_cert": str(directory / "root.pem")},
        )
        start(made)
        return made


@contextmanager
def echo(listener: socket.socket) -> Iterator[None]:
    """Answer whatever comes, until the listener is closed."""

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            with accepted, suppress(OSError):  # whose agent is killed, that connection is cut
                accepted.settimeout(5)
                accepted.sendall(accepted.recv(100))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def call(lab: Lab) -> None:
    with lab.connect(lab.host, (lab.peer.v4, 8080), lab.a) as sock:
        sock.settimeout(5)
        sock.sendall(b"ping")
        assert sock.recv(100) == b"ping"


def answered(lab: Lab) -> bool:
    try:
        call(lab)
    except OSError:
        return False
    return True


def calls(lab: Lab, seconds: float) -> int:
    """Traffic, every connection a new one; how many there were."""
    ends, made = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        call(lab)
        made += 1
    return made


def test_a_control_plane_is_killed_under_traffic(lab: Lab, tmp_path: Path) -> None:
    """No request fails; hosts go on at the other one and hear of changes there; a dead host leaves rotation."""
    with ExitStack() as stack:
        estate = Estate(stack, lab, tmp_path)
        stack.enter_context(echo(lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)))
        assert calls(lab, 1.0)

        doomed, second = sorted(estate.planes, key=lambda plane: -len(plane.client.status()["nodes"]))
        assert doomed.client.status()["nodes"]
        doomed.process.kill()
        doomed.process.wait()
        assert calls(lab, 2 * LEASE)
        estate.apply(second, entry("w3", "10.9.9.9", "host3"))
        for made in (estate.client, estate.server):
            until(lambda made=made: "w3" in estate.told(made))
        assert set(estate.told(estate.client).values()) == {"Healthy"}
        assert calls(lab, 1.0)

        estate.server.process.kill()
        estate.server.process.wait()
        until(lambda: estate.told(estate.client)["w2"] == "Unhealthy")
        start(estate.server)
        until(lambda: estate.told(estate.client)["w2"] == "Healthy")
        until(lambda: answered(lab))
