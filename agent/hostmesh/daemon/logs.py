"""Where log records end: the journal with structured fields under systemd, lines on stderr elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Literal

from hostmesh.kernel import systemd
from hostmesh.telemetry.logs import ROOT, RecordHandler, join_levels, parse_levels, replace_levels
from hostmesh.telemetry.records import FieldValue, LogRecord, Record, render_json, render_plain, timestamp
from hostmesh.wire.proto import worker_pb2 as pb

_PRIORITIES = {"error": 3, "warn": 4, "info": 6, "debug": 7, "trace": 7}

_SHOWN = 512
"""Characters of what cannot be read."""


class LogSink:
    """Writes main's own records and those of the workers, at the level in force."""

    def __init__(self, style: Literal["plain", "json"], level: str) -> None:
        self._render = render_json if style == "json" else render_plain
        self._journal = systemd.under_systemd()
        self.plain_lines = style == "plain" and not self._journal
        self._default = level
        self.level = join_levels("", level)
        root = logging.getLogger()
        root.handlers[:] = [RecordHandler(self.write)]
        logging.getLogger(ROOT).setLevel(logging.INFO)
        replace_levels(parse_levels(level))

    def change_level(self, level: str, *, reset: bool) -> None:
        """Add to main's filter, after going back to the configured one if `reset`; workers are told by messages.

        Raises:
            InvalidLevels: no such level; nothing has changed.
        """
        self.level = join_levels(self._default if reset else self.level, level)
        replace_levels(parse_levels(self.level))

    def write(self, record: LogRecord) -> None:
        """One record."""
        self._write([record])

    def write_batch(self, batch: pb.LogBatch) -> None:
        """What a worker logged: in lines if that is all that is written."""
        if self.plain_lines:
            sys.stderr.write(_lines(batch.records, time.time()))
        else:
            self._write(list(_records(batch.records)))

    def _write(self, records: Sequence[Record]) -> None:
        now = time.time()
        if not self._journal:
            # One write for all: a busy proxy's access log must not cost main a system call for each connection.
            sys.stderr.write("".join([f"{self._render(record, now)}\n" for record in records]))
            return
        for record in records:
            fields = {
                "target": record.target,
                **{key: str(value) for key, value in record.fields},
                **mesh_fields(record),
            }
            systemd.log(_without_time(self._render(record, now)), _PRIORITIES.get(record.level, 6), fields)


def mesh_fields(record: Record) -> dict[str, str]:
    """What an operator filters the journal by: `journalctl MESH_WORKLOAD=prod/web MESH_REASON=POLICY_DENIED`.

    The workload is this host's own end of a connection, the peer is the other one.
    """
    known = {key: str(value) for key, value in record.fields}
    own, other = ("src", "dst") if known.get("direction") == "outbound" else ("dst", "src")
    found = {
        "MESH_WORKLOAD": _qualified(known, own),
        "MESH_PEER": _qualified(known, other),
        "MESH_IDENTITY": known.get(f"{own}.identity", ""),
        "MESH_PEER_IDENTITY": known.get(f"{other}.identity", ""),
        "MESH_DIRECTION": known.get("direction", ""),
        "MESH_REASON": known.get("reason", ""),
    }
    return {key: value for key, value in found.items() if value}


def _qualified(known: dict[str, str], end: str) -> str:
    name, namespace = known.get(f"{end}.workload", ""), known.get(f"{end}.namespace", "")
    return f"{namespace}/{name}" if namespace and name else name


def _lines(encoded: bytes, now: float) -> str:
    """Whatever else a worker takes for the end of a line is none."""
    began = timestamp(now)
    found = encoded.decode(errors="backslashreplace").split("\n")
    return "".join([f"{began}\t{' '.join(line.splitlines())}\n" for line in found])


def _records(encoded: bytes) -> Iterator[LogRecord]:
    """What a worker sent, which is not trusted to send only what it should: nonsense is shown, and ends nothing."""
    try:
        found = json.loads(encoded)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        yield _unreadable(encoded)
        return
    yield from map(_record, found)


def _record(one: list[object]) -> LogRecord:
    try:
        level, target, message, fields = one
        return LogRecord(str(level), str(target), str(message), tuple(map(_field, fields)))  # type: ignore[call-overload]
    except (ValueError, TypeError):
        return _unreadable(one)


def _field(pair: tuple[object, object]) -> tuple[str, FieldValue]:
    key, value = pair
    return str(key), value if isinstance(value, (str, int, float)) else str(value)


def _unreadable(what: object) -> LogRecord:
    return LogRecord("error", "workers", "a worker's record cannot be read", (("unreadable", str(what)[:_SHOWN]),))


def _without_time(line: str) -> str:
    """The journal stamps entries itself; JSON lines keep theirs."""
    return line if line.startswith("{") else line.split("\t", 2)[-1].replace("\t", " ")
