"""The mesh's certificate authority: its own root or a plugged-in one; it signs public keys, never requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hostmesh.control import plugged_ca
from hostmesh.control.csr import BadRequest, public_key
from hostmesh.control.horizons import Horizons
from hostmesh.control.issue import inbound_certificate, server_certificate, workload_certificate
from hostmesh.control.ledger import Entry, Ledger
from hostmesh.control.material import Material
from hostmesh.control.own_root import OwnRoot
from hostmesh.control.pem_files import CaBroken, cert_pem, issued_by, key_pem, read, write
from hostmesh.control.records import Records
from hostmesh.control.revocations import Revocations
from hostmesh.control.shelf import DirectoryShelf, Shelf
from hostmesh.model.identity import Identity
from hostmesh.model.node import inbound_identity, node_identity

__all__ = ["CaBroken", "CertificateAuthority", "IdentityRevoked", "Issued", "ServerFile"]

_log = logging.getLogger(__name__)

DEFAULT_TTL = 86400.0
NODE_TTL = 7 * 86400.0
"""A host that was off for longer needs a new join token, so nodes' certificates outlive a weekend."""
MIN_TTL = 30.0
SERVER_TTL = 30 * 86400.0
ALWAYS_NAMED = ("istiod.istio-system.svc",)
"""What a stock ztunnel expects the control plane to be called."""


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


class IdentityRevoked(Exception):
    """Nothing is issued for an identity that is revoked; the text has the next step."""


