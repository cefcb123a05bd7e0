"""Every variable of a role is documented, with its default, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tools.role_readmes import readme

ROLES = Path(__file__).parents[3] / "roles"
NAMES = sorted(role.name for role in ROLES.iterdir())


@pytest.mark.parametrize("role", NAMES)
def test_every_variable_is_in_the_argument_specs(role: str) -> None:
    """defaults/main.yml and meta/argument_specs.yml name the same variables, all prefixed by the role's name."""
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    documented = {name for spec in specs.values() for name in spec["options"]}
    assert set(defaults) == documented
    assert all(name.startswith(f"{role}_") for name in documented)


@pytest.mark.parametrize("role", NAMES)
def test_every_role_says_what_it_is_for(role: str) -> None:
    """A role has a README and names itself in meta/main.yml."""
    meta = yaml.safe_load((ROLES / role / "meta" / "main.yml").read_text())
    assert meta["galaxy_info"]["description"]
    assert f"# hostmesh.mesh.{role}" in (ROLES / role / "README.md").read_text()


@pytest.mark.parametrize("role", NAMES)
def test_the_table_of_variables_is_the_specs(role: str) -> None:
    """Made from them; `python -m tools.role_readmes` makes it again."""
    assert (ROLES / role / "README.md").read_text() == readme(ROLES / role)
