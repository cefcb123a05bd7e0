"""A small certificate authority for tests: SPIFFE leaves, intermediates, and every way in which one can be wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hostmesh.model.identity import Credentials, Identity

HOUR = 3600.0
ALICE = Identity("cluster.local", "default", "alice")
BOB = Identity("cluster.local", "default", "bob")


def now() -> float:
    return dt.datetime.now(dt.UTC).timestamp()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8, as the agent writes its own."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """A certificate authority. Without a parent it is a root."""

    def __init__(
        self, name: str = "test root", parent: Authority | None = None, *, lifetime: float = 24 * HOUR
    ) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.parent = parent
        issuer = parent or self
        start = now()
        builder = _builder(self.name, issuer.name, self.key.public_key(), start - HOUR, start + lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
        )
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    def intermediate(self, name: str = "test intermediate") -> Authority:
        """An authority below this one."""
        return Authority(name, self)

    @property
    def pem(self) -> bytes:
        """This authority's own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def root_pem(self) -> bytes:
        """The certificate at the top."""
        return self.parent.root_pem if self.parent else self.pem

    @property
    def intermediates_pem(self) -> bytes:
        """What a leaf of this authority must carry with it: everything below the root, nearest first."""
        return self.pem + self.parent.intermediates_pem if self.parent else b""

    def certify(
        self,
        public_key: ec.EllipticCurvePublicKey,
        uris: Sequence[str],
        *,
        not_before: float | None = None,
        not_after: float | None = None,
        serial: int | None = None,
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    ) -> x509.Certificate:
        """A leaf with these URI SANs (none: no SAN extension)."""
        start = now() - 60 if not_before is None else not_before
        end = now() + HOUR if not_after is None else not_after
        builder = _builder(x509.Name([]), self.name, public_key, start, end, serial)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
            builder = builder.add_extension(names, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self,
        identity: Identity = ALICE,
        *,
        uris: Sequence[str] | None = None,
        not_before: float | None = None,
        not_after: float | None = None,
        serial: int | None = None,
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        roots: bytes | None = None,
    ) -> Credentials:
        """Credentials of `identity`; `uris` replaces what the certificate says, `roots` whom its owner trusts."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.certify(
            key.public_key(),
            [str(identity)] if uris is None else uris,
            not_before=not_before,
            not_after=not_after,
            serial=serial,
            usages=usages,
        )
        return Credentials(
            identity=identity,
            key_pem=key_pem(key),
            chain_pem=certificate.public_bytes(serialization.Encoding.PEM) + self.intermediates_pem,
            roots_pem=self.root_pem if roots is None else roots,
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
            serial=certificate.serial_number,
        )

    def expired(self, identity: Identity = ALICE) -> Credentials:
        """Credentials that ended a minute ago."""
        return self.issue(identity, not_before=now() - HOUR, not_after=now() - 60)

    def not_yet_valid(self, identity: Identity = ALICE) -> Credentials:
        """Credentials that begin in an hour."""
        return self.issue(identity, not_before=now() + HOUR, not_after=now() + 2 * HOUR)

    def of_trust_domain(self, trust_domain: str, identity: Identity = ALICE) -> Credentials:
        """Credentials of the same name in another trust domain."""
        return self.issue(Identity(trust_domain, identity.namespace, identity.service_account))

    def without_san(self, identity: Identity = ALICE) -> Credentials:
        """Credentials whose certificate names nobody."""
        return self.issue(identity, uris=())

    def with_two_sans(self, first: Identity = ALICE, second: Identity = BOB) -> Credentials:
        """Credentials whose certificate names two identities."""
        return self.issue(first, uris=(str(first), str(second)))

    def host_certificate(self, name: str, *addresses: str) -> tuple[bytes, bytes]:
        """A certificate, and its key, for other servers than ours; who has it may also call with it."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(one)) for one in addresses])
        builder = _builder(subject, self.name, key.public_key(), now() - 60, now() + HOUR)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key_pem(key)

    def sign_request(self, csr_pem: str, lifetime: float = HOUR) -> list[str]:
        """What a CA answers to a CreateCertificate: leaf, intermediates, roots last."""
        request = x509.load_pem_x509_csr(csr_pem.encode())
        assert request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        public_key = request.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        leaf = self.certify(public_key, uris, not_after=now() + lifetime)
        chain = [leaf.public_bytes(serialization.Encoding.PEM).decode()]
        authority = self
        while authority.parent is not None:
            chain.append(authority.pem.decode())
            authority = authority.parent
        return [*chain, self.root_pem.decode()]

    def crl_pem(self, *revoked: Credentials) -> bytes:
        """A revocation list of this authority that names these credentials' leaves."""
        start = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(start - dt.timedelta(minutes=1)).next_update(start + dt.timedelta(hours=1))
        for credentials in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(credentials.serial).revocation_date(start).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    not_before: float,
    not_after: float,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=public_key,
        serial_number=x509.random_serial_number() if serial is None else serial,
        not_valid_before=dt.datetime.fromtimestamp(not_before, dt.UTC),
        not_valid_after=dt.datetime.fromtimestamp(not_after, dt.UTC),
    )
