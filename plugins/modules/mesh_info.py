#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What is known about the mesh, from the control plane and from the agent of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_info
short_description: Read the state of the mesh
version_added: 0.1.0
description:
  - Reads what the control plane of this host knows, or what the agent of this host is doing. Changes nothing.
options:
  gather:
    description:
      - V(control_plane) is connected hosts and problems of documents, V(mesh) workloads, services and policies,
        V(ca) the certificate authority, V(tokens) join tokens, V(nodes) registered host keys, V(agent) the
        host's own agent.
    type: list
    elements: str
    choices: [control_plane, mesh, ca, tokens, nodes, agent]
    default: [control_plane, mesh]
  admin_port:
    description: The agent's admin port.
    type: int
    default: 15000
extends_documentation_fragment:
  - hostmesh.mesh.control_plane
attributes:
  check_mode:
    description: Only reads, so it does the same in check mode.
    support: full
  diff_mode:
    description: Only reads.
    support: none
"""

EXAMPLES = r"""
- name: Look at the mesh
  hostmesh.mesh.mesh_info:
    gather: [control_plane, mesh, ca]
  delegate_to: control1.example.org
  register: mesh

- name: Look at this host
  hostmesh.mesh.mesh_info:
    gather: [agent]
  register: host
"""

RETURN = r"""
control_plane:
  description: As C(GET /v1/status).
  type: dict
  returned: when it was gathered
mesh:
  description: RV(mesh) has C(workloads), C(services) and C(policies) in the field names of a config dump.
  type: dict
  returned: when it was gathered
ca:
  description: The signer, the roots, a rotation that is going on, and what agents know of it.
  type: dict
  returned: when it was gathered
tokens:
  description: Join tokens, without what would let anybody use them.
  type: list
  elements: dict
  returned: when it was gathered
nodes:
  description: Hosts with their registered SSH host keys.
  type: list
  elements: dict
  returned: when it was gathered
agent:
  description: What C(hostmesh status -o json) prints.
  type: dict
  returned: when it was gathered
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.hostmesh.mesh.plugins.module_utils.control_plane import ARGUMENTS, ControlPlane, Json

PATHS = {
    "control_plane": "/v1/status",
    "mesh": "/v1/mesh",
    "ca": "/v1/ca",
    "tokens": "/v1/tokens",
    "nodes": "/v1/nodes",
}
LISTS = ("tokens", "nodes")


def agent(module: AnsibleModule) -> Json:
    """What the agent of this host says of itself."""
    url = f"http://127.0.0.1:{module.params['admin_port']}/status"
    try:
        with open_url(url, timeout=10, use_proxy=False) as response:
            found: Json = json.load(response)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the agent does not answer on {url}: {error}; see `systemctl status hostmesh-agent`")
    return found


def main() -> None:
    """Answer Ansible's call."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": [*PATHS, "agent"],
                "default": ["control_plane", "mesh"],
            },
            "admin_port": {"type": "int", "default": 15000},
        },
        supports_check_mode=True,
    )
    plane = ControlPlane(module)
    found: Json = {}
    for what in module.params["gather"]:
        if what == "agent":
            found[what] = agent(module)
        else:
            answer = plane.get(PATHS[what])
            found[what] = answer[what] if what in LISTS else answer
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
