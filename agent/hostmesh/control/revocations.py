"""Revocations: which certificates and identities are taken back, kept until they cannot be used anyway (RFC 5280)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from hostmesh.control.ledger import Entry
from hostmesh.kernel.files import write_atomically
from hostmesh.model.identity import Identity, InvalidIdentity

UNSPECIFIED = "unspecified"
HOLD = "certificateHold"
"""The one reason that can be taken back for a serial number (RFC 5280 §5.3.1)."""

REASONS = tuple(flag.value for flag in x509.ReasonFlags if flag is not x509.ReasonFlags.remove_from_crl)

UNKNOWN_LIFETIME = 90 * 86400.0
"""How long a serial number stays revoked whose certificate is in no ledger."""


class RevocationsBroken(Exception):
    """The file cannot be used; the text names it and the next step."""


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
    """The authority's memory of what it has taken back. Every change is on disk when its call returns.

    Args:
        path: a JSON file, 0600.
        now: seconds since the epoch.

    Raises:
        RevocationsBroken: it is there but not what was written.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._serials: dict[int, RevokedSerial] = {}
        self._identities: dict[Identity, RevokedIdentity] = {}
        self.number = 0
        """Grows with every change; the CRL number."""
        self._load()

    @property
    def serials(self) -> tuple[RevokedSerial, ...]:
        """Those whose certificate has not expired, oldest first."""
        now = self._now()
        return tuple(one for one in self._serials.values() if one.not_after > now)

    @property
    def identities(self) -> tuple[RevokedIdentity, ...]:
        """Oldest first."""
        return tuple(self._identities.values())

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
        revoked = RevokedIdentity(identity, reason, now)
        self._commit(serials | self._serials, self._identities | {identity: revoked})

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
        self._commit(self._serials | {serial: revoked}, self._identities)

    def unrevoke_identity(self, identity: Identity) -> bool:
        """Issue for it again; its old certificates stay revoked unless they were on hold. False: it was not revoked.

        Raises:
            OSError: not written; it stays revoked.
        """
        if identity not in self._identities:
            return False
        held = {one.serial for one in self._serials.values() if one.identity == str(identity) and one.reason == HOLD}
        serials = {serial: one for serial, one in self._serials.items() if serial not in held}
        self._commit(serials, {key: value for key, value in self._identities.items() if key != identity})
        return True

    def unrevoke_serial(self, serial: int) -> bool:
        """Take back a hold. False: it is not on hold.

        Raises:
            OSError: not written; it stays revoked.
        """
        one = self._serials.get(serial)
        if one is None or one.reason != HOLD:
            return False
        self._commit({key: value for key, value in self._serials.items() if key != serial}, self._identities)
        return True

    def find(self, serial: int) -> RevokedSerial | None:
        """The revocation of a certificate."""
        return self._serials.get(serial)

    def _commit(self, serials: dict[int, RevokedSerial], identities: dict[Identity, RevokedIdentity]) -> None:
        now = self._now()
        serials = {serial: one for serial, one in serials.items() if one.not_after > now}
        value = {
            "number": self.number + 1,
            "serials": [asdict(one) | {"serial": f"{one.serial:x}"} for one in serials.values()],
            "identities": [asdict(one) | {"identity": str(one.identity)} for one in identities.values()],
        }
        write_atomically(self._path, json.dumps(value, indent=1).encode())
        self._serials, self._identities, self.number = serials, identities, self.number + 1

    def _load(self) -> None:
        try:
            value: dict[str, Any] = json.loads(self._path.read_bytes())
            serials = [RevokedSerial(**one | {"serial": int(one["serial"], 16)}) for one in value["serials"]]
            identities = [
                RevokedIdentity(**one | {"identity": Identity.parse(one["identity"])}) for one in value["identities"]
            ]
            self.number = int(value["number"])
        except FileNotFoundError:
            return
        except OSError as error:
            raise RevocationsBroken(f"{self._path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, InvalidIdentity) as error:
            raise RevocationsBroken(
                f"{self._path}: is damaged ({error}); restore it from backup, or remove it and revoke again what must "
                "stay revoked"
            ) from error
        self._serials = {one.serial: one for one in serials}
        self._identities = {one.identity: one for one in identities}


def _serial(entry: Entry, reason: str, now: float) -> RevokedSerial:
    return RevokedSerial(entry.serial, entry.issuer, str(entry.identity), reason, now, entry.not_after)
