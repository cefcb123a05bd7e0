"""The mesh's certificate authority: a root of its own, made at first start, that signs public keys (never requests)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hostmesh.control.csr import BadRequest, public_key
from hostmesh.control.issue import Signer, self_signed_root, server_certificate, workload_certificate
from hostmesh.kernel.files import write_atomically
from hostmesh.model.identity import Identity
from hostmesh.model.node import node_identity

_log = logging.getLogger(__name__)

DEFAULT_TTL = 86400.0
NODE_TTL = 7 * 86400.0
"""A host that was off for longer needs a new join token, so nodes' certificates outlive a weekend."""
MIN_TTL = 30.0
SERVER_TTL = 30 * 86400.0
ALWAYS_NAMED = ("istiod.istio-system.svc",)
"""What a stock ztunnel expects the control plane to be called."""


class CaBroken(Exception):
    """The authority's files are not usable."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A signed certificate as IstioCertificateResponse carries it: leaf first, all roots in the last element."""

    identity: Identity
    chain: tuple[str, ...]
    serial: int
    not_after: float


@dataclass(frozen=True, slots=True)
class ServerFile:
    """Key and certificate of the control plane's own port, in one file so that they are always a pair."""

    path: Path
    renew_at: float


class CertificateAuthority:
    """Signs for identities that its callers have checked; it checks keys and lifetimes.

    Args:
        directory: `ca/` of the state directory; root-key.pem (0600) and root-cert.pem are made there at first start.
        trust_domain: of every certificate signed here.
        max_ttl: longest lifetime granted to workloads, in seconds; longer requests are cut.
        node_ttl: lifetime of nodes' certificates, in seconds, whatever they ask for.
        now: seconds since the epoch.

    Raises:
        CaBroken: half of the root is missing, unreadable, expired, or no pair.
    """

    def __init__(
        self,
        directory: Path,
        trust_domain: str,
        *,
        max_ttl: float = DEFAULT_TTL,
        node_ttl: float = NODE_TTL,
        now: Callable[[], float] = time.time,
    ) -> None:
        if min(max_ttl, node_ttl) < MIN_TTL:
            raise ValueError(f"certificates cannot live shorter than {MIN_TTL:.0f} s")
        self.trust_domain = trust_domain
        self._directory = directory
        self._max_ttl = max_ttl
        self._node_ttl = node_ttl
        self._now = now
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._signer = self._load_or_create()

    @property
    def roots_pem(self) -> bytes:
        """All roots that verifiers must trust."""
        return _pem(self._signer.certificate).encode()

    @property
    def root_path(self) -> Path:
        """The file that hosts get as their root-cert.pem."""
        return self._directory / "root-cert.pem"

    def sign(self, csr_pem: str, identity: Identity, ttl: float) -> Issued:
        """Certify the request's key for `identity`, whatever else the request says.

        Args:
            csr_pem: the request, of which only the key is used.
            identity: what the certificate will say; the caller has checked that the requester may be this.
            ttl: seconds; 0 or less means the longest.

        Raises:
            BadRequest: unusable request, or a lifetime below 30 s.
            ValueError: `identity` is of another trust domain.
        """
        if identity.trust_domain != self.trust_domain:
            raise ValueError(f"{identity} is not of the trust domain {self.trust_domain}")
        granted = min(ttl, self._max_ttl) if ttl > 0 else self._max_ttl
        if granted < MIN_TTL:
            raise BadRequest(f"a certificate lives {MIN_TTL:.0f} s at least, not {ttl:g} s")
        return self._issue(csr_pem, identity, granted)

    def sign_node(self, csr_pem: str, node: str) -> Issued:
        """Certify the request's key for a node that the caller has admitted.

        Raises:
            BadRequest: unusable request.
        """
        return self._issue(csr_pem, node_identity(self.trust_domain, node), self._node_ttl)

    def _issue(self, csr_pem: str, identity: Identity, granted: float) -> Issued:
        leaf = workload_certificate(self._signer, public_key(csr_pem), identity, granted, self._now())
        chain = (_pem(leaf), self.roots_pem.decode())
        return Issued(identity, chain, leaf.serial_number, leaf.not_valid_after_utc.timestamp())

    def server_file(self, hosts: Sequence[str]) -> ServerFile:
        """The control plane's own certificate; issued anew if it is missing, past half-life or for other names.

        Raises:
            CaBroken: the file cannot be read or written.
        """
        names = tuple(dict.fromkeys(_canonical(host) for host in (*hosts, *ALWAYS_NAMED)))
        path = self._directory / "server.pem"
        certificate = self._current_server(path, names)
        if certificate is None:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = server_certificate(self._signer, key.public_key(), names, SERVER_TTL, self._now())
            _write(path, _key_pem(key) + _pem(certificate).encode(), 0o600)
            _log.info("issued the control plane's own certificate for %s", ", ".join(names))
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return ServerFile(path, (not_before.timestamp() + not_after.timestamp()) / 2)

    def _current_server(self, path: Path, names: Sequence[str]) -> x509.Certificate | None:
        data = _read(path)
        if data is None:
            return None
        try:
            certificate = x509.load_pem_x509_certificate(data)
            certificate.verify_directly_issued_by(self._signer.certificate)
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
            _log.warning(
                "%s: not usable with this root (%s): issuing another", path, str(error) or type(error).__name__
            )
            return None
        held = {str(name.value) for name in alternatives}
        half = (certificate.not_valid_before_utc.timestamp() + certificate.not_valid_after_utc.timestamp()) / 2
        return certificate if held == set(names) and self._now() < half else None

    def _load_or_create(self) -> Signer:
        key_path = self._directory / "root-key.pem"
        key_pem, root_pem = _read(key_path), _read(self.root_path)
        if key_pem is None and root_pem is not None:
            raise CaBroken(
                f"{key_path}: the root's private key is missing while {self.root_path} exists; restore it from backup, "
                "or remove both to make a new root (every node must then be enrolled again)"
            )
        key = _load_key(key_path, key_pem) if key_pem is not None else ec.generate_private_key(ec.SECP256R1())
        if key_pem is None:
            _write(key_path, _key_pem(key), 0o600)
        if root_pem is None:
            certificate = self_signed_root(key, self.trust_domain, self._now())
            _write(self.root_path, _pem(certificate).encode(), 0o644)
            _log.info("made a new root certificate: %s", self.root_path)
        else:
            certificate = _load_root(self.root_path, root_pem)
        self._check(certificate, key)
        return Signer(certificate, key)

    def _check(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        if certificate.public_key() != key.public_key():
            raise CaBroken(
                f"{self.root_path}: the certificate does not belong to root-key.pem beside it; restore the pair"
            )
        if self._now() >= certificate.not_valid_after_utc.timestamp():
            raise CaBroken(
                f"{self.root_path}: the root certificate expired at {certificate.not_valid_after_utc.isoformat()}; "
                "check this host's clock, or remove root-cert.pem to renew it with the same key"
            )


def _canonical(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")


def _load_key(path: Path, data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise CaBroken(f"{path}: not a PEM private key without password ({error})") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CaBroken(f"{path}: not an elliptic-curve key")
    return key


def _load_root(path: Path, data: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(data)
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CaBroken(f"{path}: not a usable CA certificate ({error})") from error
    return certificate


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CaBroken(f"{path}: cannot be read ({error.strerror})") from error


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        write_atomically(path, data, mode)
    except OSError as error:
        raise CaBroken(f"{path}: cannot be written ({error.strerror})") from error


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
