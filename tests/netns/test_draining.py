"""An agent that is told to stop: nothing new, what is open may finish, and not for ever."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import MESH, put_certificate
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.pki import Authority

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


def readiness(made: RunningAgent) -> str:
    try:
        return made.get(15021, "/healthz/ready")
    except urllib.error.HTTPError as error:
        return error.read().decode()


def is_cut(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_draining(lab: Lab, tmp_path: Path) -> None:
    """Not ready at once; an open connection works on, a new one waits for a successor; a second interrupt cuts both."""
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH.replace("CLIENT", lab.host.v4).replace("SERVER", "192.0.2.9"))
    server = lab.listen(lab.peer, lab.peer.v4, 8080)
    with agent(lab.host, tmp_path, lab.a.path) as made:
        put_certificate(tmp_path / "certificates", Authority(), "w1")
        (made.workloads / "w.yaml").write_text("workload: prod/w1\nserviceAccount: w1\ncapture: {unit: w1.service}\n")
        made.configure(
            node="host1",
            workers=1,
            local_xds_path=str(mesh),
            certificates={"directory": str(tmp_path / "certificates")},
        )
        start(made, variables={"TERMINATION_GRACE_PERIOD_SECONDS": "65"})
        until(lambda: json.loads(made.get(15000, "/status"))["ready"])
        sock = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        served = lab.accept(server)
        made.process.send_signal(signal.SIGINT)
        made.notes("STOPPING=1", f"EXTEND_TIMEOUT_USEC={(60 + 30) * 1_000_000}")  # five less of grace
        until(lambda: readiness(made) == "not ready, pending: draining\n")
        late = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        for data in (b"still", b"there"):
            sock.sendall(data)
            assert served.recv(5) == data
        made.process.send_signal(signal.SIGINT)
        assert made.process.wait(10) == 0
        assert "connection closed due to connection drain" in made.log
    assert is_cut(late)
    server.settimeout(0)
    with pytest.raises(BlockingIOError):
        server.accept()
