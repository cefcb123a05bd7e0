"""Revocations: which certificates and identities are taken back, kept until they cannot be used anyway (RFC 5280)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from cryptography import x509

from hostmesh.control.ledger import Entry
from hostmesh.control.records import ABSENT, Conflict, Record, Records, RecordsBroken
from hostmesh.model.identity import Identity, InvalidIdentity

UNSPECIFIED = "unspecified"
HOLD = "certificateHold"
"""The one reason that can be taken back for a serial number (RFC 5280 §5.3.1)."""

REASONS = tuple(flag.value for flag in x509.ReasonFlags if flag is not x509.ReasonFlags.remove_from_crl)

PREFIX = "revoked/"
_IDENTITY, _SERIAL, _NUMBER = f"{PREFIX}identity/", f"{PREFIX}serial/", f"{PREFIX}number"
_FORGET_AT_ONCE = 50
_AT_ONCE = 64
"""etcd limits what a transaction may do; what is revoked first is the identity, which stops everything."""

UNKNOWN_LIFETIME = 90 * 86400.0
"""How long a serial number stays revoked whose certificate is in no ledger."""


@dataclass(frozen=True, slots=True)
class RevokedSerial:
    """One certificate; `issuer` is its signer's key identifier in hex, empty if it is in no ledger."""

    serial: int
    issuer: str
    identity: str
    reason: str
    revoked_at: float
    not_after: float


@dataclass(frozen=True, slots=True)
class RevokedIdentity:
    """All certificates of an identity, those of the past and those of the future."""

    identity: Identity
    reason: str
    revoked_at: float


class Revocations:
    """The memory of what is taken back, of all control planes together. A change is kept when its call returns.

    Args:
        records: where they are kept, under `revoked/`.
        now: seconds since the epoch.

    Raises:
        RecordsBroken: there is something that was not written by this class.
    """

    def __init__(self, records: Records, now: Callable[[], float] = time.time) -> None:
        self._records = records
        self._now = now
        self._serials: dict[int, RevokedSerial] = {}
        self._identities: dict[Identity, RevokedIdentity] = {}
        self.number = 0
        """Grows with every change; the CRL number."""
        records.follow(PREFIX, self._changed)

    @property
    def serials(self) -> tuple[RevokedSerial, ...]:
        """Those whose certificate has not expired, oldest first."""
        now = self._now()
        found = [one for one in list(self._serials.values()) if one.not_after > now]
        return tuple(sorted(found, key=lambda one: (one.revoked_at, one.serial)))

    @property
    def identities(self) -> tuple[RevokedIdentity, ...]:
        """Oldest first."""
        return tuple(sorted(self._identities.values(), key=lambda one: one.revoked_at))

    def has_identity(self, identity: Identity) -> bool:
        """Whether nothing may be issued for it."""
        return identity in self._identities

    def revokes(self, serial: int, identity: Identity) -> bool:
        """Whether a certificate is not worth anything any more."""
        return serial in self._serials or identity in self._identities

    def revoke_identity(self, identity: Identity, reason: str, certificates: Iterable[Entry]) -> None:
        """Take back an identity with the certificates that it has.

        Raises:
            OSError: not written; nothing is revoked.
        """
        now = self._now()
        serials = {entry.serial: _serial(entry, reason, now) for entry in certificates}
        new = [
            (_serial_key(serial), _serial_text(one)) for serial, one in serials.items() if serial not in self._serials
        ]
        first = {_identity_key(identity): _identity_text(RevokedIdentity(identity, reason, now))}
        self._commit({**first, **dict(new[:_AT_ONCE])})
        for start in range(_AT_ONCE, len(new), _AT_ONCE):
            self._commit(dict(new[start : start + _AT_ONCE]))

    def revoke_serial(self, serial: int, reason: str, certificate: Entry | None) -> None:
        """Take back one certificate.

        Args:
            serial: its number.
            reason: one of `REASONS`.
            certificate: what the ledger knows of it.

        Raises:
            OSError: not written; nothing is revoked.
        """
        now = self._now()
        if certificate is not None:
            revoked = _serial(certificate, reason, now)
        else:
            revoked = RevokedSerial(serial, "", "", reason, now, now + UNKNOWN_LIFETIME)
        self._commit({_serial_key(serial): _serial_text(revoked)})

    def unrevoke_identity(self, identity: Identity) -> bool:
        """Issue for it again; its old certificates stay revoked unless they were on hold. False: it was not revoked.

        Raises:
            OSError: not written; it stays revoked.
        """
        if identity not in self._identities:
            return False
        held = [one.serial for one in self.serials if one.identity == str(identity) and one.reason == HOLD]
        self._commit({_identity_key(identity): None, **{_serial_key(serial): None for serial in held}})
        return True

    def unrevoke_serial(self, serial: int) -> bool:
        """Take back a hold. False: it is not on hold.

        Raises:
            OSError: not written; it stays revoked.
        """
        one = self._serials.get(serial)
        if one is None or one.reason != HOLD:
            return False
        self._commit({_serial_key(serial): None})
        return True

    def find(self, serial: int) -> RevokedSerial | None:
        """The revocation of a certificate."""
        return self._serials.get(serial)

    def _commit(self, changes: dict[str, str | None]) -> None:
        """With the next number, and without some of those that have expired."""
        now = self._now()
        expired = [one.serial for one in list(self._serials.values()) if one.not_after <= now][:_FORGET_AT_ONCE]
        while True:
            known = self._records.fresh(_NUMBER)
            number = str(int(known.value) + 1 if known is not None else 1)
            everything = {**{_serial_key(serial): None for serial in expired}, **changes, _NUMBER: number}
            with suppress(Conflict):
                version = known.version if known is not None else ABSENT
                self._records.commit(everything, expect={_NUMBER: version})
                return

    def _changed(self, key: str, record: Record | None) -> None:
        try:
            self._take(key, record)
        except (ValueError, KeyError, TypeError, InvalidIdentity) as error:
            raise RecordsBroken(
                f"{self._records.where}: {key} is damaged ({error}); restore it from backup: without it somebody would "
                "be admitted who is revoked"
            ) from error

    def _take(self, key: str, record: Record | None) -> None:
        value: Any = json.loads(record.value) if record is not None else None
        if key == _NUMBER:
            self.number = int(value) if value is not None else 0
        elif key.startswith(_IDENTITY):
            identity = Identity.parse(key.removeprefix(_IDENTITY))
            if value is not None:
                self._identities[identity] = RevokedIdentity(**value | {"identity": identity})
            else:
                self._identities.pop(identity, None)
        else:
            serial = int(key.removeprefix(_SERIAL), 16)
            if value is not None:
                self._serials[serial] = RevokedSerial(**value | {"serial": serial})
            else:
                self._serials.pop(serial, None)


def _serial_key(serial: int) -> str:
    return f"{_SERIAL}{serial:x}"


def _identity_key(identity: Identity) -> str:
    return f"{_IDENTITY}{identity}"


def _serial_text(one: RevokedSerial) -> str:
    return json.dumps(asdict(one) | {"serial": f"{one.serial:x}"})


def _identity_text(one: RevokedIdentity) -> str:
    return json.dumps(asdict(one) | {"identity": str(one.identity)})


def _serial(entry: Entry, reason: str, now: float) -> RevokedSerial:
    return RevokedSerial(entry.serial, entry.issuer, str(entry.identity), reason, now, entry.not_after)
