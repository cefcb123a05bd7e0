"""Agents on the two hosts of a lab, each with one unit that is a workload: `prod/NAME`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tests.support.agent import RunningAgent, agent, start, until
from tests.support.control_plane import RunningControlPlane
from tests.support.documents import document
from tests.support.pki import Authority

from hostmesh.model.identity import Identity

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

MESH = """
workloads:
- {name: w1, serviceAccount: w1, namespace: prod, workloadIps: [CLIENT], protocol: HBONE, node: host1, services: {}}
- {name: w2, serviceAccount: w2, namespace: prod, workloadIps: [SERVER], protocol: HBONE, node: host2, services: {}}
policies:
- name: web
  namespace: prod
  scope: Namespace
  action: Allow
  dryRun: false
  rules: [[[{principals: [{Exact: cluster.local/ns/prod/sa/w1}]}], [{destinationPorts: [8080]}]]]
"""

Agents = tuple[RunningAgent, RunningAgent]
"""On the lab's host, for the unit in cgroup a; and on its peer, for the one in cgroup b."""


@contextmanager
def enrolled_agents(
    lab: Lab,
    plane: RunningControlPlane,
    directory: Path,
    names: tuple[str, str],
    settings: Callable[[str], Mapping[str, Any]],
    more: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Agents]:
    """They join a control plane on the peer; `settings` are by the workload's name, `more` ends its document.

    `variables` are those of the agents' environments.
    """

    def prepare(made: RunningAgent, name: str, node: str) -> Mapping[str, Any]:
        (made.directory / "join-token").write_text(plane.client.token(node, 600)["token"])
        control_plane = {
            "address": f"{lab.peer.v4}:15012",
            "server_name": "localhost",
            "root_cert": str(plane.directory / "state" / "ca" / "root-cert.pem"),
        }
        return {"control_plane": control_plane, **settings(name)}

    with two_agents(lab, directory, names, prepare, more, variables) as agents:
        yield agents


@contextmanager
def local_agents(lab: Lab, directory: Path, mesh: str = MESH, **settings: Any) -> Iterator[Agents]:
    """They know the mesh from a file, `mesh.yaml` in the directory."""
    authority, file = Authority(), directory / "mesh.yaml"
    file.write_text(mesh.replace("CLIENT", lab.host.v4).replace("SERVER", lab.peer.v4))

    def prepare(made: RunningAgent, name: str, node: str) -> Mapping[str, Any]:
        del node
        put_certificate(made.directory / "certificates", authority, name)
        return {**local_settings(made, file), **settings}

    with two_agents(lab, directory, ("w1", "w2"), prepare) as agents:
        yield agents


def entry(name: str, address: str, node: str, more: str = "") -> str:
    """A registration of `prod/NAME`, as the control plane is told; `more` continues its spec."""
    spec = f"address: {address}\nserviceAccount: {name}\nlabels: {{app: {name}}}{more}"
    return document("WorkloadEntry", spec, f"name: {name}, namespace: prod, labels: {{hostmesh.io/node: {node}}}")


def local_settings(made: RunningAgent, mesh: Path) -> Mapping[str, Any]:
    """Those of an agent without a control plane."""
    return {
        "workers": 1,
        "local_xds_path": str(mesh),
        "certificates": {"directory": str(made.directory / "certificates")},
    }


def put_certificate(directory: Path, authority: Authority, name: str) -> None:
    """As files that an agent without a control plane reads."""
    issued = authority.issue(Identity("cluster.local", "prod", name))
    folder = directory / "prod" / name
    folder.mkdir(parents=True)
    (folder / "key.pem").write_bytes(issued.key_pem)
    (folder / "key.pem").chmod(0o600)
    (folder / "cert-chain.pem").write_bytes(issued.chain_pem)
    (folder / "root-cert.pem").write_bytes(issued.roots_pem)


@contextmanager
def two_agents(
    lab: Lab,
    directory: Path,
    names: tuple[str, str],
    prepare: Callable[[RunningAgent, str, str], Mapping[str, Any]],
    more: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Agents]:
    """With what `prepare` gives as settings, and does to their directories."""
    places = zip(names, (lab.host, lab.peer), (lab.a, lab.b), ("host1", "host2"), strict=True)
    with ExitStack() as stack:
        agents = []
        for name, where, cgroup, node in places:
            (directory / name).mkdir()
            made = stack.enter_context(agent(where, directory / name, cgroup.path))
            (made.workloads / "w.yaml").write_text(
                f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{unit: {name}.service}}\n{more}"
            )
            made.configure(**{"node": node, **prepare(made, name, node)})
            start(made, variables=variables)
            agents.append(made)
        until(lambda: all(json.loads(one.get(15000, "/status"))["ready"] for one in agents))
        first, second = agents
        yield first, second
