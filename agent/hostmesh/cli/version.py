"""`hostmesh version`: what is installed, component by component."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version as version_of

import click
from cryptography.hazmat.backends.openssl import backend

from hostmesh import __version__

_COMPONENTS = (
    "cryptography",
    "pyOpenSSL",
    "grpclib",
    "protobuf",
    "aiohttp",
    "pyroute2",
    "prometheus-client",
    "pydantic",
)


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def version(output: str) -> None:
    """Print the version of hostmesh and of what it is made of."""
    facts = {
        "hostmesh": __version__,
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
        "components": {name: version_of(name) for name in _COMPONENTS},
    }
    if output == "json":
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo(f"hostmesh {__version__} (Python {facts['python']}, {facts['openssl']})")
