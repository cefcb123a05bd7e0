"""Ledger: the certificates that were issued and may still live, so that revocation and rotation know them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from hostmesh.control.records import Record, Records
from hostmesh.model.identity import Identity, InvalidIdentity

_PREFIX = "issued/"
_LOOK_AFTER = 256
"""Certificates between two looks for those that have expired."""
_FORGET_AT_ONCE = 100
"""Of the expired; etcd limits what a transaction may do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate. Times are seconds since the epoch; `issuer` is the signer's key identifier in hex.

    `identity` is whom it was issued for; that of a whole host names others, `named`.
    """

    serial: int
    identity: Identity
    node: str
    issuer: str
    issued_at: float
    not_after: float
    named: tuple[Identity, ...] = ()


class Ledger:
    """What the control planes of the mesh have issued; one that cannot be read is passed over.

    Args:
        records: where it is kept, under `issued/`.
        now: seconds since the epoch.
    """

    def __init__(self, records: Records, now: Callable[[], float] = time.time) -> None:
        self._records = records
        self._now = now
        self._since_look = 0
        self._expired: list[str] = []
        self._entries: dict[int, Entry] = {}
        self._by_identity: dict[Identity, dict[int, Entry]] = {}
        records.follow(_PREFIX, self._changed)

    def record(self, entry: Entry) -> None:
        """Write a certificate down before it is handed out.

        Raises:
            OSError: it could not be written, and must not be handed out.
        """
        self._since_look += 1
        if self._since_look >= _LOOK_AFTER:
            self._since_look, now = 0, self._now()
            self._expired = [_key(one.serial) for one in list(self._entries.values()) if one.not_after <= now]
        gone, left = self._expired[:_FORGET_AT_ONCE], self._expired[_FORGET_AT_ONCE:]
        self._records.commit({_key(entry.serial): _text(entry), **dict.fromkeys(gone)}, durable=False)
        self._expired = left

    def find(self, serial: int) -> Entry | None:
        """The living certificate with that serial number."""
        entry = self._entries.get(serial)
        return entry if entry is not None and entry.not_after > self._now() else None

    def of_identity(self, identity: Identity) -> list[Entry]:
        """All living certificates of an identity, oldest first, with those that name it among others."""
        now = self._now()
        found = [entry for entry in list(self._by_identity.get(identity, {}).values()) if entry.not_after > now]
        return sorted(found, key=lambda entry: entry.issued_at)

    def living(self) -> Iterator[Entry]:
        """All that have not expired, oldest first."""
        now = self._now()
        found = [entry for entry in list(self._entries.values()) if entry.not_after > now]
        return iter(sorted(found, key=lambda entry: entry.issued_at))

    def _changed(self, key: str, record: Record | None) -> None:
        entry = _parse(record.value) if record is not None else self._entries.get(_serial(key))
        if entry is None:
            return
        if record is not None:
            self._entries[entry.serial] = entry
        else:
            self._entries.pop(entry.serial, None)
        for identity in (entry.identity, *entry.named):
            of_identity = self._by_identity.setdefault(identity, {})
            if record is not None:
                of_identity[entry.serial] = entry
                continue
            of_identity.pop(entry.serial, None)
            if not of_identity:
                self._by_identity.pop(identity, None)


def _key(serial: int) -> str:
    return f"{_PREFIX}{serial:x}"


def _serial(key: str) -> int:
    try:
        return int(key.removeprefix(_PREFIX), 16)
    except ValueError:
        return 0


def _text(entry: Entry) -> str:
    said = asdict(entry) | {"serial": f"{entry.serial:x}", "identity": str(entry.identity)}
    del said["named"]
    if entry.named:
        said["named"] = [str(identity) for identity in entry.named]
    return json.dumps(said)


def _parse(line: str) -> Entry | None:
    try:
        value: dict[str, Any] = json.loads(line)
        return Entry(
            serial=int(value["serial"], 16),
            identity=Identity.parse(value["identity"]),
            node=value["node"],
            issuer=value["issuer"],
            issued_at=float(value["issued_at"]),
            not_after=float(value["not_after"]),
            named=tuple(Identity.parse(text) for text in value.get("named", ())),
        )
    except (ValueError, KeyError, TypeError, InvalidIdentity):
        return None
