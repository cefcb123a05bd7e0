"""`-o`: every command prints a table (or lines) for people, or the same as JSON or YAML for programs."""

from __future__ import annotations

import json
from typing import Any

import click

_PROGRAMS = ("json", "yaml")


output_option = click.option(
    "-o", "--output", type=click.Choice(["table", *_PROGRAMS]), default="table", show_default=True, help="How to print."
)
wide_output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", *_PROGRAMS]),
    default="table",
    show_default=True,
    help="How to print; wide has more columns.",
)


def structured(output: str, value: Any) -> bool:  # noqa: ANN401 - anything that JSON can say
    """Print it if it is wanted for a program; False: a person reads it, and nothing was printed."""
    if output == "json":
        click.echo(json.dumps(value, indent=2))
    elif output == "yaml":
        import yaml  # most calls do not need it

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    return output in _PROGRAMS
