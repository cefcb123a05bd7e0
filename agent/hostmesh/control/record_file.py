"""FileRecords: the records of a single control plane, as a file of transactions (one JSON object a line).

A transaction is a line, written and synced as a whole: one that a crash has torn is the last one, was acknowledged to
nobody, and is cut off at the next start. A line that is wrong elsewhere is damage, and stops the start.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from hostmesh.control.records import ABSENT, Changed, Conflict, Record, RecordsBroken
from hostmesh.kernel.files import write_atomically

_COMPACT_ABOVE = 4096
"""Transactions; a file that is mostly history is written anew."""


class FileRecords:
    """Not for two processes at a time.

    Args:
        path: the file, made 0600.

    Raises:
        RecordsBroken: it is there, and not what was written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {}
        self._held: dict[str, Record] = {}
        self._followers: list[tuple[str, Changed]] = []
        self._version = 0
        self._lines = 0
        self._size = 0
        """Of the file as far as it is right: what a failed write has left behind that is cut off."""
        self._read()
        self._compact_at = self._next_compaction()

    @property
    def where(self) -> str:
        """The file."""
        return str(self._path)

    def get(self, key: str) -> Record | None:
        """As `Records.get`."""
        with self._lock:
            return self._held.get(key) or self._records.get(key)

    def fresh(self, key: str) -> Record | None:
        """As `get`: there is nobody else."""
        return self.get(key)

    def under(self, prefix: str) -> Mapping[str, Record]:
        """As `Records.under`."""
        with self._lock:
            everything = {**self._records, **self._held}
        return {key: everything[key] for key in sorted(everything) if key.startswith(prefix)}

    def commit(
        self, changes: Mapping[str, str | None], *, expect: Mapping[str, int] | None = None, durable: bool = True
    ) -> None:
        """As `Records.commit`."""
        with self._lock:
            for key, version in (expect or {}).items():
                known = self._records.get(key)
                if (known.version if known is not None else ABSENT) != version:
                    raise Conflict(key)
            if self._lines >= self._compact_at:
                self._compact()
            self._append(changes, durable=durable)
            self._version += 1
            for key, value in changes.items():
                self._set(key, None if value is None else Record(value, self._version))

    def follow(self, prefix: str, changed: Changed) -> None:
        """As `Records.follow`."""
        with self._lock:
            for key, record in self.under(prefix).items():
                changed(key, record)
            self._followers.append((prefix, changed))

    def hold(self, key: str, value: str) -> None:
        """As `Records.hold`: in memory only."""
        with self._lock:
            self._version += 1
            self._held[key] = record = Record(value, self._version)
            self._tell(key, record)

    def release(self, key: str) -> None:
        """As `Records.release`."""
        with self._lock:
            if self._held.pop(key, None) is not None:
                self._tell(key, None)

    def _set(self, key: str, record: Record | None) -> None:
        if record is not None:
            self._records[key] = record
        else:
            self._records.pop(key, None)
        self._tell(key, record)

    def _tell(self, key: str, record: Record | None) -> None:
        for prefix, changed in self._followers:
            if key.startswith(prefix):
                changed(key, record)

    def _append(self, changes: Mapping[str, str | None], *, durable: bool) -> None:
        line = _line(changes)
        fresh = self._size == 0
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, self._size)
            _write(descriptor, line, self._size)
            if durable:
                os.fsync(descriptor)
        except OSError as error:
            error.filename = str(self._path)
            raise
        finally:
            os.close(descriptor)
        if fresh:
            _sync_directory(self._path.parent)
        self._size += len(line)
        self._lines += 1

    def _compact(self) -> None:
        data = b"".join(_line({key: record.value}) for key, record in self._records.items())
        write_atomically(self._path, data)
        self._size, self._lines = len(data), len(self._records)
        self._compact_at = self._next_compaction()

    def _next_compaction(self) -> int:
        return _COMPACT_ABOVE + 2 * len(self._records)

    def _read(self) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise RecordsBroken(f"{self._path}: cannot be read ({error.strerror})") from error
        for number, line in enumerate(self._whole_lines(data), 1):
            try:
                changes = _parse(line)
            except (ValueError, TypeError) as error:
                raise RecordsBroken(
                    f"{self._path}:{number}: is damaged ({error}); restore the file from backup: it holds the join "
                    "tokens, host keys and revocations, and starting without would admit who is revoked"
                ) from error
            self._version = self._lines = number
            for key, value in changes.items():
                self._set(key, None if value is None else Record(value, number))

    def _whole_lines(self, data: bytes) -> Iterable[bytes]:
        whole, newline, _ = data.rpartition(b"\n")
        self._size = len(whole) + len(newline)
        return whole.split(b"\n") if newline else ()


def _line(changes: Mapping[str, str | None]) -> bytes:
    return json.dumps(dict(changes), ensure_ascii=True).encode() + b"\n"


def _parse(line: bytes) -> dict[str, str | None]:
    changes = json.loads(line)
    if not isinstance(changes, dict) or not all(value is None or isinstance(value, str) for value in changes.values()):
        raise TypeError("not a transaction")
    return changes


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
