"""`hostmesh token`: join tokens, each of which makes one host a node of the mesh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hostmesh.cli.client import Client, socket_option
from hostmesh.cli.host_keys import read_fingerprint
from hostmesh.cli.output import output_option, structured
from hostmesh.cli.status import table
from hostmesh.config.durations import parse_duration
from hostmesh.model.node import NODE_NAMESPACE
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
@click.option("--node", default="", help="The host that it admits, by its name in the mesh.")
@click.option(
    "--ttl", type=_Duration(), default=None, help="How long it can be used, like 10m; an hour, or with --jwt a day."
)
@click.option(
    "--jwt",
    is_flag=True,
    help="A signed token for a proxy without a client certificate, like a stock ztunnel (AUTH_TOKEN); good until "
    "it expires.",
)
@click.option(
    "--service-account",
    default="",
    metavar="NAMESPACE/NAME",
    help="With --jwt instead of --node: good for this workload only.",
)
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
@output_option
@socket_option
def create(
    node: str,
    ttl: float | None,
    jwt: bool,
    service_account: str,
    given: str,
    addresses: tuple[str, ...],
    output: str,
    path: Path,
) -> None:
    """Mint a token that admits one host once. It is shown this one time only."""
    if jwt:
        if given or addresses:
            raise click.UsageError("a token with --jwt is bound to nothing but its name: no --host-key, no --address")
        namespace, name = _subject(node, service_account)
        _show(Client(path).bearer(namespace, name, 86400.0 if ttl is None else ttl), output)
        return
    if not node or service_account:
        raise click.UsageError("name the host with --node (--service-account is for --jwt)")
    host_key = read_fingerprint(given, node) if given else ""
    _show(Client(path).token(node, 3600.0 if ttl is None else ttl, host_key=host_key, addresses=addresses), output)


@token.command()
@socket_option
def jwks(path: Path) -> None:
    """Show the keys that verify tokens of --jwt.

    As another verifier takes them (istiod's JWT_RULE).
    """
    click.echo(json.dumps(Client(path).jwks()))


@token.command(name="list")
@output_option
@socket_option
def list_(output: str, path: Path) -> None:
    """Show the join tokens of the last month, without their secrets."""
    tokens = Client(path).tokens()
    if structured(output, tokens):
        return
    rows: list[tuple[str, ...]] = [("ID", "NODE", "STATE", "EXPIRES", "BOUND TO")]
    rows += [(t["id"], t["node"], t["state"], timestamp(t["expires"]), _bound(t)) for t in tokens]
    click.echo("\n".join(table(rows)))


@token.command()
@click.argument("identifier", metavar="ID")
@socket_option
def revoke(identifier: str, path: Path) -> None:
    """Make the join token ID unusable.

    ID is what stands before the dot, as `hostmesh token list` shows it.
    """
    record = Client(path).token_revoke(identifier.partition(".")[0])
    click.echo(f"token {record['id']} of node {record['node']} is {record['state']}")


def _show(minted: dict[str, Any], output: str) -> None:
    if not structured(output, minted):
        click.echo(minted["token"])


def _subject(node: str, service_account: str) -> tuple[str, str]:
    if bool(node) == bool(service_account):
        raise click.UsageError("with --jwt give either --node or --service-account")
    if node:
        return NODE_NAMESPACE, node
    namespace, slash, name = service_account.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise click.UsageError(f"--service-account {service_account!r} is not NAMESPACE/NAME")
    if namespace == NODE_NAMESPACE:
        raise click.UsageError(f"{NODE_NAMESPACE} is the namespace of hosts; use --node {name}")
    return namespace, name


def _bound(record: dict[str, Any]) -> str:
    return ", ".join([*([record["host_key"]] if record["host_key"] else []), *record["addresses"]]) or "-"
