"""The command itself: every verb is there, and help costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.support.patience import PATIENCE

from hostmesh import _RELEASE, _version
from hostmesh.cli import _COMMANDS, main


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every command and its commands."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_help_lists_every_verb() -> None:
    """In words that fit a line."""
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, (_, line) in _COMMANDS.items():
        assert f"{name} " in result.output
        assert line in result.output


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_every_verb_is_a_command(name: str) -> None:
    """The table names modules as text; each must be what it says."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        ((), ("aiohttp", "cryptography", "pydantic", "yaml", "grpclib")),
        (("status",), ("aiohttp", "cryptography", "pydantic", "yaml", "grpclib")),
        (("validate",), ("aiohttp", "cryptography", "google.protobuf", "joserfc", "grpclib")),
        (("policy",), ("aiohttp", "cryptography", "google.protobuf", "joserfc", "grpclib")),
        (("netpol",), ("hostmesh.admin", "cryptography", "joserfc", "grpclib")),
        (("control-plane",), ("aiohttp", "hostmesh.control.main", "google.protobuf", "grpclib.client")),
    ],
)
def test_a_command_loads_what_it_needs(words: tuple[str, ...], unneeded: tuple[str, ...]) -> None:
    """Completion and --help run on every keystroke of somebody."""
    code = f"import sys\nfrom hostmesh.cli import main\nmain([*{words}, '--help'], standalone_mode=False)\n"
    heavy = f"print([name for name in {unneeded} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + heavy], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_verb_is_a_usage_error() -> None:
    """Status 2, as for every wrong use."""
    assert CliRunner().invoke(main, ["aply"]).exit_code == 2


@pytest.mark.parametrize("command", sorted(commands(main, ())))
def test_help_has_no_traces_of_how_it_is_written(command: tuple[str, ...]) -> None:
    r"""Examples stand on lines of their own: click's mark for that (\b) is a character, not two."""
    assert "\\b" not in CliRunner().invoke(main, [*command, "--help"]).output


@pytest.mark.parametrize("command", sorted(path for path in commands(main, ()) if len(path) > 1))
def test_the_first_sentence_of_a_command_fits_the_list_of_its_group(command: tuple[str, ...]) -> None:
    """On a terminal of 80 columns nobody is left with an ellipsis."""
    assert not re.search(
        rf"^  {command[-1]} .*\.\.\.$", CliRunner().invoke(main, [*command[:-1], "-h"]).output, re.MULTILINE
    )


@pytest.mark.parametrize(("typed", "meant"), [("statu", "status"), ("workloadz", "workloads"), ("certz", "certs")])
def test_a_slip_is_answered_by_what_was_meant(typed: str, meant: str) -> None:
    """Still status 2, and nothing is run."""
    result = CliRunner().invoke(main, [typed])
    assert result.exit_code == 2
    assert "did you mean " in result.output
    assert f"'{meant}'" in result.output


@pytest.mark.parametrize("command", sorted(commands(main, ())))
def test_every_command_prints_in_the_same_formats(command: tuple[str, ...]) -> None:
    """-o table|json|yaml, some wide too; where -o names a file instead it has another type."""
    group: click.Command = main
    for name in command:
        assert isinstance(group, click.Group)
        found = group.get_command(click.Context(group), name)
        assert found is not None
        group = found
    for option in group.params:
        if "--output" in option.opts and isinstance(option.type, click.Choice):
            assert [one for one in option.type.choices if one != "wide"] == ["table", "json", "yaml"]
            assert option.default == "table"


def test_a_version_names_the_build_where_there_is_one(tmp_path: Path) -> None:
    """Installations of the roles and of the package are in folders of that name; others are the release alone."""
    build = tmp_path / f"{_RELEASE}+0123456789ab"
    build.mkdir()
    (tmp_path / "current").symlink_to(build.name)
    assert _version(tmp_path / "current") == build.name
    assert _version(tmp_path) == _RELEASE
