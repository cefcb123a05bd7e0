"""Policies in a file, for hosts without a control plane."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.support.policies import World, worlds

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.xds.codec import decode_policy_resource
from hostmesh.xds.compiled_policies import dump_policies, load_policies


@given(worlds())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, world: World) -> None:
    """Every resource under its name."""
    file = tmp_path / "policies.json"
    file.write_text(dump_policies([*world.policies, *world.members]))
    found = [decode_policy_resource(data) for data in load_policies(file).values()]
    assert all(one in found for one in (*world.policies, *world.members))
    assert len(found) == len(world.policies) + len(world.members)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "resources": {}}',
        '{"version": 1, "resources": {"policy/a/b": "AAAA"}}',
        '{"version": 1, "resources": {"policy/a/b": "!"}}',
    ],
)
def test_what_is_no_such_file_is_named(tmp_path: Path, text: str) -> None:
    """With the next step; also one that is not there."""
    file = tmp_path / "policies.json"
    with pytest.raises(InvalidYaml, match="cannot be read"):
        load_policies(file)
    file.write_text(text)
    with pytest.raises(InvalidYaml, match="next: write it with `hostmesh netpol compile`"):
        load_policies(file)
