"""Templates of the roles, rendered as Ansible does it, with the filters of Ansible that they use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "roles"


def rendered(role: str, template: str, **variables: Any) -> str:
    """What the role would write."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {
        "combine": _combine,
        "to_json": json.dumps,
        "from_json": json.loads,
        "to_nice_yaml": lambda value, **_: yaml.safe_dump(value, sort_keys=False),
        "difference": lambda one, other: [name for name in one if name not in other],
    }
    text = (ROLES / role / "templates" / template).read_text()
    return environment.from_string(text).render(ansible_managed="Ansible managed", **variables)


def inventory_documents(hosts: Mapping[str, Mapping[str, Any]], emit: str = "hostmesh") -> str:
    """The role `workload`'s documents of an inventory's hosts."""
    return rendered(
        "workload",
        "inventory.yaml.j2",
        groups={"hostmesh_agents": list(hosts)},
        hostvars=hosts,
        workload_domain="mesh.internal",
        workload_withdrawn=[],
        workload_emit=emit,
    )


def _combine(one: dict[str, Any], other: dict[str, Any], *, recursive: bool = False) -> dict[str, Any]:
    merged = {**one, **other}
    if recursive:
        for name in one.keys() & other.keys():
            if isinstance(one[name], dict) and isinstance(other[name], dict):
                merged[name] = _combine(one[name], other[name], recursive=True)
    return merged
