"""Every variable of a role is documented, with its default, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tools.role_readmes import readme

ROOT = Path(__file__).parents[3]
ROLES = ROOT / "roles"
NAMES = sorted(role.name for role in ROLES.iterdir())


@pytest.mark.parametrize("role", NAMES)
def test_every_variable_is_in_the_argument_specs(role: str) -> None:
    """defaults/main.yml and meta/argument_specs.yml name the same variables, all prefixed by the role's name."""
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    documented = {name for entry, spec in specs.items() if entry != "variables" for name in spec["options"]}
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


def mesh_wide() -> dict[str, dict[str, object]]:
    """The variables of the whole mesh, as they are documented."""
    specs = yaml.safe_load((ROLES / "_common" / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    found: dict[str, dict[str, object]] = specs["variables"]["options"]
    return found


def test_variables_of_the_whole_mesh_are_those_that_roles_and_playbooks_read() -> None:
    """None is read that is not documented, and would be refused as unknown; none is documented that nobody reads."""
    # Groups of hosts, tags, and tables of nftables have such names, too.
    others = r"control_plane|agents|waypoints|install|configure|service|uninstall|firewall|dns|probes|answers|held"
    files = [path for folder in (ROLES, ROOT / "playbooks") for path in folder.rglob("*") if path.is_file()]
    texts = [path.read_text() for path in files if path.name not in {"README.md", "argument_specs.yml"}]
    read = {name for text in texts for name in re.findall(rf"\bhostmesh_(?!(?:{others})\b)[a-z_]+", text)}
    assert set(mesh_wide()) == read


def test_keys_of_a_waypoint_are_those_that_its_document_is_made_of() -> None:
    """The template reads these and no others."""
    template = (ROLES / "waypoint" / "templates" / "waypoints.yaml.j2").read_text()
    read = set(re.findall(r"\bone\.(\w+)", template)) | set(re.findall(r"\bone\['(\w+)'\]", template))
    assert mesh_wide()["hostmesh_waypoint"]["options"].keys() == read  # type: ignore[attr-defined]


def test_every_role_with_variables_is_looked_at_for_misspelt_ones() -> None:
    """The list of roles is all of them; this one's own variables are internal."""
    (check,) = yaml.safe_load((ROLES / "_common" / "tasks" / "variables.yml").read_text())
    assert ["_common", *check["vars"]["_common_with_variables"]] == NAMES


@pytest.mark.parametrize("playbook", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_a_playbook_that_changes_something_checks_names_of_variables_first(playbook: Path) -> None:
    """Those that change nothing need not."""
    first = yaml.safe_load(playbook.read_text())[0]
    assert playbook.stem in {"doctor", "emit", "variables"} or (
        first.get("ansible.builtin.import_playbook") == "variables.yml"
    )


def test_expressions_have_no_quotation_marks_behind_backslashes() -> None:
    """ansible-core before 2.19 doubles the backslashes of what it finds within an expression."""
    for folder in (ROLES, ROOT / "playbooks"):
        for path in folder.rglob("*.y*ml"):
            assert "\\'" not in path.read_text(), path


def test_what_a_program_said_in_json_is_handed_on_as_it_said_it() -> None:
    """ansible-core before 2.19 makes a value of a text that looks like one, and hands that on in Python's words."""
    for tasks in sorted(ROLES.glob("*/tasks/*.yml")):
        for line in tasks.read_text().splitlines():
            assert not re.search(r"^\s+stdin: .*\.stdout }}", line), f"{tasks}: {line.strip()}: end it with | string"
