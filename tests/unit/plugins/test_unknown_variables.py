"""The filter that finds variables which nobody reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "plugins" / "filter" / "unknown_variables.py"
KNOWN = ["hostmesh_workloads", "hostmesh_rotation", "hostmesh_network", "agent_certificate_ttl", "agent_workers"]


def unknown(*names: str, known: list[str] = KNOWN) -> list[str]:
    spec = importlib.util.spec_from_file_location("unknown_variables", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    found: list[str] = loaded.unknown_variables(names, known)
    return found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hostmesh_workloads", []),
        ("hostmesh_wrokloads", ["hostmesh_wrokloads: did you mean hostmesh_workloads?"]),
        ("hostmesh_workload", ["hostmesh_workload: did you mean hostmesh_workloads?"]),
        ("hostmesh_rotate", ["hostmesh_rotate: did you mean hostmesh_rotation?"]),
        ("hostmesh_rack", ["hostmesh_rack."]),  # resembles nothing, and nobody reads it
        ("agent_certifcate_ttl", ["agent_certifcate_ttl: did you mean agent_certificate_ttl?"]),
        ("agent_worker", ["agent_worker: did you mean agent_workers?"]),
        ("agent_smith", []),  # somebody else's
        ("agent_work_folder", []),
    ],
)
def test_a_name_is_known_or_a_slip_or_somebody_elses(name: str, said: list[str]) -> None:
    """With our prefix every name has to be known; with a role's it may be anything but a slip of one."""
    assert unknown(name) == said


def test_all_are_told_at_once_and_in_order() -> None:
    """One sentence for each."""
    assert [one.rstrip(".") for one in unknown("hostmesh_b", "hostmesh_a", "hostmesh_network")] == [
        "hostmesh_a",
        "hostmesh_b",
    ]
