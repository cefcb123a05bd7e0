"""Ledger: the certificates that were issued and may still live, so that revocation and rotation know them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hostmesh.kernel.files import write_atomically
from hostmesh.model.identity import Identity, InvalidIdentity

_COMPACT_ABOVE = 1024
"""Lines; a file that is mostly about the dead is written anew."""


class LedgerBroken(Exception):
    """The file cannot be read; the text names it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate. Times are seconds since the epoch; `issuer` is the signer's key identifier in hex."""

    serial: int
    identity: Identity
    node: str
    issuer: str
    issued_at: float
    not_after: float


class Ledger:
    """Appends to a file of JSON lines; a line that a power cut has torn is passed over.

    Args:
        path: the file, made 0600; its directory must exist.
        now: seconds since the epoch.

    Raises:
        LedgerBroken: it cannot be read.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._lines = 0
        self._compact_at = _COMPACT_ABOVE
        self._entries: dict[int, Entry] = {}
        self._by_identity: dict[Identity, dict[int, Entry]] = {}
        for entry in self._read():
            if entry.not_after > now():
                self._keep(entry)
        self._compact_at = _COMPACT_ABOVE + 2 * len(self._entries)

    def record(self, entry: Entry) -> None:
        """Write a certificate down before it is handed out.

        Raises:
            OSError: it could not be written, and must not be handed out.
        """
        if self._lines >= self._compact_at:
            self._compact()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, _line(entry))
        finally:
            os.close(descriptor)
        self._lines += 1
        self._keep(entry)

    def find(self, serial: int) -> Entry | None:
        """The living certificate with that serial number."""
        entry = self._entries.get(serial)
        return entry if entry is not None and entry.not_after > self._now() else None

    def of_identity(self, identity: Identity) -> list[Entry]:
        """All living certificates of an identity, oldest first."""
        return [entry for entry in self._by_identity.get(identity, {}).values() if entry.not_after > self._now()]

    def living(self) -> Iterator[Entry]:
        """All that have not expired, oldest first."""
        now = self._now()
        return (entry for entry in list(self._entries.values()) if entry.not_after > now)

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.serial] = entry
        self._by_identity.setdefault(entry.identity, {})[entry.serial] = entry

    def _compact(self) -> None:
        living = list(self.living())
        write_atomically(self._path, b"".join(map(_line, living)))
        self._lines = len(living)
        self._compact_at = _COMPACT_ABOVE + 2 * len(living)
        self._entries.clear()
        self._by_identity.clear()
        for entry in living:
            self._keep(entry)

    def _read(self) -> Iterator[Entry]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise LedgerBroken(f"{self._path}: cannot be read ({error.strerror})") from error
        self._lines = len(lines)
        for line in lines:
            entry = _parse(line)
            if entry is not None:
                yield entry


def _line(entry: Entry) -> bytes:
    value = asdict(entry) | {"serial": f"{entry.serial:x}", "identity": str(entry.identity)}
    return json.dumps(value).encode() + b"\n"


def _parse(line: bytes) -> Entry | None:
    try:
        value: dict[str, Any] = json.loads(line)
        return Entry(
            serial=int(value["serial"], 16),
            identity=Identity.parse(value["identity"]),
            node=value["node"],
            issuer=value["issuer"],
            issued_at=float(value["issued_at"]),
            not_after=float(value["not_after"]),
        )
    except (ValueError, KeyError, TypeError, InvalidIdentity):
        return None
