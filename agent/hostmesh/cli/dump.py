"""Where a config dump comes from: the agent of this host, or a file that it or a ztunnel once wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hostmesh.cli.status import fetch

Json = dict[str, Any]
SECTIONS = ("workloads", "services", "policies", "certificates", "workloadState")

_Command = TypeVar("_Command", bound=Callable[..., Any])


class NotADump(click.ClickException):
    """The file holds something else; the message says what was expected."""


def load(file: Path | None, port: int) -> Json:
    """A dump, whatever wrote it.

    Raises:
        NotADump: the file cannot be read as one.
        AgentUnreachable: nobody answers.
    """
    if file is not None:
        return _checked(_read(file), file)
    return _checked(fetch(port, "/config_dump"), None)


def _read(file: Path) -> object:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        found: object = json.loads(text)
    except OSError as error:
        raise NotADump(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise NotADump(
            f"{file}: not JSON: {error}; save one with `hostmesh all -o json` or GET /config_dump"
        ) from error
    return found


def _checked(found: object, file: Path | None) -> Json:
    if not isinstance(found, dict) or not any(section in found for section in SECTIONS):
        raise NotADump(f"{file or 'the agent'}: no config dump: it has none of {', '.join(SECTIONS)}")
    # Some versions of ztunnel write maps by uid, others lists.
    listed = {name: _values(found.get(name), name, file) for name in SECTIONS if name != "workloadState"}
    state = found.get("workloadState") or {}
    if not isinstance(state, dict):
        raise NotADump(f"{file or 'the agent'}: workloadState: must be an object")
    return {**found, **listed, "workloadState": state}


def _values(found: object, name: str, file: Path | None) -> list[Json]:
    values = list(found.values()) if isinstance(found, dict) else found or []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise NotADump(f"{file or 'the agent'}: {name}: must be a list of objects")
    return values


def source_options(command: _Command) -> _Command:
    """`--file` and `--port`, and the names they have in the function: `file`, `port`."""
    file = click.option(
        "-f",
        "--file",
        type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
        help="A saved config dump, of hostmesh or ztunnel; - for stdin.",
    )
    port = click.option(
        "--port", "--proxy-admin-port", default=15000, show_default=True, help="The agent's admin port."
    )
    return file(port(command))
