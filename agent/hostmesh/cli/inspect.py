"""What an agent knows, in the words of `istioctl ztunnel-config`: live, or offline from a saved config dump."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from hostmesh.cli.columns import mesh_rows
from hostmesh.cli.dump import load, source_options
from hostmesh.cli.dump_columns import address_names, certificate_rows, connection_rows
from hostmesh.cli.output import wide_output_option
from hostmesh.cli.show import Row, show, show_or_watch, watch_option

Json = dict[str, Any]


@click.command()
@source_options
@wide_output_option
@watch_option
@click.option("-n", "--namespace", "--workload-namespace", help="Only this namespace.")
@click.option("--address", help="Only what has this address.")
@click.option("--node", "--workload-node", help="Only what is on this host.")
def workloads(
    file: Path | None, port: int, output: str, watch: bool, namespace: str | None, address: str | None, node: str | None
) -> None:
    """Show the workloads that this host's agent knows."""

    def wanted(one: Json) -> bool:
        return (
            namespace in (None, one["namespace"])
            and node in (None, one.get("node"))
            and (address is None or address in one["workloadIps"])
        )

    _mesh("workloads", "workloads", file, port, output, wanted, again=_again(file, watch=watch))


@click.command()
@source_options
@wide_output_option
@watch_option
@click.option("-n", "--namespace", "--service-namespace", help="Only this namespace.")
def services(file: Path | None, port: int, output: str, watch: bool, namespace: str | None) -> None:
    """Show the services that this host's agent knows."""
    _mesh("services", "meshservices", file, port, output, _in(namespace), again=_again(file, watch=watch))


@click.command()
@source_options
@wide_output_option
@watch_option
@click.option("-n", "--namespace", "--policy-namespace", help="Only this namespace.")
def policies(file: Path | None, port: int, output: str, watch: bool, namespace: str | None) -> None:
    """Show the policies that this host's agent holds."""
    _mesh("policies", "policies", file, port, output, _in(namespace), again=_again(file, watch=watch))


@click.command()
@source_options
@wide_output_option
@watch_option
def certificates(file: Path | None, port: int, output: str, watch: bool) -> None:
    """Show the certificates of this host's workloads."""
    show_or_watch(
        output,
        lambda: list(load(file, port)["certificates"]),
        lambda found: certificate_rows(found, time.time()),
        again=_again(file, watch=watch),
    )


@click.command()
@source_options
@wide_output_option
@watch_option
@click.option("--direction", type=click.Choice(["inbound", "outbound"]), help="Only these.")
@click.option("--raw", is_flag=True, help="Addresses as they are, without names.")
@click.option("-n", "--namespace", "--workload-namespace", help="Only workloads of this namespace.")
def connections(
    file: Path | None,
    port: int,
    output: str,
    watch: bool,
    direction: str | None,
    raw: bool,
    namespace: str | None,
) -> None:
    """Show the open connections of this host's workloads."""

    def look() -> list[Any]:
        dump = load(file, port)
        states = {
            uid: state
            for uid, state in dump["workloadState"].items()
            if namespace in (None, (state.get("info") or {}).get("namespace"))
        }
        names = str if raw else address_names(dump["workloads"], dump["services"])
        return [states, names]

    if _again(file, watch=watch):
        show_or_watch(output, look, lambda found: connection_rows(found[0], found[1], direction), again=True)
        return
    states, names = look()
    show(output, states, lambda: connection_rows(states, names, direction))


@click.command("all")
@source_options
@wide_output_option
def everything(file: Path | None, port: int, output: str) -> None:
    """Show everything that this host's agent knows; with -o json, a config dump for --file."""
    dump = load(file, port)
    if output in ("json", "yaml"):
        show(output, dump, list)
        return
    names = address_names(dump["workloads"], dump["services"])
    wide = output == "wide"
    sections = {
        "WORKLOAD": mesh_rows("workloads", dump["workloads"], wide=wide, services=dump["services"]),
        "SERVICE": mesh_rows("meshservices", dump["services"], wide=wide, services=dump["services"]),
        "POLICY": mesh_rows("policies", dump["policies"], wide=wide),
        "CERTIFICATE": certificate_rows(dump["certificates"], time.time()),
        "CONNECTIONS": connection_rows(dump["workloadState"], names, None),
    }
    for title, rows in sections.items():
        click.echo(f"------ {title} INFO ------")
        show("table", [], partial(list, rows))
        click.echo()


def _again(file: Path | None, *, watch: bool) -> bool:
    if watch and file is not None:
        raise click.UsageError("--watch looks at the agent again and again: without --file")
    return watch


def _in(namespace: str | None) -> Callable[[Json], bool]:
    return lambda one: namespace in (None, one["namespace"])


def _mesh(
    section: str,
    kind: str,
    file: Path | None,
    port: int,
    output: str,
    wanted: Callable[[Json], bool],
    *,
    again: bool,
) -> None:
    around: list[Json] = []

    def look() -> list[Any]:
        dump = load(file, port)
        around[:] = dump["services"]
        return [one for one in dump[section] if wanted(one)]

    def rows(found: list[Any]) -> list[Row]:
        return mesh_rows(kind, found, wide=output == "wide", services=around)

    show_or_watch(output, look, rows, again=again)
