"""A reload that takes the mesh from a control plane instead of a file: neither stands for the other."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import local_settings, put_certificate
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.control_plane import control_plane
from tests.support.documents import document
from tests.support.pki import Authority

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

FILE = """
workloads: [{name: w1, serviceAccount: w1, namespace: prod, workloadIps: [HOST], protocol: HBONE, services: {}}]
policies:
- {name: web, namespace: prod, scope: Namespace, action: Allow, rules: [[[{sourceIps: [PEER/32]}]]]}
"""


def documents(address: str) -> list[dict[str, str]]:
    """The same workload, and a policy of another name that lets in nobody of this test."""
    entry = f"address: {address}\nserviceAccount: w1"
    nobody = "action: ALLOW\nrules: [{from: [{source: {namespaces: [elsewhere]}}]}]"
    texts = (
        document("WorkloadEntry", entry, "name: w1, namespace: prod, labels: {hostmesh.io/node: host1}"),
        document("AuthorizationPolicy", nobody, "name: nobody, namespace: prod"),
    )
    return [{"source": f"{number}.yaml", "text": text} for number, text in enumerate(texts)]


def pending(made: RunningAgent) -> list[str]:
    found: list[str] = json.loads(made.get(15000, "/status"))["pending"]
    return found


def test_from_a_file_to_a_control_plane(lab: Lab, tmp_path: Path) -> None:
    """Until the control plane has answered the file counts, also for new connections; then not even for open ones."""
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(FILE.replace("HOST", lab.host.v4).replace("PEER", lab.peer.v4))
    app = lab.listen(lab.host, lab.host.v4, 8080, lab.a)
    with ExitStack() as stack:
        made = stack.enter_context(agent(lab.host, tmp_path, lab.a.path))
        put_certificate(tmp_path / "certificates", Authority(), "w1")
        (made.workloads / "w.yaml").write_text("workload: prod/w1\nserviceAccount: w1\ncapture: {unit: w1.service}\n")
        made.configure(node="host1", **local_settings(made, mesh))
        start(made)
        (tmp_path / "plane").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "plane", lab.peer))
        plane.client.apply(documents(lab.host.v4), dry_run=False)
        (tmp_path / "join-token").write_text(plane.client.token("host1", 600)["token"])
        plane.process.send_signal(signal.SIGSTOP)
        root = tmp_path / "plane" / "state" / "ca" / "root-cert.pem"
        where = {"address": f"{lab.peer.v4}:15012", "server_name": "localhost", "root_cert": str(root)}
        made.configure(node="host1", workers=1, control_plane=where)
        made.process.send_signal(signal.SIGHUP)
        until(lambda: "going on as" in made.log)
        until(lambda: "state manager" in pending(made))
        client = lab.connect(lab.peer, (lab.host.v4, 8080))
        client.sendall(b"hello")
        served = lab.accept(app)
        assert served.recv(5) == b"hello"
        plane.process.send_signal(signal.SIGCONT)
        until(lambda: not pending(made))
        until(lambda: "connection closed due to policy change" in made.log)
        with pytest.raises(ConnectionResetError):
            served.recv(1)
        assert [one["name"] for one in json.loads(made.get(15000, "/config_dump"))["policies"]] == ["nobody"]
