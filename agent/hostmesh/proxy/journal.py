"""Journal: the log records of one turn of the loop, handed on together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hostmesh.telemetry.logs import enabled
from hostmesh.telemetry.records import Record
from hostmesh.transport.loop import Loop


class Journal:
    """Collects records until the turn ends, so that a busy turn costs one message and not one per connection."""

    __slots__ = ("_loop", "_records", "_send")

    def __init__(self, loop: Loop, send: Callable[[Sequence[Record]], None]) -> None:
        self._loop = loop
        self._send = send
        self._records: list[Record] = []

    def add(self, record: Record) -> None:
        """Log at the end of this turn, if the target's level wants it."""
        if not enabled(record.target, record.level):
            return
        if not self._records:
            self._loop.at_turn_end(self._flush)
        self._records.append(record)

    def _flush(self) -> None:
        records, self._records = self._records, []
        self._send(records)
