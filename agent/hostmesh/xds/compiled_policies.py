"""NetworkPolicies for a host without a control plane, as `hostmesh netpol compile` writes them for its agent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.model.network_policy import PolicyResource
from hostmesh.xds.fields import Rejected
from hostmesh.xds.network_policy_codec import (
    decode_policy_resource,
    encode_policy_resource,
    resource_name,
)

_VERSION = 1


def dump_policies(resources: Iterable[PolicyResource]) -> str:
    """The file's text: equal for equal policies."""
    encoded = {resource_name(one): base64.b64encode(encode_policy_resource(one)).decode() for one in resources}
    return json.dumps({"version": _VERSION, "resources": encoded}, indent=1, sort_keys=True) + "\n"


def load_policies(path: Path) -> Mapping[str, bytes]:
    """Resources by name.

    Raises:
        InvalidYaml: the file is not there, or not one that this version understands.
    """
    try:
        found = _read(path.read_text())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Rejected) as error:
        why = f"cannot be read: {error}; next: write it with `hostmesh netpol compile`"
        raise InvalidYaml([Problem(str(path), 1, "", why)]) from error
    return found


def _read(text: str) -> Mapping[str, bytes]:
    said = json.loads(text)
    if said["version"] != _VERSION:
        raise ValueError(f"it is of version {said['version']}")
    found = {str(name): base64.b64decode(data, validate=True) for name, data in said["resources"].items()}
    for name, data in found.items():
        if resource_name(decode_policy_resource(data)) != name:
            raise ValueError(f"what is named {name} is something else")
    return found
