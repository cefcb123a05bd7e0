"""Two hosts in a mesh of Istio, as inventories/istio rolls them out, and a connection between them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.roles import ROOT, inventory_documents, rendered

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

INVENTORY = ROOT / "inventories" / "istio"
HOSTS = ("vm1.example.org", "vm2.example.org")


def documents(lab: Lab) -> str:
    """What the role `workload` emits for the example's hosts, at the addresses of the lab."""
    hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["children"]["hostmesh_agents"]["hosts"]
    at = zip(HOSTS, (lab.host, lab.peer), strict=True)
    return inventory_documents({name: {**hosts[name], "ansible_host": where.v4} for name, where in at}, "istio")


def _roll_out(made: RunningAgent, node: str, address: str, root: Path, tokens: Path) -> None:
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


@contextmanager
def agents(
    lab: Lab, directory: Path, root: Path, token: Callable[[str, str], str]
) -> Iterator[tuple[RunningAgent, RunningAgent]]:
    """The agents of host and peer, with the tokens of their workloads; the control plane is on the peer."""
    tokens = directory / "tokens"
    for namespace, account in (("vms", "agent"), ("prod", "ledger"), ("prod", "reports")):
        path = tokens / namespace / account
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(token(namespace, account))
    with ExitStack() as stack:
        started = []
        for node, where, cgroup in zip(HOSTS, (lab.host, lab.peer), (lab.a, lab.b), strict=True):
            (directory / node).mkdir()
            made = stack.enter_context(agent(where, directory / node, cgroup.path))
            (made.workloads / "w.yaml").write_text(
                f"workload: prod/ledger-{node}\nserviceAccount: ledger\ncapture: {{unit: ledger.service}}\n"
            )
            _roll_out(made, node, f"{lab.peer.v4}:15012", root, tokens)
            start(made)
            started.append(made)
        client, server = started
        yield client, server


def assert_carries(lab: Lab, client: RunningAgent, server: RunningAgent, account: str, port: int = 8080) -> None:
    """Both agents get ready, and the server's says who called: nobody was enrolled for it."""
    for one in (client, server):
        until(lambda one=one: json.loads(one.get(15000, "/status"))["ready"])
    answer = lab.listen(lab.peer, lab.peer.v4, port, lab.b)
    sock = lab.connect(lab.host, (lab.peer.v4, port), lab.a)
    sock.sendall(b"hello")
    with lab.accept(answer) as served:
        assert served.recv(5) == b"hello"
    sock.close()
    until(lambda: "connection complete" in server.log)
    assert f'src.identity="spiffe://cluster.local/ns/prod/sa/{account}"' in server.log
    assert "not enrolled" not in client.log
