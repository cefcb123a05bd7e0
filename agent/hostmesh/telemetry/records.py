"""Log records as values, and their two renderings (ztunnel's plain, tab separated one and JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

FieldValue = str | int | float | bool

BARE_FIELDS = frozenset({"src.addr", "dst.addr", "dst.hbone_addr", "address", "peer"})
"""Addresses stand without quotes in the plain rendering; every other string is quoted and escaped."""


Fields = tuple[tuple[str, FieldValue], ...]


class Record(Protocol):
    """One event: `level` is lower case, `target` the component, `fields` keep their order."""

    @property
    def level(self) -> str:
        """How bad it is."""

    @property
    def target(self) -> str:
        """Whose it is."""

    @property
    def message(self) -> str:
        """What happened."""

    @property
    def fields(self) -> Fields:
        """To whom."""

    def text(self) -> str:
        """Message and fields as the plain rendering has them."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A `Record` that is nothing else."""

    level: str
    target: str
    message: str
    fields: Fields = ()

    def text(self) -> str:
        """See `Record`."""
        return f"{self.message}\t{render_fields(self.fields)}" if self.fields else self.message


def render_plain(record: Record, now: float) -> str:
    """`<time> TAB <level> TAB <target> TAB <message> TAB k=v k=v`.

    Args:
        record: the event.
        now: seconds since the epoch.
    """
    return f"{timestamp(now)}\t{record.level}\t{record.target}\t{record.text()}"


def render_fields(fields: Iterable[tuple[str, FieldValue]]) -> str:
    """`k=v k=v`."""
    return " ".join([f"{key}={_plain(key, value)}" for key, value in fields])


def render_json(record: Record, now: float) -> str:
    """One JSON object on one line: `level`, `time`, `scope`, `message`, then the fields."""
    head: dict[str, FieldValue] = {
        "level": record.level,
        "time": timestamp(now),
        "scope": record.target,
        "message": record.message,
    }
    return json.dumps(head | dict(record.fields), ensure_ascii=False)


def _plain(key: str, value: FieldValue) -> str:
    if isinstance(value, str) and key not in BARE_FIELDS:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    # A bare value must not be able to end its line or start another field.
    return "".join(str(value).split()) if isinstance(value, str) else str(value)


@lru_cache(maxsize=1)
def timestamp(now: float) -> str:
    """UTC in microseconds. Records that are written together have one time."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
