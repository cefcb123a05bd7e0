"""Read a line of the access log, plain or JSON, ours or a ztunnel's, as fields."""

from __future__ import annotations

import json
import re

from hostmesh.telemetry.reasons import Reason, reason_of

_FIELD = re.compile(r"""([A-Za-z_][A-Za-z0-9_.]*)=("(?:[^"\\]|\\.)*"|\S+)""")


class NoLogLine(ValueError):
    """There are no fields in the text."""


def parse_line(text: str) -> dict[str, str]:
    """The fields of a line; what stands before them (time, level, target) is passed over.

    Raises:
        NoLogLine: it has none.
    """
    start = text.find("{")
    if start >= 0 and text.rstrip().endswith("}"):
        try:
            found = json.loads(text[start:])
        except ValueError as error:
            raise NoLogLine(f"not a line of the access log: {error}") from error
        return {str(key): str(value) for key, value in found.items()}
    fields = {key: _unquoted(value) for key, value in _FIELD.findall(text)}
    if not fields:
        raise NoLogLine("not a line of the access log: it has no fields such as src.addr=10.0.0.1:1234")
    return fields


def reason_of_line(fields: dict[str, str]) -> Reason | None:
    """The code of a line, read from its words where an older agent or a ztunnel wrote it; None: nothing failed."""
    if fields.get("reason") in Reason.__members__:
        return Reason[fields["reason"]]
    error = fields.get("error", "")
    return reason_of(error, fields.get("response_flags", "-"), fields.get("dst.addr", "")) if error else None


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value[1:-1]
