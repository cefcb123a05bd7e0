#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""One workload in the mesh's registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_workload
short_description: Register a workload of the mesh
version_added: 0.1.0
description:
  - Keeps one WorkloadEntry on the control plane. The role C(workload) does so for all of the inventory and captures the
    services too; this module is for workloads that something else brings up.
options:
  name:
    description: Name of the workload.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    default: default
  state:
    description: Whether it is registered.
    type: str
    choices: [present, absent]
    default: present
  address:
    description: The address that other hosts reach it at. Required to register it.
    type: str
  node:
    description: The host that captures it and asks for its certificate. Required to register it.
    type: str
  service_account:
    description: The account in its identity.
    type: str
    default: default
  ports:
    description: Its ports by their names.
    type: dict
    default: {}
  labels:
    description: What services and policies select it by.
    type: dict
    default: {}
  network:
    description: The network of its address; the mesh's own if it is left out.
    type: str
  weight:
    description: Its share of the traffic of its services.
    type: int
extends_documentation_fragment:
  - hostmesh.mesh.control_plane
"""

EXAMPLES = r"""
- name: The database of this host
  hostmesh.mesh.mesh_workload:
    name: orders-{{ inventory_hostname }}
    namespace: shop
    address: "{{ ansible_host }}"
    node: "{{ inventory_hostname }}"
    service_account: orders
    ports: {tcp: 5432}
    labels: {app: orders}
  delegate_to: control1.example.org
"""

RETURN = r"""
objects:
  description: What became of the WorkloadEntry.
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hostmesh.mesh.plugins.module_utils.control_plane import (
    ARGUMENTS,
    ControlPlane,
    Json,
    put,
    take,
)

NODE_LABEL = "hostmesh.io/node"


def port_number(module: AnsibleModule, name: str, value: object) -> int:
    """A port; Ansible may have made text of it."""
    text = str(value)
    if not text.isdigit() or not 0 < int(text) < 65536:
        module.fail_json(msg=f"ports.{name}: {value!r} is no port: it must be a number from 1 to 65535")
    return int(text)


def entry(module: AnsibleModule) -> Json:
    """The WorkloadEntry that the options describe."""
    given = module.params
    spec: Json = {
        "address": given["address"],
        "serviceAccount": given["service_account"],
        "ports": {name: port_number(module, name, value) for name, value in given["ports"].items()},
        "network": given["network"],
        "weight": given["weight"],
    }
    labels = {str(name): str(value) for name, value in given["labels"].items()}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": given["name"],
            "namespace": given["namespace"],
            "labels": {NODE_LABEL: given["node"], **labels},
        },
        "spec": {name: value for name, value in spec.items() if value not in (None, {})},
    }


def main() -> None:
    """Answer Ansible's call."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": "default"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "str"},
            "node": {"type": "str"},
            "service_account": {"type": "str", "default": "default"},
            "ports": {"type": "dict", "default": {}},
            "labels": {"type": "dict", "default": {}},
            "network": {"type": "str"},
            "weight": {"type": "int"},
        },
        required_if=[("state", "present", ("address", "node"))],
        supports_check_mode=True,
    )
    plane = ControlPlane(module)
    name, namespace = module.params["name"], module.params["namespace"]
    if module.params["state"] == "present":
        put(module, plane, [entry(module)], [f"workload {namespace}/{name}"])
    else:
        take(module, plane, [("WorkloadEntry", namespace, name)])


if __name__ == "__main__":
    main()
