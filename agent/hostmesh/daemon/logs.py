"""Where log records end: the journal with structured fields under systemd, lines on stderr elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from typing import Literal

from hostmesh.kernel import systemd
from hostmesh.telemetry.logs import ROOT, RecordHandler, join_levels, parse_levels, replace_levels
from hostmesh.telemetry.records import LogRecord, render_json, render_plain
from hostmesh.wire.proto import worker_pb2 as pb

_PRIORITIES = {"error": 3, "warn": 4, "info": 6, "debug": 7, "trace": 7}


class LogSink:
    """Writes main's own records and those of the workers, at the level in force."""

    def __init__(self, style: Literal["plain", "json"], level: str) -> None:
        self._render = render_json if style == "json" else render_plain
        self._journal = systemd.under_systemd()
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
        line = self._render(record, time.time())
        if self._journal:
            fields = {
                "target": record.target,
                **{key: str(value) for key, value in record.fields},
                **mesh_fields(record),
            }
            systemd.log(_without_time(line), _PRIORITIES.get(record.level, 6), fields)
        else:
            sys.stderr.write(line + "\n")

    def write_batch(self, batch: pb.LogBatch) -> None:
        """What a worker logged."""
        for message in batch.records:
            try:
                fields = tuple(_fields(message.fields))
            except (ValueError, TypeError):
                fields = (("unreadable", message.fields),)
            self.write(LogRecord(message.level, message.target, message.message, fields))


def mesh_fields(record: LogRecord) -> dict[str, str]:
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


def _fields(encoded: str) -> Iterable[tuple[str, str | int | float | bool]]:
    """The pairs of a worker's record; a worker is not trusted to send only what it should."""
    for key, value in json.loads(encoded or "[]"):
        yield str(key), value if isinstance(value, str | int | float | bool) else str(value)


def _without_time(line: str) -> str:
    """The journal stamps entries itself; JSON lines keep theirs."""
    return line if line.startswith("{") else line.split("\t", 2)[-1].replace("\t", " ")