class CertificateAuthority:
    """Signs for identities that its callers have checked; it checks keys and lifetimes.

    Args:
        directory: `ca/` of the state directory; root-key.pem (0600) and root-cert.pem are made there at first start,
            unless an authority is plugged in there.
        trust_domain: of every certificate signed here.
        records: what must not be forgotten: issued and revoked certificates.
        shelf: where the root is, if not in `directory`.
        max_ttl: longest lifetime granted to workloads, in seconds; longer requests are cut.
        node_ttl: lifetime of nodes' certificates, in seconds, whatever they ask for.
        now: seconds since the epoch.

    Raises:
        CaBroken: half of the root is missing, unreadable, expired, or no pair; or another file there is damaged.
        RecordsBroken: what is recorded of revoked certificates is damaged.
    """

    def __init__(
        self,
        directory: Path,
        trust_domain: str,
        records: Records,
        *,
        shelf: Shelf | None = None,
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
        self._own = OwnRoot(shelf or DirectoryShelf(directory), directory / "root-cert.pem", trust_domain, now)
        self._stamp = plugged_ca.fingerprint(directory)
        plugged = plugged_ca.is_plugged(directory)
        fresh = not plugged and not self._own.exists
        self._material = plugged_ca.load(directory, now) if plugged else self._own.load()
        self.ledger = Ledger(records, now)
        self.revocations = Revocations(records, now)
        self._horizons = Horizons(records, max(max_ttl, node_ttl), now)
        self._horizons.know(self._material, fresh=fresh)

    @property
    def material(self) -> Material:
        """What it signs with and whom it trusts, now."""
        return self._material

    @property
    def own_root(self) -> OwnRoot:
        """The files of the self-signed root; of no meaning while an authority is plugged in."""
        return self._own

    def adopt(self, material: Material) -> None:
        """Sign with this from now on.

        Raises:
            OSError: it cannot be written down how long certificates of its signer live.
        """
        self._horizons.know(material, fresh=True)
        self._material = material

    def alive_until(self, issuer: bytes) -> float:
        """When nothing that an authority has signed can be alive any more; `issuer` is its key identifier."""
        return self._horizons.of(issuer)

    def reload(self) -> bool:
        """Look whether others have changed the authority; True if they have, and that is used from now on.

        Those are whoever changes a plugged-in authority's files, and control planes that share a root of their own.

        Raises:
            CaBroken: they have changed and are not usable; the last good ones stay in use. Told once for each change.
        """
        if not self._material.plugged:
            return self._own.has_news() and self._take(self._own.load())
        stamp = plugged_ca.fingerprint(self._directory)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        after = plugged_ca.load(self._directory, self._now)
        plugged_ca.check_change(self._material, after, self._directory)
        return self._take(after)

    def _take(self, after: Material) -> bool:
        if after == self._material:
            return False
        self.adopt(after)
        return True

    @property
    def roots_pem(self) -> bytes:
        """All roots that verifiers must trust."""
        return cert_pem(*self._material.roots)

    @property
    def root_path(self) -> Path:
        """The file that hosts get as their root-cert.pem."""
        return self._own.path

    def sign(self, csr_pem: str, identity: Identity, ttl: float, node: str = "") -> Issued:
        """Certify the request's key for `identity`, whatever else the request says.

        Args:
            csr_pem: the request, of which only the key is used.
            identity: what the certificate will say; the caller has checked that the requester may be this.
            ttl: seconds; 0 or less means the longest.
            node: who gets it.

        Raises:
            BadRequest: unusable request, or a lifetime below 30 s.
            IdentityRevoked: `identity` is revoked.
            OSError: it could not be written down.
            ValueError: `identity` is of another trust domain.
        """
        self._check_trust_domain(identity)
        self.check_not_revoked(identity)
        return self._issue(csr_pem, identity, (identity,), self._granted(ttl), node)

    def sign_inbound(self, csr_pem: str, identities: Collection[Identity], ttl: float, node: str) -> Issued:
        """Certify the request's key for a node's inbound listener, as everybody of `identities` who is not revoked.

        Raises:
            BadRequest: unusable request, or a lifetime below 30 s.
            IdentityRevoked: all of them are.
            OSError: it could not be written down.
            ValueError: there is nobody, or somebody of another trust domain.
        """
        for identity in identities:
            self._check_trust_domain(identity)
        named = tuple(sorted(one for one in identities if not self.revocations.has_identity(one)))
        if not named:
            self.check_not_revoked(min(identities))
        return self._issue(csr_pem, inbound_identity(self.trust_domain, node), named, self._granted(ttl), node)

    def sign_node(self, csr_pem: str, node: str) -> Issued:
        """Certify the request's key for a node that the caller has admitted.

        Raises:
            BadRequest: unusable request.
            IdentityRevoked: the node is revoked.
            OSError: it could not be written down.
        """
        identity = node_identity(self.trust_domain, node)
        self.check_not_revoked(identity)
        return self._issue(csr_pem, identity, (identity,), self._node_ttl, node)

    def check_not_revoked(self, identity: Identity) -> None:
        """Whether certificates are issued for it.

        Raises:
            IdentityRevoked: none are.
        """
        if self.revocations.has_identity(identity):
            raise IdentityRevoked(
                f"{identity} is revoked; `hostmesh ca unrevoke --identity {identity}` on the control plane admits it "
                "again"
            )

    def _check_trust_domain(self, identity: Identity) -> None:
        if identity.trust_domain != self.trust_domain:
            raise ValueError(f"{identity} is not of the trust domain {self.trust_domain}")

    def _granted(self, ttl: float) -> float:
        granted = min(ttl, self._max_ttl) if ttl > 0 else self._max_ttl
        if granted < MIN_TTL:
            raise BadRequest(f"a certificate lives {MIN_TTL:.0f} s at least, not {ttl:g} s")
        return granted

    def _issue(
        self, csr_pem: str, identity: Identity, named: tuple[Identity, ...], granted: float, node: str
    ) -> Issued:
        material, now = self._material, self._now()
        key = public_key(csr_pem)
        leaf = (
            workload_certificate(material.signer, key, identity, granted, now)
            if named == (identity,)
            else inbound_certificate(material.signer, key, named, granted, now)
        )
        not_after = leaf.not_valid_after_utc.timestamp()
        self._horizons.reach(material.signer_id, not_after, granted)
        issuer = material.signer_id.hex()
        others = () if named == (identity,) else named
        self.ledger.record(Entry(leaf.serial_number, identity, node, issuer, now, not_after, others))
        between = (cert_pem(one).decode() for one in material.chain)
        chain = (cert_pem(leaf).decode(), *between, self.roots_pem.decode())
        return Issued(identity, chain, leaf.serial_number, not_after)

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
            material = self._material
            certificate = server_certificate(material.signer, key.public_key(), names, SERVER_TTL, self._now())
            write(path, key_pem(key) + cert_pem(certificate, *material.server_chain), 0o600)
            _log.info("issued the control plane's own certificate for %s", ", ".join(names))
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return ServerFile(path, (not_before.timestamp() + not_after.timestamp()) / 2)

    def _current_server(self, path: Path, names: Sequence[str]) -> x509.Certificate | None:
        data = read(path)
        if data is None:
            return None
        material = self._material
        try:
            certificate, *carried = x509.load_pem_x509_certificates(data)
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound) as error:
            _log.warning("%s: not usable (%s): issuing another", path, error)
            return None
        if tuple(carried) != material.server_chain or not issued_by(certificate, material.signer.certificate):
            return None
        held = {str(name.value) for name in alternatives}
        half = (certificate.not_valid_before_utc.timestamp() + certificate.not_valid_after_utc.timestamp()) / 2
        return certificate if held == set(names) and self._now() < half else None


def _canonical(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")
