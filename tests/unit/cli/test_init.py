"""The command itself: every verb is there, and help costs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

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


def test_help_imports_nothing_heavy() -> None:
    """Completion and --help run on every keystroke of somebody."""
    code = "import sys\nfrom hostmesh.cli import main\nmain(['--help'], standalone_mode=False)\n"
    heavy = (
        "print([name for name in ('aiohttp', 'cryptography', 'pydantic', 'yaml', 'grpclib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_verb_is_a_usage_error() -> None:
    """Status 2, as for every wrong use."""
    assert CliRunner().invoke(main, ["aply"]).exit_code == 2


@pytest.mark.parametrize("command", sorted(commands(main, ())))
def test_help_has_no_traces_of_how_it_is_written(command: tuple[str, ...]) -> None:
    r"""Examples stand on lines of their own: click's mark for that (\b) is a character, not two."""
    assert "\\b" not in CliRunner().invoke(main, [*command, "--help"]).output
