# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Names of variables that nobody reads, with the places where they are set and the names that may have been meant."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_variables
short_description: Says which variables nobody reads
version_added: 0.1.0
description:
  - Compares names of variables with those that are known, and says of each other one where it is set and which of the
    known it resembles.
  - A name with the prefix has to be known. Any other is somebody else's unless it is a known one but for a slip.
positional: known
options:
  _input:
    description: Names of variables, as the lookup P(ansible.builtin.varnames#lookup) finds them.
    type: list
    elements: str
    required: true
  known:
    description: Names that are known.
    type: list
    elements: str
    required: true
  prefix:
    description: With what a name begins that nobody else uses.
    type: str
    default: hostmesh_
author:
  - The hostmesh authors (@hostmesh)
"""

EXAMPLES = r"""
- name: Find variables that nobody reads
  ansible.builtin.debug:
    msg: "{{ query('ansible.builtin.varnames', '^hostmesh_') | hostmesh.mesh.unknown_variables(['hostmesh_domain']) }}"
"""

RETURN = r"""
_value:
  description: One sentence for each unknown name, none where all are known.
  type: list
  elements: str
  sample: ["hostmesh_wrokloads (/etc/mesh/hosts.yml:7:11): did you mean hostmesh_workloads?"]
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # ansible-core 2.18 and before
    Origin = None

# One letter more, less or exchanged in a name of ten, and two letters that changed places.
A_SLIP = 0.9


def unknown_variables(names: Iterable[str], known: Iterable[str], prefix: str = "hostmesh_") -> list[str]:
    """One sentence for each that is not known."""
    candidates = sorted(known)
    sentences = []
    for name in sorted(set(names).difference(candidates)):
        ours = name.startswith(prefix)
        meant = _resembling(name, candidates, prefix) if ours else _slip(name, candidates)
        if ours or meant:
            sentences.append(f"{name}{_place(name)}" + (f": did you mean {meant}?" if meant else "."))
    return sentences


def _place(name: Any) -> str:  # noqa: ANN401 -- a string that Ansible has tagged
    """Where it is set; nothing where Ansible does not tell."""
    if Origin is not None:
        found = Origin.get_tag(name)
        return f" ({found})" if found is not None else ""
    place = getattr(name, "ansible_pos", None)
    return f" ({':'.join(map(str, place))})" if place else ""


def _resembling(name: str, candidates: list[str], prefix: str) -> str:
    """Which of those with the same prefix it resembles in what follows."""
    rests = [one.removeprefix(prefix) for one in candidates if one.startswith(prefix)]
    return next((prefix + one for one in difflib.get_close_matches(name.removeprefix(prefix), rests, n=1)), "")


def _slip(name: str, candidates: list[str]) -> str:
    return next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=A_SLIP)), "")


class FilterModule:
    """Called by Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """By name."""
        return {"unknown_variables": unknown_variables}
