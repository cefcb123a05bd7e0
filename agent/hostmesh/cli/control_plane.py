"""`hostmesh control-plane`: runs the control plane in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.config import DEFAULT_CONFIG, load


@click.command(name="control-plane")
@click.option(
    "--config", default=DEFAULT_CONFIG, show_default=True, type=click.Path(path_type=Path), help="Its settings."
)
@click.option("--check", is_flag=True, help="Read the configuration, say what is wrong, and end.")
def control_plane(config: Path, check: bool) -> None:
    """Run the control plane: documents, xDS, certificate authority and enrolment."""
    try:
        settings = load(config)
    except InvalidYaml as error:
        raise click.ClickException(str(error)) from error
    if check:
        click.echo("the configuration is right")
        return
    # Here, so that a mistake in the configuration is told at once.
    import asyncio
    from functools import partial

    from hostmesh.control.main import CannotStart, run
    from hostmesh.telemetry.logs import parse_levels, set_up

    try:
        set_up(settings.log.format, parse_levels(settings.log.level))
        asyncio.run(run(settings, partial(load, config)))
    except (InvalidYaml, CannotStart) as error:
        raise click.ClickException(str(error)) from error
