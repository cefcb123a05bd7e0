"""What the mesh's certificates look like (Istio's CA: controlled by the issuer down to the last extension)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hostmesh.control.csr import PublicKey
from hostmesh.model.identity import Identity

BACKDATE = 120.0
"""NotBefore lies at most so far in the past, for clocks that run behind the control plane's (as istiod's does)."""

ROOT_LIFETIME = 3650 * 86400.0


SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA certificate with its key; the certificate tells which key that is."""

    certificate: x509.Certificate
    key: SigningKey = field(compare=False)


def backdating(ttl: float) -> float:
    """Seconds that NotBefore lies in the past: a tenth of the lifetime at most, else half-life would be there too."""
    return min(BACKDATE, ttl / 10)


def key_id(certificate: x509.Certificate) -> bytes:
    """The subject key identifier of an authority."""
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def self_signed_root(
    key: ec.EllipticCurvePrivateKey, trust_domain: str, now: float, *, successor: bool = False
) -> x509.Certificate:
    """A root valid for ten years; `successor` gives it a name that no other root of the mesh has."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    common = f"{trust_domain[:40]} root {identifier.digest[:6].hex()}" if successor else f"{trust_domain} root"[:64]
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "hostmesh"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )
    builder = _builder(name, key.public_key(), now - BACKDATE, now + ROOT_LIFETIME).subject_name(name)
    return _authority(builder, identifier, identifier).sign(key, hashes.SHA256())


def cross_certificate(old: Signer, new: x509.Certificate, now: float) -> x509.Certificate:
    """The new root as an authority below the old one: for hosts that come late and know the old one only."""
    key = new.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    not_after = min(one.not_valid_after_utc.timestamp() for one in (old.certificate, new))
    builder = _builder(old.certificate.subject, key, now - BACKDATE, not_after).subject_name(new.subject)
    own = new.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = old.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return _authority(builder, own, issuer).sign(old.key, hashes.SHA256())


def _authority(
    builder: x509.CertificateBuilder, own: x509.SubjectKeyIdentifier, issuer: x509.SubjectKeyIdentifier
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=True), critical=True)
    builder = builder.add_extension(own, critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)


def workload_certificate(
    signer: Signer, key: PublicKey, identity: Identity, ttl: float, now: float
) -> x509.Certificate:
    """A certificate for one identity: client and server, empty subject, the URI as its only and critical SAN."""
    not_after = min(now + ttl, signer.certificate.not_valid_after_utc.timestamp())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _leaf(signer, key, names, usages, (now - backdating(ttl), not_after), x509.Name([]))


def inbound_certificate(
    signer: Signer, key: PublicKey, identities: Sequence[Identity], ttl: float, now: float
) -> x509.Certificate:
    """A certificate that names several identities, which SPIFFE does not know: for servers only, never a client's."""
    not_after = min(now + ttl, signer.certificate.not_valid_after_utc.timestamp())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity)) for identity in identities]
    return _leaf(
        signer, key, names, [ExtendedKeyUsageOID.SERVER_AUTH], (now - backdating(ttl), not_after), x509.Name([])
    )


def server_certificate(
    signer: Signer, key: PublicKey, hosts: Iterable[str], ttl: float, now: float
) -> x509.Certificate:
    """A certificate for the control plane's own port; `hosts` are DNS names and IP addresses. No client use."""
    not_after = min(now + ttl, signer.certificate.not_valid_after_utc.timestamp())
    names = [_host_name(host) for host in hosts]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hostmesh control plane")])
    lifetime = (now - backdating(ttl), not_after)
    return _leaf(signer, key, names, [ExtendedKeyUsageOID.SERVER_AUTH], lifetime, subject)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _leaf(
    signer: Signer,
    key: PublicKey,
    names: list[x509.GeneralName],
    usages: list[x509.ObjectIdentifier],
    lifetime: tuple[float, float],
    subject: x509.Name,
) -> x509.Certificate:
    critical = not list(subject)
    issuer_identifier = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = _builder(signer.certificate.subject, key, *lifetime).subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_identifier), critical=False
    )
    return builder.sign(signer.key, hashes.SHA256())


def _builder(issuer: x509.Name, key: PublicKey, not_before: float, not_after: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(secrets.randbits(127) | 1 << 126)  # positive, never zero, 16 octets in DER
        .not_valid_before(datetime.fromtimestamp(int(not_before), UTC))
        .not_valid_after(datetime.fromtimestamp(int(not_after), UTC))
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
