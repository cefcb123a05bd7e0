"""`hostmesh get`: live documents, and what agents are told because of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml

from hostmesh.cli.client import Client, problem_line, socket_option
from hostmesh.cli.columns import document_rows, mesh_rows
from hostmesh.cli.kinds import DERIVED, any_kind
from hostmesh.cli.output import wide_output_option
from hostmesh.cli.status import table

_SECTIONS = {"workloads": "workloads", "meshservices": "services", "policies": "policies"}


@click.command()
@click.argument("kind", type=any_kind)
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Only this namespace (default: all).")
@wide_output_option
@socket_option
def get(kind: str, name: str | None, namespace: str | None, output: str, path: Path) -> None:
    """Show what is live.

    KIND is one of the mesh's documents, such as workloadentries, authorizationpolicies (ap) or httproutes, in
    kubectl's spellings. What agents are told because of them: workloads, meshservices, policies. Agents that are
    connected: nodes. Hosts in and out of rotation: leases.
    """
    client = Client(path)
    if kind in DERIVED:
        items = [item for item in _derived(client, kind) if _chosen(item, namespace, name)]
        if name is not None and not items:
            raise click.ClickException(f"{kind}: no {name!r}; leave the name out to see what is there")
        values, rows = items, mesh_rows(kind, items, wide=output == "wide")
    else:
        items = client.objects(kind, namespace, name)
        values, rows = [item["object"] for item in items], document_rows(kind, items, wide=output == "wide")
    _print(values, rows, output, single=name is not None and len(values) == 1)
    for problem in client.status()["documents"]["problems"]:
        click.echo(f"not live: {problem_line(problem)}", err=True)


def _derived(client: Client, kind: str) -> list[dict[str, Any]]:
    if kind == "nodes":
        return [{"name": node["node"], **node} for node in client.status()["nodes"]]
    if kind == "leases":
        leases: list[dict[str, Any]] = client.status()["registry"]["leases"]
        return leases
    items: list[dict[str, Any]] = client.mesh().get(_SECTIONS[kind], [])
    return items


def _chosen(item: dict[str, Any], namespace: str | None, name: str | None) -> bool:
    return namespace in (None, item.get("namespace")) and name in (None, item["name"])


def _print(values: list[dict[str, Any]], rows: list[tuple[str, ...]], output: str, *, single: bool) -> None:
    if output == "json":
        click.echo(json.dumps(values[0] if single else {"items": values}, indent=2))
    elif output == "yaml":
        click.echo(yaml.safe_dump_all(values, sort_keys=False, allow_unicode=True), nl=False)
    elif len(rows) == 1:
        click.echo("nothing found", err=True)
    else:
        click.echo("\n".join(table(rows)))
