"""Certificate revocation lists of an authority (RFC 5280 §5)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hostmesh.control.issue import BACKDATE, Signer, key_id
from hostmesh.control.revocations import UNSPECIFIED, RevokedSerial

LIFETIME = timedelta(days=30)
"""For those who look at it: hostmesh and ztunnel use a list until a newer one comes."""


def revocation_list(
    signer: Signer, revoked: Iterable[RevokedSerial], number: int, now: float
) -> x509.CertificateRevocationList:
    """What `signer` has issued and taken back; what is in no ledger is listed by every signer.

    Args:
        signer: the authority.
        revoked: of all authorities.
        number: the CRL number, growing.
        now: seconds since the epoch.
    """
    moment = datetime.fromtimestamp(now, UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(signer.certificate.subject)
    # a clock that is a little behind must not find the list of the future, and nobody to be trusted
    builder = builder.last_update(moment - timedelta(seconds=BACKDATE)).next_update(moment + LIFETIME)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    identifier = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
    )
    own = key_id(signer.certificate).hex()
    for one in sorted(revoked, key=lambda one: one.serial):
        if one.issuer in ("", own):
            builder = builder.add_revoked_certificate(_entry(one))
    return builder.sign(signer.key, hashes.SHA256())


def _entry(one: RevokedSerial) -> x509.RevokedCertificate:
    moment = datetime.fromtimestamp(one.revoked_at, UTC)
    builder = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(moment)
    if one.reason != UNSPECIFIED:
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(one.reason)), critical=False)
    return builder.build()
