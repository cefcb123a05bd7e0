"""`hostmesh log`: how much the agent of this host says, now and until it is told otherwise."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request

import click

from hostmesh.cli.status import AgentUnreachable, why
from hostmesh.telemetry.logs import InvalidLevels, parse_levels


@click.command()
@click.option("--level", default="", help="Such as debug, or access=off,xds=debug: by target.")
@click.option("-r", "--reset", is_flag=True, help="Go back to the configured levels first.")
@click.option("--port", "--proxy-admin-port", default=15000, show_default=True, help="The agent's admin port.")
def log(level: str, reset: bool, port: int) -> None:
    """Show or change the log levels of this host's agent, without a restart."""
    try:
        parse_levels(level)
    except InvalidLevels as error:
        raise click.BadParameter(str(error), param_hint="'--level'") from error
    query = urllib.parse.urlencode({**({"level": level} if level else {}), **({"reset": ""} if reset else {})})
    url = f"http://127.0.0.1:{port}/logging"
    request = urllib.request.Request(f"{url}?{query}" if query else url, method="POST")  # noqa: S310 # http only
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            click.echo(response.read().decode(), nl=False)
    except urllib.error.HTTPError as error:
        with error:
            raise click.ClickException(error.read().decode().strip()) from error
    except OSError as error:
        raise AgentUnreachable(
            f"the agent does not answer on {url}: {why(error)}; see `systemctl status hostmesh-agent`"
        ) from error
