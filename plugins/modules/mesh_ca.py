#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The certificate authority: what is revoked, and the replacement of the root."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_ca
short_description: Revoke identities and replace the root of the mesh
version_added: 0.1.0
description:
  - Revokes an identity or a certificate, or admits it again; every agent hears within a second.
  - Takes the steps of a replacement of the root, each only where it has not been taken.
options:
  identity:
    description: A SPIFFE identity that O(state) is about.
    type: str
  serial:
    description: Serial number of a certificate that O(state) is about, in hexadecimal.
    type: str
  state:
    description: Whether it is revoked.
    type: str
    choices: [revoked, admitted]
    default: revoked
  reason:
    description: Why it is revoked (RFC 5280).
    type: str
    default: unspecified
  rotation:
    description:
      - How far the root is to be replaced. V(started) makes a new root and tells every agent, V(switched) has it sign,
        V(finished) dismisses the old one, V(aborted) goes back.
    type: str
    choices: [started, switched, finished, aborted]
  force:
    description: Overrule that hosts would be cut off, for V(switched) and V(finished).
    type: bool
    default: false
extends_documentation_fragment:
  - hostmesh.mesh.control_plane
"""

EXAMPLES = r"""
- name: The key of this service was stolen
  hostmesh.mesh.mesh_ca:
    identity: spiffe://cluster.local/ns/shop/sa/orders
    reason: keyCompromise
  delegate_to: control1.example.org

- name: Make a new root known
  hostmesh.mesh.mesh_ca:
    rotation: started
  delegate_to: control1.example.org
"""

RETURN = r"""
ca:
  description: The authority's state.
  type: dict
  returned: always
certificates:
  description: Certificates that were revoked along with an identity.
  type: list
  elements: dict
  returned: when something was revoked
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hostmesh.mesh.plugins.module_utils.control_plane import ARGUMENTS, ControlPlane, Json

STEPS = {"started": "start", "switched": "switch", "finished": "finish", "aborted": "abort"}


def step_due(wanted: str, phase: str | None) -> bool:
    """Whether a step is still to be taken: by the rotation's phase, which is None when none goes on.

    One that is aborted after the new root has signed stays, reverted, until it is finished.
    """
    taken = {
        "started": phase is not None,
        "switched": phase in (None, "switched", "reverted"),
        "finished": phase is None,
        "aborted": phase in (None, "reverted"),
    }
    return not taken[wanted]


def rotate(module: AnsibleModule, plane: ControlPlane) -> None:
    """Take a step, unless it has been taken."""
    wanted = module.params["rotation"]
    before = plane.get("/v1/ca")
    phase = before["rotation"]["phase"] if before["rotation"] else None
    if not step_due(wanted, phase):
        module.exit_json(changed=False, ca=before, diff=[])
    diff = [{"before": f"rotation: {phase or 'none'}\n", "after": f"rotation: {wanted}\n"}]
    if module.check_mode:
        module.exit_json(changed=True, ca=before, diff=diff)
    body = {"step": STEPS[wanted], "force": module.params["force"]}
    module.exit_json(changed=True, ca=plane.request("POST", "/v1/ca/rotation", body), diff=diff)


def subject(module: AnsibleModule) -> Json:
    """What a revocation is about."""
    return {"identity": module.params["identity"] or "", "serial": (module.params["serial"] or "").replace(":", "")}


def is_revoked(known: Json, about: Json) -> bool:
    """Whether the list of revocations has it."""
    if about["identity"]:
        return any(one["identity"] == about["identity"] for one in known["identities"])
    serial = about["serial"].lower().lstrip("0")
    return any(one["serial"] == serial for one in known["serials"])


def revoke(module: AnsibleModule, plane: ControlPlane) -> None:
    """Revoke or admit."""
    about, wanted = subject(module), module.params["state"]
    before = is_revoked(plane.get("/v1/ca/revoked"), about)
    if before == (wanted == "revoked"):
        module.exit_json(changed=False, ca=plane.get("/v1/ca"), diff=[], certificates=[])
    name = about["identity"] or about["serial"]
    words = {True: f"{name}: revoked\n", False: f"{name}: admitted\n"}
    diff = [{"before": words[before], "after": words[not before]}]
    answer: Json = {}
    if not module.check_mode:
        verb, more = ("revoke", {"reason": module.params["reason"]}) if wanted == "revoked" else ("unrevoke", {})
        answer = plane.request("POST", f"/v1/ca/{verb}", {**about, **more})
    module.exit_json(changed=True, ca=plane.get("/v1/ca"), diff=diff, certificates=answer.get("certificates", []))


def main() -> None:
    """Answer Ansible's call."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "identity": {"type": "str"},
            "serial": {"type": "str"},
            "state": {"type": "str", "choices": ["revoked", "admitted"], "default": "revoked"},
            "reason": {"type": "str", "default": "unspecified"},
            "rotation": {"type": "str", "choices": list(STEPS)},
            "force": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("identity", "serial", "rotation")],
        required_one_of=[("identity", "serial", "rotation")],
        supports_check_mode=True,
    )
    plane = ControlPlane(module)
    if module.params["rotation"] is not None:
        rotate(module, plane)
    else:
        revoke(module, plane)


if __name__ == "__main__":
    main()
