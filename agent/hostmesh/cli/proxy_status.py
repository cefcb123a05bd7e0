"""`hostmesh proxy-status`: who is connected to this control plane, and whether they know what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hostmesh.cli.client import Client, socket_option
from hostmesh.cli.output import wide_output_option
from hostmesh.cli.show import Row, show_or_watch, watch_option

Json = dict[str, Any]


@click.command("proxy-status")
@click.argument("name", required=False)
@wide_output_option
@watch_option
@socket_option
def proxy_status(name: str | None, output: str, watch: bool, path: Path) -> None:
    """Show the proxies that are connected to this control plane, or only NAME."""

    def look() -> list[Any]:
        found = [
            {"name": node.pop("node"), **node}
            for node in Client(path).status()["nodes"]
            if name in (None, node["node"])
        ]
        if name is not None and not found and not watch:
            raise click.ClickException(f"no proxy of the node {name!r} is connected; leave the name out to see all")
        return found

    show_or_watch(output, look, lambda found: rows(found, wide=output == "wide"), again=watch)


def rows(nodes: list[Json], *, wide: bool) -> list[Row]:
    """The columns of istioctl, with the control plane's own name left out: there is one."""
    more = ("ADDRESS", "NACKS", "LAST NACK") if wide else ()
    found: list[Row] = [("NAME", "CLUSTER", "VERSION", "SYNCED", "SUBSCRIBED TYPES", *more)]
    for node in nodes:
        synced = "NACK" if node["nacks"] and not node["settled"] else "SYNCED" if node["settled"] else "STALE"
        types = f"{len(node['types'])} ({','.join(node['types'])})"
        extra = (node["address"], str(node["nacks"]), node["last_nack"] or "-") if wide else ()
        found.append((node["name"], node["cluster"] or "-", node["version"] or "-", synced, types, *extra))
    return found
