"""Durations as users write them: `24h`, `90s`, `1h30m`, `1h + 5m`, `500ms`; a bare number is seconds."""

from __future__ import annotations

import re

_DAY = 86400.0
_SHORT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS = {**_SHORT, "d": _DAY, "w": 7 * _DAY, "mon": 30 * _DAY, "y": 365 * _DAY}
_PART = re.compile(r"\+?(\d+(?:\.\d+)?)(mon|ns|us|µs|ms|[smhdwy])?")


def parse_duration(text: str) -> float:
    """Seconds.

    Raises:
        ValueError: not a duration.
    """
    stripped = text.replace(" ", "")
    position, total = 0, 0.0
    while position < len(stripped):
        part = _PART.match(stripped, position)
        if part is None:
            break
        total += float(part[1]) * _UNITS[part[2] or "s"]
        position = part.end()
    if not stripped or stripped.startswith("+") or position != len(stripped):
        raise ValueError(f"{text!r} is not a duration; write it like 24h, 90s or 1h30m")
    return total
