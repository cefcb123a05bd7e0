"""NodeStore: the node's own key and certificate on disk; NodeRenewal: keeps them fresh."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.manager import Fetch, SecretManager
from hostmesh.kernel.files import write_atomically
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import NodeFiles
from hostmesh.wire.x509 import BadCertificate, spiffe_identities, split_pem

_log = logging.getLogger(__name__)


class NodeStoreBroken(Exception):
    """The node's files are there but of no use; the text names the file and the next step."""


class NodeStore:
    """Reads and replaces the node's credentials, 0600.

    node-key.pem holds the key and its certificates, so that the pair is always replaced as one; node-cert.pem is a
    copy of the certificates for people and tools, written last.
    """

    def __init__(self, directory: Path) -> None:
        self._key_path = directory / "node-key.pem"
        self._cert_path = directory / "node-cert.pem"

    @property
    def files(self) -> NodeFiles:
        """What a TLS context loads."""
        return NodeFiles(key=self._key_path, chain=self._key_path)

    def load(self) -> Credentials | None:
        """The stored credentials, with no roots; None if this host was never enrolled. They may have expired.

        Raises:
            NodeStoreBroken: unreadable, or not what `save` wrote.
        """
        try:
            data = self._key_path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._broken(f"cannot be read ({error.strerror})") from error
        try:
            return _parse(data)
        except (ValueError, TypeError, BadCertificate) as error:
            raise self._broken(f"is damaged ({error})") from error

    def save(self, credentials: Credentials) -> None:
        """Replace what is stored.

        Raises:
            OSError: the directory is missing or not writable; what was stored is unharmed.
        """
        write_atomically(self._key_path, credentials.key_pem + credentials.chain_pem)
        write_atomically(self._cert_path, credentials.chain_pem)

    def _broken(self, why: str) -> NodeStoreBroken:
        return NodeStoreBroken(
            f"{self._key_path}: this node's key and certificate {why}; remove the file and enrol this node again "
            "with a new join token"
        )


class NodeRenewal:
    """Renews the node's certificate before half of its life is over, as long as it is valid.

    Args:
        store: where it is kept; `load` must have given something.
        credentials: what it gave.
        fetch: asks the CA for a certificate of this node.
        now: seconds since the epoch.
        jitter: 0 to 1, random.
    """

    def __init__(
        self,
        store: NodeStore,
        credentials: Credentials,
        fetch: Fetch,
        *,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._manager = SecretManager(
            self._fetch_and_save,
            on_credentials=lambda _credentials: None,
            on_failure=_say_expired,
            now=now,
            jitter=jitter,
            max_concurrent=1,
        )
        self._manager.adopt(credentials)

    @property
    def credentials(self) -> Credentials | None:
        """The present ones; None once they have expired."""
        return next(iter(self._manager.available()), None)

    def retry_failed(self) -> None:
        """The control plane may be back."""
        self._manager.retry_failed()

    async def run(self) -> None:
        """Renew until cancelled."""
        await self._manager.run()

    async def _fetch_and_save(self, identity: Identity) -> Credentials:
        renewed = await self._fetch(identity)
        try:
            self._store.save(renewed)
        except OSError as error:
            raise FetchFailed(f"{self._store.files.key}: cannot be written ({error.strerror or error})") from error
        return renewed


def _say_expired(identity: Identity, reason: str) -> None:
    _log.error(
        "the certificate of node %s has expired and could not be renewed (%s): enrol it again with a new join token",
        identity.service_account,
        reason,
    )


def _parse(data: bytes) -> Credentials:
    key = serialization.load_pem_private_key(data, password=None)
    chain = split_pem(data)
    if not chain:
        raise ValueError("no certificate beside the key")
    leaf = x509.load_pem_x509_certificate(chain[0])
    if leaf.public_key() != key.public_key():
        raise ValueError("the certificate is for another key")
    identities = spiffe_identities(leaf.public_bytes(serialization.Encoding.DER))
    if len(identities) != 1:
        raise ValueError("the certificate does not name one node")
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credentials(
        identity=identities[0],
        key_pem=key_pem,
        chain_pem=b"".join(chain),
        roots_pem=b"",
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        serial=leaf.serial_number,
    )
