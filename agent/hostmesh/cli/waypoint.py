"""`hostmesh waypoint run|status`: the waypoint of a Gateway on this host."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hostmesh.cli.output import output_option, structured
from hostmesh.cli.waypoint_views import RUNTIME, SOCKET, ask, here
from hostmesh.config.agent import DEFAULT_CONFIG, load
from hostmesh.config.strict_yaml import InvalidYaml

STATE = Path("/var/lib/hostmesh-waypoint")


class _Gateway(click.ParamType[str]):
    """`name` or `namespace/name`; systemd's instance names have a dot for the slash."""

    name = "gateway"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        namespace, _, name = value.replace(".", "/", 1).rpartition("/")
        if not name or "/" in namespace:
            self.fail(f"{value!r} is not [NAMESPACE/]NAME of a Gateway", param, ctx)
        return f"{namespace or 'default'}/{name}"


@click.group()
def waypoint() -> None:
    """Run a waypoint, and look at it."""


@waypoint.command()
@click.argument("gateway", type=_Gateway())
@click.option(
    "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True, help="This host's settings."
)
@click.option("--bind", default="0.0.0.0", show_default=True, help="Address to take HBONE on.")
@click.option("--concurrency", default=1, show_default=True, type=click.IntRange(1, 256), help="Threads of Envoy.")
@click.option("--metrics-port", default=15090, show_default=True, type=click.IntRange(0, 65535), help="0: none.")
@click.option("--runtime-dir", type=click.Path(path_type=Path), help="For sockets and keys.  [default: below /run]")
@click.option("--state-dir", type=click.Path(path_type=Path), default=STATE, show_default=True, help="For its cache.")
def run(
    gateway: str,
    config: Path,
    bind: str,
    concurrency: int,
    metrics_port: int,
    runtime_dir: Path | None,
    state_dir: Path,
) -> None:
    """Run the waypoint of GATEWAY, as systemd starts it.

    Exit status 1 if the configuration is wrong or Envoy is not installed.
    """
    from hostmesh.kernel.program import Program
    from hostmesh.telemetry.logs import parse_levels, set_up
    from hostmesh.waypoint.envoy import EnvoyMissing, binary
    from hostmesh.waypoint.main import Options, Waypoint

    runtime = runtime_dir or RUNTIME / gateway.replace("/", ".")

    async def serve() -> None:
        await Waypoint(
            settings, Options(gateway, runtime, state_dir, bind, concurrency, metrics_port), Program.current()
        ).run()

    try:
        settings = load(config, os.environ)
        binary()
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        set_up(settings.settings.log.format, parse_levels(settings.settings.log.level))
        asyncio.run(serve())
    except (InvalidYaml, EnvoyMissing) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or runtime}: {error.strerror or error}") from error


@waypoint.command()
@click.argument("gateway", type=_Gateway(), required=False)
@click.option("--runtime-dir", type=click.Path(path_type=Path), help="As `run` was told.  [default: below /run]")
@output_option
def status(gateway: str | None, runtime_dir: Path | None, output: str) -> None:
    """Show the waypoint of GATEWAY on this host, or all of them.

    Exit status 1 if one is not ready.
    """
    names = [gateway] if gateway is not None else here()
    if not names:
        raise click.ClickException(f"no waypoint has run on this host: {RUNTIME} is empty")
    found = [ask((runtime_dir or RUNTIME / name.replace("/", ".")) / SOCKET) for name in names]
    if not structured(output, found[0] if gateway is not None else found):
        click.echo("\n\n".join("\n".join(_table(one, time.time())) for one in found))
    if not all(one["ready"] for one in found):
        raise SystemExit(1)


def _table(found: dict[str, Any], now: float) -> Iterator[str]:
    plane, envoy, serving = found["control_plane"], found["envoy"], found["serving"]
    configuration = found["configuration"]
    runs = f"{envoy['state']} {envoy.get('version', envoy.get('error', ''))}"
    if "uptime" in envoy:
        runs += f", up {envoy['uptime']}, started {found['envoy_starts']} times"
    force = f"in force, {configuration['published']} so far"
    if configuration["error"]:
        force = f"REFUSED, the last good one stays in force: {configuration['error']}"
    rows = [
        ("waypoint", f"{found['gateway']} (hostmesh {found['version']}): {'ready' if found['ready'] else 'NOT READY'}"),
        ("control plane", "connected" if plane["connected"] else plane["error"] or "not connected"),
        ("envoy", runs),
        ("configuration", force),
    ]
    rows += [("certificate", f"{one['identity']}: {_validity(one, now)}") for one in found["certificates"]]
    rows += [("serves", _service(one)) for one in serving["services"]]
    if serving["workloads"]:
        rows.append(("serves", f"{serving['workloads']} workloads by address"))
    if found["metrics"]:
        rows.append(("metrics", f"http://{found['metrics']}/metrics"))
    return (f"{name:<16}{value}" for name, value in rows)


def _validity(one: dict[str, Any], now: float) -> str:
    if one["expires"] is None:
        return str(one["state"])
    return f"{one['state']}, valid for another {max(0.0, one['expires'] - now) / 3600:.1f} h"


def _service(one: dict[str, Any]) -> str:
    ports = ", ".join(
        f"{port['port']} ({port['protocol'] or 'any'}, {port['endpoints']} endpoints, {port['routes']} routes)"
        for port in one["ports"]
    )
    return f"{one['hostname']}: {ports}; {one['policies']} policies"
