"""Policies of HTTP on agents that see none, between two hosts of the mesh: what both operators read of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

import pytest
from tests.netns.test_l7_policies import DELETES, READS, policy
from tests.netns.two_hosts import enrolled_agents, entry
from tests.support.agent import RunningAgent, until
from tests.support.control_plane import RunningControlPlane, control_plane

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

CLIENT = "from: [{source: {principals: [cluster.local/ns/prod/sa/w1]}}]"
OTHERS = "from: [{source: {namespaces: [shop]}}]"


@dataclass
class Mesh:
    """prod/w1 on the host calls port 8080 of prod/w2 on its peer."""

    lab: Lab
    plane: RunningControlPlane
    client: RunningAgent
    server: RunningAgent
    app: socket

    def apply(self, action: str, *rules: str) -> None:
        self.plane.client.apply(policy(action, *rules), dry_run=False)

    def call(self) -> tuple[socket, socket]:
        """Both ends of a connection that has carried a word; an error if it carries none."""
        ends = ExitStack()
        with ends:
            client = ends.enter_context(self.lab.socket(self.lab.host, self.lab.a))
            client.connect((self.lab.peer.v4, 8080))
            client.sendall(b"hello")
            served = ends.enter_context(self.app.accept()[0])
            assert served.recv(5) == b"hello"
            ends.pop_all()
        return client, served

    def reaches(self) -> bool:
        try:
            client, served = self.call()
        except (ConnectionError, TimeoutError):  # refused, at whichever step; of the listener: nobody came
            return False
        client.close()
        served.close()
        return True

    def failed(self, reason: str) -> int:
        """What the server's metrics count for the policy."""
        rows = re.findall(
            r"^istio_tcp_connections_failed_total\{(.*)\} (\d+)", self.server.get(15020, "/metrics"), re.MULTILINE
        )
        labels = {'response_flags="DENY"', 'authorization_policy="prod/http"', f'reason="{reason}"'}
        return sum(int(count) for text, count in rows if labels <= set(text.split(",")))


@pytest.fixture
def mesh(lab: Lab, tmp_path: Path) -> Iterator[Mesh]:
    with ExitStack() as stack:
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer))
        entries = entry("w1", lab.host.v4, "host1"), entry("w2", lab.peer.v4, "host2")
        plane.client.apply([{"source": "mesh.yaml", "text": text} for text in entries], dry_run=False)
        agents = stack.enter_context(enrolled_agents(lab, plane, tmp_path, ("w1", "w2"), lambda _: {"workers": 1}))
        made = Mesh(lab, plane, *agents, lab.listen(lab.peer, "::", 8080, lab.b))
        until(made.reaches)
        yield made


def test_what_http_alone_could_judge_denies_inside_tunnels_too(mesh: Mesh) -> None:
    """A DELETE that cannot be told from others denies them all, open connections included, and both sides say why."""
    client, served = mesh.call()
    mesh.app.settimeout(0.2)  # from now on calls may never come
    with client, served:
        mesh.apply("DENY", f"{CLIENT}, {DELETES}")
        with suppress(ConnectionResetError):
            assert client.recv(1) == b"", "an open connection is judged again"
    until(lambda: not mesh.reaches())
    until(lambda: mesh.failed("POLICY_DENIED"))
    until(lambda: "POLICY_DENIED" in mesh.server.log and "prod/http" in mesh.server.log)
    until(lambda: "http status: 401 Unauthorized" in mesh.client.log)
    mesh.apply("ALLOW", CLIENT)
    until(mesh.reaches)
    mesh.apply("ALLOW", f"{CLIENT}, {READS}", OTHERS)
    until(lambda: not mesh.reaches())
    until(lambda: "POLICY_NOT_ALLOWED" in mesh.server.log)
