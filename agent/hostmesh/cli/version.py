"""`hostmesh version`: what is installed, component by component."""

from __future__ import annotations

import platform
import re
import ssl
from importlib.machinery import ExtensionFileLoader
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any

import click
from cryptography.hazmat.backends.openssl import backend

from hostmesh import __version__
from hostmesh.cli.output import output_option, structured

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@click.command()
@output_option
def version(output: str) -> None:
    """Print the version of hostmesh and of what it is made of."""
    found = facts()
    if not structured(output, found):
        click.echo(f"hostmesh {__version__} (Python {found['python']}, {found['openssl']})")


def facts() -> dict[str, Any]:
    """Every component with its version; OpenSSL twice, as Python and the bundled TLS engine each have one."""
    return {
        "hostmesh": __version__,
        "python": platform.python_version(),
        "compiled": _compiled(),
        "openssl": backend.openssl_version_text(),
        "systemOpenssl": ssl.OPENSSL_VERSION,
        "kernel": platform.release(),
        "components": dict(sorted(_components("hostmesh").items(), key=lambda pair: pair[0].lower())),
    }


def _compiled() -> bool:
    """Whether the byte path was compiled when this was built, or is interpreted."""
    spec = find_spec("hostmesh.transport.loop")
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)


def _components(root: str) -> dict[str, str]:
    """What a distribution needs, and what that needs, as far as it is installed; extras are not followed."""
    versions: dict[str, str] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform or Python
        if found.name in versions:
            continue
        versions[found.name] = found.version
        waiting += [
            match[0] for text in found.requires or () if "extra ==" not in text and (match := _NAME.match(text))
        ]
    versions.pop(root, None)
    return versions
