#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documents of the mesh: policies and everything else that `hostmesh apply` takes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_policy
short_description: Make documents of the mesh live, or withdraw them
version_added: 0.1.0
description:
  - Applies Istio and Kubernetes documents (AuthorizationPolicy, PeerAuthentication, NetworkPolicy, ServiceEntry,
    Service, WorkloadEntry, Namespace) on the control plane, all of a call or none.
  - The control plane checks every field first; what is wrong is refused with its field, and nothing changes.
options:
  definition:
    description: The documents.
    type: list
    elements: dict
  src:
    description: Files of YAML documents on the host where the module runs, instead of O(definition).
    type: list
    elements: path
  state:
    description: Whether they are to be live. To withdraw them, kind, name and namespace are enough.
    type: str
    choices: [present, absent]
    default: present
requirements:
  - PyYAML on the host where the module runs, for O(src)
extends_documentation_fragment:
  - hostmesh.mesh.control_plane
"""

EXAMPLES = r"""
- name: The database is for the storefront
  hostmesh.mesh.mesh_policy:
    definition:
      - apiVersion: security.istio.io/v1
        kind: AuthorizationPolicy
        metadata: {name: orders, namespace: shop}
        spec:
          selector: {matchLabels: {app: orders}}
          rules:
            - from: [{source: {principals: [cluster.local/ns/shop/sa/storefront]}}]
  delegate_to: control1.example.org

- name: Nobody needs this one any more
  hostmesh.mesh.mesh_policy:
    definition:
      - {kind: AuthorizationPolicy, metadata: {name: old, namespace: shop}}
    state: absent
  delegate_to: control1.example.org
"""

RETURN = r"""
objects:
  description: What became of each document.
  type: list
  elements: dict
  returned: success
  sample: [{kind: AuthorizationPolicy, namespace: shop, name: orders, action: created, file: /x.yaml}]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.hostmesh.mesh.plugins.module_utils.control_plane import (
    ARGUMENTS,
    ControlPlane,
    Json,
    put,
    take,
    yaml,
)

CLUSTER_WIDE = ("Namespace",)


def documents(module: AnsibleModule) -> tuple[list[Json], list[str]]:
    """All documents, and what complaints call each."""
    if module.params["definition"] is not None:
        given = module.params["definition"]
        return given, [f"definition[{number}]" for number in range(len(given))]
    if yaml is None:
        module.fail_json(msg=missing_required_lib("PyYAML"))
    found: list[Json] = []
    sources: list[str] = []
    for path in module.params["src"]:
        try:
            loaded = [one for one in yaml.safe_load_all(Path(path).read_text(encoding="utf-8")) if one is not None]
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            module.fail_json(msg=f"{path}: {error}")
        found += loaded
        sources += [path] * len(loaded)
    return found, sources


def key(module: AnsibleModule, one: Json, source: str) -> tuple[str, str, str]:
    """What says which document is meant."""
    metadata = one.get("metadata")
    if not isinstance(metadata, dict) or not one.get("kind") or not metadata.get("name"):
        module.fail_json(msg=f"{source}: kind and metadata.name say which document is to be withdrawn")
    kind = str(one["kind"])
    namespace = "" if kind in CLUSTER_WIDE else str(metadata.get("namespace") or "default")
    return kind, namespace, str(metadata["name"])


def main() -> None:
    """Answer Ansible's call."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "definition": {"type": "list", "elements": "dict"},
            "src": {"type": "list", "elements": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        mutually_exclusive=[("definition", "src")],
        required_one_of=[("definition", "src")],
        supports_check_mode=True,
    )
    found, sources = documents(module)
    plane = ControlPlane(module)
    if module.params["state"] == "present":
        put(module, plane, found, sources)
    else:
        take(module, plane, [key(module, one, source) for one, source in zip(found, sources)])  # noqa: B905


if __name__ == "__main__":
    main()
