"""`hostmesh token`: join tokens, each of which makes one host a node of the mesh."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hostmesh.cli.client import Client, socket_option
from hostmesh.config.durations import parse_duration


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def token() -> None:
    """Manage join tokens."""


@token.command()
@click.option("--node", required=True, help="The host that it admits, by its name in the mesh.")
@click.option("--ttl", type=_Duration(), default="1h", show_default=True, help="How long it can be used, like 10m.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@socket_option
def create(node: str, ttl: float, output: str, path: Path) -> None:
    """Mint a token that admits one host once. It is shown this one time only."""
    minted = Client(path).token(node, ttl)
    click.echo(json.dumps(minted, indent=2) if output == "json" else minted["token"])
