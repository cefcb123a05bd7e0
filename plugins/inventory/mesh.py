# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The mesh as an inventory: its hosts, grouped by what runs on them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mesh
short_description: Hosts of the mesh as an inventory
version_added: 0.1.0
description:
  - Lists every host that a workload of the mesh is registered on, with groups C(mesh_namespace_...),
    C(mesh_service_...) and C(mesh_workload_...), and the variable C(mesh_workloads).
  - The file must end in C(mesh.yml) or C(mesh.yaml).
options:
  plugin:
    description: Must be C(hostmesh.mesh.mesh).
    type: str
    required: true
    choices: [hostmesh.mesh.mesh]
  command:
    description:
      - Prints the workloads as C(hostmesh get workloads -o json) does. It runs on the controller, without a shell;
        reach the control plane by ssh.
    type: list
    elements: str
    default: [hostmesh, get, workloads, -o, json]
  timeout:
    description: How many seconds the command may take.
    type: int
    default: 60
author:
  - The hostmesh authors (@hostmesh)
"""

EXAMPLES = r"""
# mesh.yml
plugin: hostmesh.mesh.mesh
command: [ssh, control1.example.org, hostmesh, get, workloads, -o, json]
"""

import json
import re
import subprocess
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.unsafe_proxy import wrap_var

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]
    """Called by Ansible."""

    NAME = "hostmesh.mesh.mesh"

    def verify_file(self, path: str) -> bool:
        """Whether a file is meant for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("mesh.yml", "mesh.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:  # noqa: ANN401
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.fill(self.workloads(path))

    def workloads(self, path: str) -> list[dict[str, Any]]:
        """What the command prints."""
        command = [str(word) for word in self.get_option("command")]
        said = f"{path}: {' '.join(command)}"
        try:
            done = subprocess.run(  # noqa: S603 -- the user's own command
                command, capture_output=True, timeout=self.get_option("timeout"), check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AnsibleParserError(f"{said}: {error}") from error
        if done.returncode != 0:
            raise AnsibleParserError(f"{said}: {done.stderr.decode(errors='replace').strip() or done.returncode}")
        try:
            found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        except (ValueError, KeyError, TypeError) as error:
            raise AnsibleParserError(f"{said} prints no list of workloads: {error}") from error
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise AnsibleParserError(f"{said} prints no list of workloads: `items` is something else")
        for one in found:
            if not (one.get("name") and one.get("namespace")):
                raise AnsibleParserError(f"{said} prints a workload without name or namespace: {json.dumps(one)}")
        return found

    def fill(self, workloads: list[dict[str, Any]]) -> None:
        """Hosts, their groups, and what runs on them."""
        by_node: dict[str, list[dict[str, Any]]] = {}
        for one in workloads:
            if one.get("node"):
                by_node.setdefault(one["node"], []).append(one)
        for node, found in sorted(by_node.items()):
            self.inventory.add_host(node)
            # What a mesh says is no template.
            self.inventory.set_variable(node, "mesh_workloads", wrap_var(found))
            for one in found:
                names = [f"namespace_{one['namespace']}", f"workload_{one['name']}"]
                names += [f"service_{key.partition('/')[2].partition('.')[0]}" for key in one.get("services", {})]
                for name in names:
                    group = self.inventory.add_group(f"mesh_{NOT_IN_NAMES.sub('_', name)}")
                    self.inventory.add_child(group, node)
