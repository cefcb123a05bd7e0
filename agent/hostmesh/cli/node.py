"""`hostmesh node`: the hosts that may join by their SSH host keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hostmesh.cli.client import Client, socket_option
from hostmesh.cli.host_keys import read_keys
from hostmesh.cli.output import output_option, structured
from hostmesh.cli.status import table

name_option = click.option("--name", required=True, help="The host, by its name in the mesh.")


@click.group()
def node() -> None:
    """Register the SSH host keys by which hosts become nodes of the mesh."""


@node.command()
@name_option
@click.option(
    "--host-key",
    "given",
    required=True,
    multiple=True,
    metavar="FILE|KEY",
    help="A .pub file of /etc/ssh, known_hosts, `-`, or the key itself; may be repeated.",
)
@click.option("--replace", is_flag=True, help="Forget the keys that are not given, as after a new installation.")
@output_option
@socket_option
def add(name: str, given: tuple[str, ...], replace: bool, output: str, path: Path) -> None:
    """Register host keys of a host. Saying the same again changes nothing."""
    keys = [str(key) for one in given for key in read_keys(one, name)]
    answer = Client(path).node_add(name, keys, replace=replace)
    if structured(output, answer):
        return
    click.echo(f"node {name} {'registered' if answer['changed'] else 'unchanged'}")
    for key in answer["host_keys"]:
        click.echo(f"  {_short(key)}")


@node.command(name="list")
@output_option
@socket_option
def list_(output: str, path: Path) -> None:
    """Show the registered hosts with the fingerprints of their keys."""
    nodes = Client(path).nodes()
    if structured(output, nodes):
        return
    rows: list[tuple[str, ...]] = [("NODE", "HOST KEYS", "REGISTERED BY")]
    rows += [(one["name"], ", ".join(_short(key) for key in one["host_keys"]), one["source"]) for one in nodes]
    click.echo("\n".join(table(rows)))


@node.command()
@name_option
@socket_option
def remove(name: str, path: Path) -> None:
    """Forget the host keys of a host. Its present certificate stays good; `hostmesh ca revoke` ends that."""
    Client(path).node_remove(name)
    click.echo(f"node {name} removed")


def _short(key: dict[str, Any]) -> str:
    return f"{key['fingerprint']} ({key['key'].split()[0]})"
