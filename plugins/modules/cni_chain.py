#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""A plugin at the end of a network's list of CNI plugins, and the list as it was when it goes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_chain
short_description: Chain a CNI plugin behind those of a network
version_added: 0.1.0
description:
  - Adds a plugin at the end of an existing network configuration list, or changes the one of its type that is there.
  - The list as it was is kept, and restored to the byte when the plugin is taken out. If others have changed the list
    meanwhile, the plugin alone is taken out.
options:
  path:
    description: The configuration list (C(*.conflist)) that the container runtime reads.
    type: path
    required: true
  plugin:
    description: Configuration of the plugin; its C(type) says which one it is.
    type: dict
    required: true
  state:
    description: Whether the plugin is to be in the list.
    type: str
    choices: [present, absent]
    default: present
  kept:
    description: Directory for lists as they were.
    type: path
    default: /var/lib/hostmesh/cni
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the list before and after.
    support: full
  platform:
    description: Linux.
    platforms: linux
    support: full
author:
  - The hostmesh authors (@hostmesh)
"""

EXAMPLES = r"""
- name: Containers of this network are born into the mesh
  hostmesh.mesh.cni_chain:
    path: /etc/cni/net.d/10-containerd-net.conflist
    plugin:
      type: hostmesh-cni
      capabilities: {io.kubernetes.cri.pod-annotations: true}
"""

RETURN = r"""
restored:
  description: Whether the list is, to the byte, what it was before the plugin came.
  type: bool
  returned: always
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hostmesh.mesh.plugins.module_utils.files import replace

Json = dict[str, Any]


class Unusable(Exception):
    """The list is not one; the text says why, and nothing has changed."""


def with_plugin(data: bytes, plugin: Json) -> bytes:
    """The list with the plugin, the very same bytes if it is in there as given."""
    config, plugins = read(data)
    found = [number for number, one in enumerate(plugins) if one["type"] == plugin["type"]]
    if found and plugins[found[0]] == plugin and len(found) == 1:
        return data
    others = [one for one in plugins if one["type"] != plugin["type"]]
    if not others:
        raise Unusable("there is no plugin that makes an interface, so there is nothing to chain behind")
    return text(config, [*others, plugin])


def without_plugin(data: bytes, plugin: Json) -> bytes:
    """The list without it, the very same bytes if it is not in there."""
    config, plugins = read(data)
    others = [one for one in plugins if one["type"] != plugin["type"]]
    return data if len(others) == len(plugins) else text(config, others)


def read(data: bytes) -> tuple[Json, list[Json]]:
    """The list and its plugins."""
    try:
        config = json.loads(data)
    except ValueError as error:
        raise Unusable(f"not JSON: {error}") from error
    plugins = config.get("plugins") if isinstance(config, dict) else None
    if not isinstance(plugins, list):
        raise Unusable("no `plugins`: a single plugin's configuration (*.conf) cannot be chained; make it a list")
    if not all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in plugins):
        raise Unusable("plugins: each must be an object with a `type`")
    return config, plugins


def text(config: Json, plugins: list[Json]) -> bytes:
    """As people write it."""
    return (json.dumps({**config, "plugins": plugins}, indent=2) + "\n").encode()


def kept_at(directory: Path, path: Path) -> Path:
    """Where a list as it was is kept; with the digest of what was made of it, which tells whether others came."""
    return directory / f"{path.name}.{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def digest(data: bytes) -> bytes:
    """First line of a kept list."""
    return hashlib.sha256(data).hexdigest().encode() + b"\n"


def plan(before: bytes, plugin: Json, state: str, kept: Path) -> tuple[bytes, bool]:
    """What the list has to be, and whether that is what it was before the plugin came."""
    if state == "present":
        return with_plugin(before, plugin), False
    if kept.exists():
        made, _, original = kept.read_bytes().partition(b"\n")
        if made + b"\n" == digest(before):
            return original, True
    return without_plugin(before, plugin), False


def carry_out(path: Path, before: bytes, after: bytes, state: str, kept: Path) -> None:
    """Change the list; what is to be restored is kept before anything changes."""
    if state == "present" and before != after:
        kept.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        original = before
        if kept.exists() and kept.read_bytes().startswith(digest(before)):
            original = kept.read_bytes().partition(b"\n")[2]
        replace(kept, digest(after) + original)
    if before != after:
        replace(path, after)
    if state == "absent":
        kept.unlink(missing_ok=True)


def main() -> None:
    """Answer Ansible's call."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "plugin": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "kept": {"type": "path", "default": "/var/lib/hostmesh/cni"},
        },
        supports_check_mode=True,
    )
    path, plugin, state = Path(module.params["path"]), module.params["plugin"], module.params["state"]
    if not isinstance(plugin.get("type"), str):
        module.fail_json(msg="plugin: needs a `type`, the name of its program")
    kept = kept_at(Path(module.params["kept"]), path)
    try:
        before = path.read_bytes()
        after, restored = plan(before, plugin, state, kept)
    except FileNotFoundError:
        if state == "absent":
            module.exit_json(changed=False, restored=False)
        module.fail_json(msg=f"{path}: no such file; the container runtime's network must be there first")
    except (OSError, Unusable) as error:
        module.fail_json(msg=f"{path}: {error}")
    if not module.check_mode:
        try:
            carry_out(path, before, after, state, kept)
        except OSError as error:
            module.fail_json(msg=f"{path}: cannot be changed, or kept as it was: {error}")
    module.exit_json(
        changed=before != after,
        restored=restored,
        diff={"before": before.decode(errors="replace"), "after": after.decode(errors="replace")},
    )


if __name__ == "__main__":
    main()
