"""`hostmesh config`: what the agent of this host is told, value by value, and by whom."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from hostmesh.cli.output import output_option, structured
from hostmesh.cli.status import fetch, table
from hostmesh.config.agent import DEFAULT_CONFIG, load
from hostmesh.config.strict_yaml import InvalidYaml


@click.command()
@output_option
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="Configuration file.",
)
@click.option("--live", is_flag=True, help="Ask the agent what it runs with, instead of reading the files.")
@click.option("--port", default=15000, show_default=True, help="The agent's admin port, for --live.")
def config(output: str, path: Path, live: bool, port: int) -> None:
    """Show every setting of this host's agent: its value, and the file and line or the variable that gave it.

    Without --live, variables are those of this command, not of the service. Exit status 1 if something is wrong.
    """
    values = _live(port) if live else _read(path)
    if structured(output, {name: {"value": v, "source": s} for name, (v, s) in values.items()}):
        return
    rows = [(name, json.dumps(value), source) for name, (value, source) in sorted(values.items())]
    click.echo("\n".join(table([("SETTING", "VALUE", "SOURCE"), *rows])))


def _read(path: Path) -> dict[str, tuple[Any, str]]:
    try:
        read = load(path, os.environ)
    except InvalidYaml as error:
        raise click.ClickException(str(error)) from error
    if read.without_effect:
        click.echo(f"without effect on a host: {', '.join(read.without_effect)}", err=True)
    return read.effective()


def _live(port: int) -> dict[str, tuple[Any, str]]:
    settings = fetch(port, "/config_dump")["settings"]
    return {name: (one["value"], one["source"]) for name, one in settings.items()}
