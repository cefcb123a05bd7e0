"""hostmesh: the ambient mesh for bare metal and VMs."""

import sys
from pathlib import Path

_RELEASE = "0.1.0"


def _version(prefix: Path) -> str:
    """With the build, where this is an installation of the roles or the package: its folder is named by both."""
    name = prefix.resolve().name
    return name if name.startswith(f"{_RELEASE}+") else _RELEASE


__version__ = _version(Path(sys.prefix))
