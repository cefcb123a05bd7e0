"""Two hosts in a mesh of Istio: whole agents, and an istiod that knows each workload by its own token."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.control_plane import control_plane
from tests.support.roles import ROOT, inventory_documents, rendered

from hostmesh.model.address import parse_ip
from hostmesh.model.workload import Protocol, Workload
from hostmesh.xds.codec import encode_workload

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

PREFIX = "Kubernetes/networking.istio.io/WorkloadEntry/prod"


def assert_carries(lab: Lab, client: RunningAgent, server: RunningAgent, account: str) -> None:
    """Both agents get ready, and the server's says who called: nobody was enrolled for it."""
    for one in (client, server):
        until(lambda one=one: json.loads(one.get(15000, "/status"))["ready"])
    answer = lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)
    sock = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    sock.sendall(b"hello")
    with lab.accept(answer) as served:
        assert served.recv(5) == b"hello"
    sock.close()
    until(lambda: "connection complete" in server.log)
    assert f'src.identity="spiffe://cluster.local/ns/prod/sa/{account}"' in server.log
    assert "not enrolled" not in client.log


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
        agents = []
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
            agents.append(made)
        client, server = agents
        assert_carries(lab, client, server, "w1")


INVENTORY = ROOT / "inventories" / "istio"
HOSTS = ("vm1.example.org", "vm2.example.org")


def inventory(lab: Lab) -> dict[str, dict[str, Any]]:
    """The example's hosts, at the addresses of the lab."""
    hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["children"]["hostmesh_agents"]["hosts"]
    return {name: {**hosts[name], "ansible_host": at.v4} for name, at in zip(HOSTS, (lab.host, lab.peer), strict=True)}


def roll_out(made: RunningAgent, node: str, address: str, root: Path, tokens: Path) -> None:
    """As the role does with the example's variables, but for places that are this test's."""
    shared = yaml.safe_load((INVENTORY / "group_vars" / "all" / "mesh.yml").read_text())
    defaults = yaml.safe_load((ROOT / "roles" / "agent" / "defaults" / "main.yml").read_text())
    written = {name: value for name, value in {**defaults, **shared}.items() if "{{" not in str(value)}
    made.configure()
    own = {**json.loads(made.config.read_text()), "workers": 1}
    own["control_plane"] = {"root_cert": str(root), "tokens": str(tokens)}
    variables = {
        **written,
        "agent_node": node,
        "agent_control_plane_address": address,
        "agent_control_plane_addresses": [],
        "agent_trust_domain": "cluster.local",
        "agent_cluster_id": "Kubernetes",
        "agent_network": "",
        "agent_settings": own,
    }
    made.config.write_text(rendered("agent", "agent.yaml.j2", **variables))
    check = [sys.executable, "-m", "hostmesh", "agent", "--check", "--config", str(made.config)]
    subprocess.run(check, check=True, capture_output=True)


def test_the_example_inventory_works_on_a_control_plane_that_speaks_as_istiod(lab: Lab, tmp_path: Path) -> None:
    """Ours, to which nobody is enrolled: its JWTs, in the files that the role writes, are all that the hosts have."""
    with ExitStack() as stack:
        (tmp_path / "cp").mkdir()
        plane = stack.enter_context(control_plane(tmp_path / "cp", lab.peer, names=[lab.peer.v4]))
        hosts = inventory(lab)
        documents = inventory_documents(hosts, "istio")
        plane.client.apply([{"source": "mesh.yaml", "text": documents}], dry_run=False)
        root = plane.directory / "state" / "ca" / "root-cert.pem"
        tokens = tmp_path / "tokens"
        for namespace, account in (("vms", "agent"), ("prod", "ledger"), ("prod", "reports")):
            path = tokens / namespace / account
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(plane.client.bearer(namespace, account, 3600)["token"])
        agents = []
        for node, where, cgroup in zip(HOSTS, (lab.host, lab.peer), (lab.a, lab.b), strict=True):
            directory = tmp_path / node
            directory.mkdir()
            made = stack.enter_context(agent(where, directory, cgroup.path))
            (made.workloads / "w.yaml").write_text(
                f"workload: prod/ledger-{node}\nserviceAccount: ledger\ncapture: {{unit: ledger.service}}\n"
            )
            roll_out(made, node, f"{lab.peer.v4}:15012", root, tokens)
            start(made)
            agents.append(made)
        client, server = agents
        assert_carries(lab, client, server, "ledger")
        assert plane.client.status()["nodes"]
