#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Join tokens: what admits a new host once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_join_token
short_description: Mint or revoke join tokens
version_added: 0.1.0
description:
  - Mints a token that admits one host to the mesh, once and for a short time. Hosts whose SSH host keys are registered
    need none; the role C(agent) registers them.
  - A token cannot be read again. With O(unless_connected), no token is minted for a host that is in the mesh already,
    which makes a second run change nothing.
options:
  node:
    description: The host that is to be admitted.
    type: str
    required: true
  state:
    description: V(present) mints a token, V(absent) revokes all open tokens of the host.
    type: str
    choices: [present, absent]
    default: present
  ttl:
    description: How many seconds the token is good for.
    type: int
    default: 600
  host_key:
    description: Fingerprint of the SSH host key that the bearer must have (SHA256:...).
    type: str
    default: ""
  addresses:
    description: Networks that the bearer must come from.
    type: list
    elements: str
    default: []
  unless_connected:
    description: Mint nothing while the host is connected to the control plane.
    type: bool
    default: false
extends_documentation_fragment:
  - hostmesh.mesh.control_plane
"""

EXAMPLES = r"""
- name: Admit this host
  hostmesh.mesh.mesh_join_token:
    node: "{{ inventory_hostname }}"
    unless_connected: true
  delegate_to: control1.example.org
  register: join
  no_log: true
"""

RETURN = r"""
token:
  description: The token; empty if none was minted.
  type: str
  returned: when O(state=present)
revoked:
  description: Identifiers of the tokens that were revoked.
  type: list
  elements: str
  returned: when O(state=absent)
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hostmesh.mesh.plugins.module_utils.control_plane import ARGUMENTS, ControlPlane, segment


def mint(module: AnsibleModule, plane: ControlPlane) -> None:
    """A new token, unless none is needed."""
    given = module.params
    node = given["node"]
    connected = any(one["node"] == node for one in plane.get("/v1/status")["nodes"])
    if given["unless_connected"] and connected:
        module.exit_json(changed=False, token="", diff=[])
    diff = [{"before": "", "after": f"an open join token for {node}, good for {given['ttl']} s\n"}]
    if module.check_mode:
        module.exit_json(changed=True, token="", diff=diff)
    body = {name: given[name] for name in ("node", "ttl", "host_key", "addresses")}
    answer = plane.request("POST", "/v1/tokens", body)
    module.exit_json(changed=True, token=answer["token"], diff=diff)


def revoke(module: AnsibleModule, plane: ControlPlane) -> None:
    """Make all open tokens of the host unusable."""
    node = module.params["node"]
    open_ = [one["id"] for one in plane.get("/v1/tokens")["tokens"] if one["node"] == node and one["state"] == "open"]
    if not module.check_mode:
        for identifier in open_:
            plane.request("DELETE", f"/v1/tokens/{segment(identifier)}")
    diff = [{"before": "".join(f"open join token {one} for {node}\n" for one in open_), "after": ""}] if open_ else []
    module.exit_json(changed=bool(open_), revoked=open_, diff=diff)


def main() -> None:
    """Answer Ansible's call."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "node": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ttl": {"type": "int", "default": 600},
            "host_key": {"type": "str", "default": "", "no_log": False},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "unless_connected": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    plane = ControlPlane(module)
    if module.params["state"] == "present":
        mint(module, plane)
    else:
        revoke(module, plane)


if __name__ == "__main__":
    main()
