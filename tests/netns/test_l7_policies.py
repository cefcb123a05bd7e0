"""Policies of HTTP on an agent that sees none: from the operator's document to the application's socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import agent, start, until
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document

from hostmesh.cli.client import RequestRefused

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

DELETES = "to: [{operation: {methods: [DELETE]}}]"
READS = "to: [{operation: {methods: [GET]}}]"


def policy(action: str, *rules: str) -> list[dict[str, str]]:
    spec = f"action: {action}\nrules: [{', '.join(f'{{{rule}}}' for rule in rules)}]"
    return [{"source": "policy.yaml", "text": document("AuthorizationPolicy", spec, "name: http, namespace: prod")}]


@pytest.fixture
def mesh(lab: Lab, tmp_path: Path) -> Iterator[tuple[RunningControlPlane, Callable[[], bool]]]:
    """The control plane, and whether a stranger on the peer gets through to the workload of the host."""
    with ExitStack() as stack:
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer))
        spec = f"address: {lab.host.v4}\nserviceAccount: w1"
        entry = document("WorkloadEntry", spec, "name: w1, namespace: prod, labels: {hostmesh.io/node: host1}")
        plane.client.apply([{"source": "w1.yaml", "text": entry}], dry_run=False)
        made = stack.enter_context(agent(lab.host, tmp_path, lab.a.path))
        (made.workloads / "w.yaml").write_text("workload: prod/w1\nserviceAccount: w1\ncapture: {unit: w1.service}\n")
        (tmp_path / "join-token").write_text(plane.client.token("host1", 600)["token"])
        root = plane.directory / "state" / "ca" / "root-cert.pem"
        where = {"address": f"{lab.peer.v4}:15012", "server_name": "localhost", "root_cert": str(root)}
        made.configure(node="host1", workers=1, control_plane=where)
        start(made, variables={"SECRET_TTL": "2h"})
        app = lab.listen(lab.host, lab.host.v4, 8080, lab.a)

        def reaches() -> bool:
            try:
                with lab.connect(lab.peer, (lab.host.v4, 8080)) as client:
                    client.sendall(b"hello")
                    with app.accept()[0] as served:
                        return served.recv(5) == b"hello"
            except (ConnectionError, TimeoutError):  # refused, at whichever step; of the listener: nobody came
                return False

        until(reaches)
        app.settimeout(0.2)
        until(lambda: json.loads(made.get(15000, "/status"))["ready"])  # in plaintext nobody waited for a certificate
        leaf = json.loads(made.get(15000, "/config_dump"))["certificates"][0]["certChain"][0]
        begin, end = (datetime.fromisoformat(leaf[name]) for name in ("validFrom", "expirationTime"))
        assert timedelta(hours=2) <= end - begin < timedelta(hours=3), "what SECRET_TTL has asked for"
        yield plane, reaches


def test_what_http_alone_could_judge_never_allows_and_never_denies_nothing(
    mesh: tuple[RunningControlPlane, Callable[[], bool]], lab: Lab
) -> None:
    """Denied is more than was asked, or the document is refused; never does a policy pass for one and do nothing."""
    plane, reaches = mesh
    stranger = f"from: [{{source: {{ipBlocks: [{lab.peer.v4}/32]}}}}]"
    with pytest.raises(RequestRefused, match="the rule would silently deny nothing: it has only HTTP attributes"):
        plane.client.apply(policy("DENY", DELETES), dry_run=False)
    until(reaches)
    plane.client.apply(policy("DENY", f"{stranger}, {DELETES}"), dry_run=False)
    until(lambda: not reaches())
    plane.client.apply(policy("ALLOW", stranger), dry_run=False)
    until(reaches)
    plane.client.apply(policy("ALLOW", f"{stranger}, {READS}", "from: [{source: {namespaces: [shop]}}]"), dry_run=False)
    until(lambda: not reaches())
