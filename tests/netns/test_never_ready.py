"""A host that boots before its control plane was ever there: what is captured waits or fails, never in plaintext."""

from __future__ import annotations

import json
import socket
import urllib.error
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.test_network_policy import entry
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.control_plane import control_plane
from tests.support.netns import attempt, comes

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]


def readiness(made: RunningAgent) -> str:
    try:
        return made.get(15021, "/healthz/ready")
    except urllib.error.HTTPError as error:
        return error.read().decode()


def datagram_arrives(lab: Lab, inside: bool) -> bool:
    """From a process of the unit, or another one, to the peer."""
    with lab.peer.entered():
        receiver = lab.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    receiver.bind((lab.peer.v4, 0))
    with lab.host.entered(), (lab.a if inside else lab.other).entered():
        sender = lab.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        sender.sendto(b"x", receiver.getsockname())
    except PermissionError:
        return False
    return comes(receiver) and receiver.recv(1) == b"x"


@pytest.mark.parametrize("kind", ["hostmesh", "enforcing", "istiod"])
def test_nothing_leaves_and_nothing_arrives_in_plaintext(lab: Lab, tmp_path: Path, kind: str) -> None:
    """Both directions, whatever the control plane is; others of the host are as ever, and the agent says that it waits.

    Where the host enforces NetworkPolicies, which nobody has told it yet, datagrams of the workload stay inside, too.
    """
    remote = lab.listen(lab.peer, lab.peer.v4, 8080)
    application = lab.listen(lab.host, lab.host.v4, 8010, lab.a)
    with ExitStack() as stack:
        made = stack.enter_context(agent(lab.host, tmp_path, lab.a.path))
        (tmp_path / "join-token").write_text("not used")
        (made.workloads / "w.yaml").write_text(
            "workload: prod/web\nserviceAccount: web\ncapture: {unit: web.service}\n"
        )
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer)) if kind == "enforcing" else None
        root = tmp_path / "root.pem" if plane is None else plane.directory / "state" / "ca" / "root-cert.pem"
        place = {"address": f"{lab.peer.v4}:{1 if plane is None else 15013}", "root_cert": str(root)}
        if kind == "istiod":
            place |= {"kind": "istiod", "xds_identity": "prod/web"}
        made.configure(
            node="host1",
            workers=1,
            control_plane={**place, "server_name": "localhost"},
            network_policy={"enforce": kind == "enforcing"},
        )
        start(made, serving=False)
        assert readiness(made).startswith("not ready")
        assert not json.loads(made.get(15000, "/status"))["ready"]

        for where, target, listener in (
            (lab.host, (lab.peer.v4, 8080), remote),
            (lab.peer, (lab.host.v4, 8010), application),
        ):
            sock = lab.socket(where, lab.a if where == lab.host else lab.other)
            attempt(sock, target)
            assert not comes(listener)
        lab.connect(lab.host, (lab.peer.v4, 8080), lab.other)
        lab.accept(remote)
        assert datagram_arrives(lab, inside=False)
        assert datagram_arrives(lab, inside=True) == (kind != "enforcing")
        if plane is None:
            return
        isolated = json.loads(made.get(15000, "/status"))["networkPolicy"]
        assert not isolated["known"]
        until(lambda: made.get(15000, "/status").count("prod/not-known-yet") == 2)

        made.process.terminate()
        made.process.wait()
        plane.client.apply([{"source": "mesh.yaml", "text": entry("web", lab.host.v4, "host1")}], dry_run=False)
        (tmp_path / "join-token").write_text(plane.client.token("host1", 600)["token"])
        settings = json.loads(made.config.read_text())
        settings["control_plane"]["address"] = f"{lab.peer.v4}:15012"
        made.config.write_text(json.dumps(settings))
        start(made)
        until(lambda: datagram_arrives(lab, inside=True))
