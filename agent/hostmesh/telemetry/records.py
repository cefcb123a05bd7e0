"""Log records as values, and their two renderings (ztunnel's plain, tab separated one and JSON)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

FieldValue = str | int | float | bool

BARE_FIELDS = frozenset({"src.addr", "dst.addr", "dst.hbone_addr", "address", "peer"})
"""Addresses stand without quotes in the plain rendering; every other string is quoted and escaped."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One event: `level` is lower case, `target` the component, `fields` keep their order."""

    level: str
    target: str
    message: str
    fields: tuple[tuple[str, FieldValue], ...] = ()


_REMEMBERED = 256
"""Characters of a string whose quoted form is kept: names repeat with every connection."""

_quote = json.JSONEncoder(ensure_ascii=False).encode
_quoted = lru_cache(maxsize=4096)(_quote)


def render_plain(record: LogRecord, now: float) -> str:
    """`<time> TAB <level> TAB <target> TAB <message> TAB k=v k=v`.

    Args:
        record: the event.
        now: seconds since the epoch.
    """
    head = f"{_timestamp(now)}\t{record.level}\t{record.target}\t{record.message}"
    if not record.fields:
        return head
    return head + "\t" + " ".join(f"{key}={_plain(key, value)}" for key, value in record.fields)


def render_json(record: LogRecord, now: float) -> str:
    """One JSON object on one line: `level`, `time`, `scope`, `message`, then the fields."""
    head: dict[str, FieldValue] = {
        "level": record.level,
        "time": _timestamp(now),
        "scope": record.target,
        "message": record.message,
    }
    return json.dumps(head | dict(record.fields), ensure_ascii=False)


def _plain(key: str, value: FieldValue) -> str:
    if isinstance(value, str) and key not in BARE_FIELDS:
        return _quoted(value) if len(value) <= _REMEMBERED else _quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    # A bare value must not be able to end its line or start another field.
    return "".join(str(value).split()) if isinstance(value, str) else str(value)


@lru_cache(maxsize=1)
def _timestamp(now: float) -> str:
    """Records that are written together have one time."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
