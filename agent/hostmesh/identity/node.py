"""NodeStore: the node's own key and certificate on disk; NodeRenewal: keeps them fresh."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.manager import Fetch, SecretManager, SecretStatus
from hostmesh.kernel.files import write_atomically
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import NodeFiles
from hostmesh.rpc.failure import Failure
from hostmesh.wire.x509 import BadCertificate, spiffe_identities, split_pem

RETRY_MAXIMUM = 3.0
"""Longest pause, in seconds, while the control plane cannot be asked: all on the host waits for this certificate."""

REFUSED_MAXIMUM = 60.0
"""Longest pause where somebody has to change something; each attempt is a line in the control plane's audit log."""


def longest_pause(failure: Failure) -> float:
    """Seconds between two attempts to get this node's certificate, after many failures of this kind."""
    return REFUSED_MAXIMUM if failure in (Failure.REFUSED, Failure.CLOCK) else RETRY_MAXIMUM


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

    def check_writable(self) -> None:
        """Before something is spent on what is to be saved.

        Raises:
            OSError: `save` would fail.
        """
        probe = self._key_path.with_name("node-key.pem.probe")
        write_atomically(probe, bytes(4096))
        probe.unlink()

    def _broken(self, why: str) -> NodeStoreBroken:
        return NodeStoreBroken(
            f"{self._key_path}: this node's key and certificate {why}; the agent replaces it when the "
            "control plane admits this host by its SSH host key; else enrol this node again with a join token"
        )


class NodeRenewal:
    """Renews the node's certificate before half of its life is over.

    Args:
        store: where it is kept; `load` must have given something.
        credentials: what it gave.
        fetch: gets a certificate of this node.
        on_renewed: told when a new one is on disk.
        now: seconds since the epoch.
        jitter: 0 to 1, random.
    """

    def __init__(
        self,
        store: NodeStore,
        credentials: Credentials,
        fetch: Fetch,
        *,
        on_renewed: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._identity = credentials.identity
        self._manager = SecretManager(
            self._fetch_and_save,
            on_credentials=lambda _credentials: on_renewed(),
            on_failure=lambda _identity, _reason: None,
            now=now,
            jitter=jitter,
            max_concurrent=1,
            longest_pause=longest_pause,
        )
        self._manager.adopt(credentials)

    @property
    def credentials(self) -> Credentials | None:
        """The present ones; None once they have expired."""
        return next(iter(self._manager.available()), None)

    def status(self) -> SecretStatus:
        """A snapshot."""
        (status,) = self._manager.statistics()
        return status

    def retry_failed(self) -> None:
        """The control plane may be back."""
        self._manager.retry_failed()

    def renew(self) -> None:
        """Now: the control plane does not accept the present certificate."""
        self._manager.renew(self._identity)

    def discard(self, reason: str) -> None:
        """The control plane does not accept the present certificate: any that it issues now is better."""
        self._manager.discard(self._identity, reason)

    async def run(self) -> None:
        """Renew until cancelled."""
        await self._manager.run()

    async def _fetch_and_save(self, identity: Identity) -> Credentials:
        renewed = await self._fetch(identity)
        try:
            self._store.save(renewed)
        except OSError as error:
            text = f"{self._store.files.key}: cannot be written ({error.strerror or error})"
            raise FetchFailed(text, Failure.LOCAL) from error
        return renewed


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
