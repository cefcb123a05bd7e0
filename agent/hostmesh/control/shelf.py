"""Where an authority of our own keeps its keys and certificates: files of one host, or records that are shared.

Names are those of the files: `root-key.pem`, `root-cert.pem`. In shared records private keys are encrypted
(AES-256-GCM) with a key that only the hosts of the control planes have, so that whoever reads the store, or a backup
of it, cannot sign; the name is part of what is authenticated.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hostmesh.control.pem_files import CaBroken, read, write
from hostmesh.control.records import ABSENT, Conflict, Records, StoreUnavailable

KEY_BYTES = 32
_NONCE_BYTES = 12
_PREFIX = "ca/"
_SEALED = "aes256gcm:"


class Overtaken(CaBroken):
    """Another control plane has changed the authority meanwhile; nothing was written."""


class Shelf(Protocol):
    """The interface."""

    def where(self, name: str) -> Path:
        """For messages."""
        ...

    def read(self, name: str) -> bytes | None:
        """What is there; None if nothing is.

        Raises:
            CaBroken: it cannot be read.
        """
        ...

    def put(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """Write or remove, in this order, or all at once where that is possible.

        Raises:
            CaBroken: it cannot be written, or others have; of a sequence the first ones may be done.
        """
        ...

    def has_news(self) -> bool:
        """Whether somebody else has changed something since it was read here."""
        ...


class DirectoryShelf:
    """Files; each is replaced as a whole.

    Args:
        directory: `ca/` of the state directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def where(self, name: str) -> Path:
        """As `Shelf.where`."""
        return self._directory / name

    def read(self, name: str) -> bytes | None:
        """As `Shelf.read`."""
        return read(self.where(name))

    def put(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """As `Shelf.put`, one after the other."""
        for name, data in changes:
            path = self.where(name)
            if data is not None:
                write(path, data, 0o644 if name.endswith("-cert.pem") else 0o600)
            else:
                _unlink(path)
                _unlink(path.with_name(path.name + ".new"))  # of a write that a crash has cut off

    def has_news(self) -> bool:
        """As `Shelf.has_news`: nobody else writes here."""
        return False


class RecordShelf:
    """Records, `ca/<name>`; what is put is one transaction that relies on what was read.

    Args:
        records: shared by the control planes.
        key: 32 bytes that encrypt private keys.
    """

    def __init__(self, records: Records, key: bytes) -> None:
        self._records = records
        self._cipher = AESGCM(key)
        self._read: dict[str, int] = {}

    def where(self, name: str) -> Path:
        """As `Shelf.where`."""
        return Path(f"{self._records.where}{_PREFIX}{name}")

    def read(self, name: str) -> bytes | None:
        """As `Shelf.read`."""
        try:
            found = self._records.fresh(f"{_PREFIX}{name}")
        except StoreUnavailable as error:
            raise CaBroken(str(error)) from error
        self._read[name] = found.version if found is not None else ABSENT
        return self._open(name, found.value) if found is not None else None

    def put(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """As `Shelf.put`, at once."""
        texts: dict[str, str | None] = {}
        for name, data in changes:
            if data is not None:
                texts[f"{_PREFIX}{name}"] = self._seal(name, data)
            elif self._read.get(name, ABSENT) != ABSENT:
                texts[f"{_PREFIX}{name}"] = None
            else:
                texts.pop(f"{_PREFIX}{name}", None)
        if not texts:
            return
        try:
            self._records.commit(
                texts, expect={key: self._read.get(key.removeprefix(_PREFIX), ABSENT) for key in texts}
            )
        except Conflict as error:
            raise Overtaken(f"{self.where('')}: another control plane changes the authority now; try again") from error
        except OSError as error:
            raise CaBroken(str(error)) from error
        for key in texts:
            found = self._records.get(key)
            self._read[key.removeprefix(_PREFIX)] = found.version if found is not None else ABSENT

    def has_news(self) -> bool:
        """As `Shelf.has_news`."""
        known = {key.removeprefix(_PREFIX): record.version for key, record in self._records.under(_PREFIX).items()}
        return known != {name: version for name, version in self._read.items() if version != ABSENT}

    def _seal(self, name: str, data: bytes) -> str:
        if not name.endswith("-key.pem"):
            return data.decode()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _SEALED + base64.b64encode(nonce + self._cipher.encrypt(nonce, data, name.encode())).decode()

    def _open(self, name: str, text: str) -> bytes:
        if not name.endswith("-key.pem"):
            return text.encode()
        try:
            data = base64.b64decode(text.removeprefix(_SEALED), validate=True)
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], name.encode())
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise CaBroken(
                f"{self.where(name)}: cannot be decrypted; store.etcd.encryption_key_file must be the same on every "
                "control plane of the mesh"
            ) from error


def read_encryption_key(path: Path) -> bytes:
    """The key of a `RecordShelf`: 32 bytes as base64.

    Raises:
        CaBroken: not that.
    """
    data = read(path)
    advice = f"make one with `openssl rand -base64 {KEY_BYTES}`, 0600, the same on every control plane"
    if data is None:
        raise CaBroken(f"{path}: is missing; {advice}")
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise CaBroken(f"{path}: is not {KEY_BYTES} bytes in base64; {advice}")
    return key


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CaBroken(f"{path}: cannot be removed ({error.strerror})") from error
