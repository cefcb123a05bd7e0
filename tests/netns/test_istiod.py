"""Two hosts in a mesh of Istio: whole agents, and an istiod that knows each workload by its own token."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import agent, start
from tests.support.control_plane import control_plane
from tests.support.istio_hosts import agents, assert_carries, documents

from hostmesh.model.address import parse_ip
from hostmesh.model.workload import Protocol, Workload
from hostmesh.xds.codec import encode_workload

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

PREFIX = "Kubernetes/networking.istio.io/WorkloadEntry/prod"


def entry(name: str, address: str) -> Workload:
    """As istiod derives it from a WorkloadEntry: on no node."""
    return Workload(
        f"{PREFIX}/{name}", name, "prod", (parse_ip(address),), protocol=Protocol.HBONE, service_account=name
    )


@contextmanager
def istiod(lab: Lab, directory: Path) -> Iterator[Path]:
    """On the peer; its root certificate."""
    told = directory / "told.json"
    names = ("w1", "w2", "agent")
    workloads = [entry("w1", lab.host.v4), entry("w2", lab.peer.v4)]
    told.write_text(
        json.dumps(
            {
                "tokens": {f"t-{name}": f"spiffe://cluster.local/ns/prod/sa/{name}" for name in names},
                "addresses": {one.uid: encode_workload(one).SerializeToString().hex() for one in workloads},
            }
        )
    )
    for name in names:
        token = directory / "tokens" / "prod" / name
        token.parent.mkdir(parents=True, exist_ok=True)
        token.write_text(f"t-{name}\n")
    state = directory / "istiod"
    command = [sys.executable, "-m", "tests.support.istiod_process", str(state), lab.peer.v4, str(told)]
    with subprocess.Popen(lab.peer.command(*command), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield state / "ca" / "root-cert.pem"
        finally:
            process.kill()


def test_agents_live_on_istiod(lab: Lab, tmp_path: Path) -> None:
    """Nobody is enrolled: with their tokens alone, traffic goes through a tunnel under the workloads' identities."""
    with ExitStack() as stack:
        root = stack.enter_context(istiod(lab, tmp_path))
        started = []
        for name, where, cgroup in (("w1", lab.host, lab.a), ("w2", lab.peer, lab.b)):
            directory = tmp_path / name
            directory.mkdir()
            made = stack.enter_context(agent(where, directory, cgroup.path))
            (made.workloads / "w.yaml").write_text(
                f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{unit: {name}.service}}\n"
            )
            made.configure(
                node=f"host-{name}",
                workers=1,
                control_plane={
                    "kind": "istiod",
                    "address": f"{lab.peer.v4}:15012",
                    "root_cert": str(root),
                    "xds_identity": "prod/agent",
                    "tokens": str(tmp_path / "tokens"),
                },
            )
            start(made)
            started.append(made)
        client, server = started
        assert_carries(lab, client, server, "w1")


def test_the_example_inventory_works_on_a_control_plane_that_speaks_as_istiod(lab: Lab, tmp_path: Path) -> None:
    """Ours, to which nobody is enrolled: its JWTs, in the files that the role writes, are all that the hosts have."""
    with ExitStack() as stack:
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer, names=[lab.peer.v4]))
        plane.client.apply([{"source": "mesh.yaml", "text": documents(lab)}], dry_run=False)

        def token(namespace: str, account: str) -> str:
            return str(plane.client.bearer(namespace, account, 3600)["token"])

        root = plane.directory / "state" / "ca" / "root-cert.pem"
        client, server = stack.enter_context(agents(lab, tmp_path, root, token))
        assert_carries(lab, client, server, "ledger")
        assert plane.client.status()["nodes"]
