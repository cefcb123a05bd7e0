"""Durations as users write them: `24h`, `90s`, `1h30m`, `500ms`; a bare number is seconds."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])?")


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
    if not stripped or position != len(stripped):
        raise ValueError(f"{text!r} is not a duration; write it like 24h, 90s or 1h30m")
    return total
