"""`hostmesh token`: join tokens, each of which makes one host a node of the mesh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hostmesh.cli.client import Client, socket_option
from hostmesh.cli.host_keys import read_fingerprint
from hostmesh.cli.status import table
from hostmesh.config.durations import parse_duration
from hostmesh.rpc.failure import timestamp


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
@click.option(
    "--host-key",
    "given",
    default="",
    metavar="FILE|FINGERPRINT",
    help="Good for the host with this SSH host key only: a .pub file, known_hosts, or SHA256:...",
)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="CIDR",
    help="Good from this network or address only; may be repeated.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@socket_option
def create(node: str, ttl: float, given: str, addresses: tuple[str, ...], output: str, path: Path) -> None:
    """Mint a token that admits one host once. It is shown this one time only."""
    host_key = read_fingerprint(given, node) if given else ""
    minted = Client(path).token(node, ttl, host_key=host_key, addresses=addresses)
    click.echo(json.dumps(minted, indent=2) if output == "json" else minted["token"])


@token.command(name="list")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@socket_option
def list_(output: str, path: Path) -> None:
    """Show the join tokens of the last month, without their secrets."""
    tokens = Client(path).tokens()
    if output == "json":
        click.echo(json.dumps(tokens, indent=2))
        return
    rows: list[tuple[str, ...]] = [("ID", "NODE", "STATE", "EXPIRES", "BOUND TO")]
    rows += [(t["id"], t["node"], t["state"], timestamp(t["expires"]), _bound(t)) for t in tokens]
    click.echo("\n".join(table(rows)))


@token.command()
@click.argument("identifier", metavar="ID")
@socket_option
def revoke(identifier: str, path: Path) -> None:
    """Make a join token unusable; ID is what stands before the dot, as `hostmesh token list` shows it."""
    record = Client(path).token_revoke(identifier.partition(".")[0])
    click.echo(f"token {record['id']} of node {record['node']} is {record['state']}")


def _bound(record: dict[str, Any]) -> str:
    return ", ".join([*([record["host_key"]] if record["host_key"] else []), *record["addresses"]]) or "-"
