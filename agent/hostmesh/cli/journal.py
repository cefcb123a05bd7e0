"""Read the access log of this host's agent from the journal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from hostmesh.admin.heard import Heard
from hostmesh.cli.access_line import NoLogLine, parse_line, reason_of_line

_WINDOW = "-15min"
_MAX_LINES = 1000


def inbound_lines() -> tuple[Heard, ...]:
    """What was logged of inbound connections in the last minutes, the newest first; nothing if it may not be read."""
    command = ["journalctl", "--unit=hostmesh-agent.service", "MESH_DIRECTION=inbound", "--output=json", "--reverse"]
    command += ["--output-fields=MESSAGE", "--no-pager", f"--since={_WINDOW}", f"--lines={_MAX_LINES}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)  # noqa: S603 - no input
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(_heard(done.stdout))


def _heard(text: str) -> Iterator[Heard]:
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            fields = parse_line(str(entry["MESSAGE"]))
            at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError, NoLogLine):
            continue
        yield Heard(at, fields, reason_of_line(fields))
