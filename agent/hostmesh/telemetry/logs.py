"""Structured logging over the standard library: levels per target, fields beside the message (as RUST_LOG)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Literal, TextIO

from hostmesh.telemetry.records import FieldValue, LogRecord, render_json, render_plain

ROOT = "hostmesh"

_LEVELS: Mapping[str, int] = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 10,
}
_NAMES = {5: "trace", 10: "debug", 20: "info", 30: "warn", 40: "error", 50: "error"}


class InvalidLevels(ValueError):
    """The text is not a list of `level` and `target=level`."""


def parse_levels(text: str) -> dict[str, int]:
    """Read `info,access=off,rbac=debug` into levels by target; `""` is the key of the default.

    Raises:
        InvalidLevels: an unknown level, with the words that are known.
    """
    return {target: _LEVELS[word] for target, word in _words(text)}


def _words(text: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        target, separator, written = part.rpartition("=")
        word = written.strip().lower()
        if word not in _LEVELS or (separator and not target.strip()):
            raise InvalidLevels(f"{part!r} is not a log level; use [target=]{'|'.join(_LEVELS)}")
        yield target.strip().replace("::", ".").removeprefix(f"{ROOT}."), word


def set_levels(levels: Mapping[str, int]) -> None:
    """Apply parsed levels to the running process; targets that are not named keep theirs."""
    for target, level in levels.items():
        logging.getLogger(f"{ROOT}.{target}" if target else ROOT).setLevel(level)
    enabled.cache_clear()


def replace_levels(levels: Mapping[str, int]) -> None:
    """Apply parsed levels, and let targets that are not named go by the default again; `info` if there is none."""
    for name in [name for name in logging.Logger.manager.loggerDict if name.startswith(f"{ROOT}.")]:
        logging.getLogger(name).setLevel(logging.NOTSET)
    set_levels({"": logging.INFO, **levels})


def join_levels(text: str, more: str) -> str:
    """A filter with another one added to it; what both say is said by the second.

    Raises:
        InvalidLevels: one of them is not a filter.
    """
    words = {target: word for part in (text, more) for target, word in _words(part)}
    default = words.pop("", "info")
    return ",".join([*(f"{target}={word}" for target, word in sorted(words.items())), default])


@lru_cache(maxsize=256)
def enabled(target: str, level: str) -> bool:
    """Whether records of this target and level are wanted (for records that do not pass through a logger).

    Asked for every connection, so the answer is kept until the levels change.
    """
    return logging.getLogger(f"{ROOT}.{target}").isEnabledFor(_LEVELS[level])


def to_record(record: logging.LogRecord) -> LogRecord:
    """A standard record as a value; `extra={"fields": {...}}` becomes its fields, a traceback the field `error`."""
    fields: dict[str, FieldValue] = dict(getattr(record, "fields", {}))
    if record.exc_info is not None and record.exc_info[1] is not None:
        fields.setdefault("error", repr(record.exc_info[1]))
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    level = _NAMES.get(record.levelno, "info")
    return LogRecord(level, record.name.removeprefix(f"{ROOT}."), record.getMessage(), tuple(fields.items()))


class StructuredFormatter(logging.Formatter):
    """Renders plain or JSON."""

    def __init__(self, style: Literal["plain", "json"]) -> None:
        super().__init__()
        self._render = render_json if style == "json" else render_plain

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return self._render(to_record(record), record.created)


class RecordHandler(logging.Handler):
    """Hands records as values to somebody else: a worker sends them to main, which renders them."""

    def __init__(self, send: Callable[[LogRecord], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Called by the logging module."""
        self._send(to_record(record))


def set_up(style: Literal["plain", "json"], levels: Mapping[str, int], stream: TextIO | None = None) -> None:
    """For a program with a terminal or a journal: one handler on the root logger, to stdout by default."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stdout)
    handler.setFormatter(StructuredFormatter(style))
    _install(handler, levels)


def set_up_forwarding(send: Callable[[LogRecord], None], levels: Mapping[str, int]) -> None:
    """For a worker: every record goes to `send`."""
    _install(RecordHandler(send), levels)


def _install(handler: logging.Handler, levels: Mapping[str, int]) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.getLogger(ROOT).setLevel(logging.INFO)
    set_levels(levels)
