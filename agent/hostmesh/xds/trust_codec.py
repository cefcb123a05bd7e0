"""The trust bundle on the wire and in the model (hostmesh.trust.v1; RFC 5280 revocation lists)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from google.protobuf.message import DecodeError

from hostmesh.model.identity import Identity, InvalidIdentity
from hostmesh.model.trust import CertificateKey, TrustBundle
from hostmesh.wire.proto import trust_pb2 as pb
from hostmesh.xds.fields import Rejected

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion)


def encode_trust(
    trust_domain: str,
    roots: Iterable[x509.Certificate],
    *,
    crls: Iterable[x509.CertificateRevocationList] = (),
    issuers: Iterable[x509.Certificate] = (),
    revoked_identities: Iterable[Identity] = (),
    signer: bytes = b"",
) -> bytes:
    """The resource's bytes, the same for the same content; see `TrustBundle` of trust.proto for the fields."""
    der = serialization.Encoding.DER
    message = pb.TrustBundle(
        trust_domain=trust_domain,
        roots=[root.public_bytes(der) for root in roots],
        crls=[crl.public_bytes(der) for crl in crls],
        issuers=[issuer.public_bytes(der) for issuer in issuers],
        revoked_identities=sorted(map(str, revoked_identities)),
        signer=signer,
    )
    return message.SerializeToString(deterministic=True)


def decode_trust(data: bytes) -> TrustBundle:
    """From the resource's bytes.

    Raises:
        Rejected: unreadable, without roots, or with a revocation list that none of its authorities has signed.
    """
    try:
        message = pb.TrustBundle.FromString(data)
    except DecodeError as error:
        raise Rejected("decode error: not a TrustBundle") from error
    if not message.trust_domain:
        raise Rejected("a trust bundle without a trust domain")
    if not message.roots:
        raise Rejected("a trust bundle without roots would leave nobody to talk to")
    try:
        roots = [x509.load_der_x509_certificate(der) for der in message.roots]
        authorities = [*roots, *(x509.load_der_x509_certificate(der) for der in message.issuers)]
        crls = [x509.load_der_x509_crl(der) for der in message.crls]
        revoked: set[CertificateKey] = set()
        for crl in crls:
            revoked.update(_revoked(crl, authorities))
        identities = frozenset(Identity.parse(text) for text in message.revoked_identities)
    except InvalidIdentity as error:
        raise Rejected(f"revoked identity: {error}") from error
    except _UNREADABLE as error:
        raise Rejected(f"a certificate or revocation list cannot be read: {error}") from error
    pem = serialization.Encoding.PEM
    roots_pem = b"".join(root.public_bytes(pem) for root in roots)
    crls_pem = b"".join(crl.public_bytes(pem) for crl in crls)
    return TrustBundle(message.trust_domain, roots_pem, frozenset(revoked), identities, message.signer, crls_pem)


def _revoked(crl: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> Iterable[CertificateKey]:
    """Serial numbers by issuer: a list speaks of its signer's certificates only, whoever else has that name."""
    if not any(_signed_by(crl, authority) for authority in authorities):
        raise Rejected(f"the revocation list of {crl.issuer.rfc4514_string()} is signed by no authority of the bundle")
    issuer = crl.issuer.public_bytes()
    return [(issuer, entry.serial_number) for entry in crl]


def _signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    if crl.issuer != authority.subject:
        return False
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, InvalidSignature):
        return False
