"""Certificates and requests of workloads: SPIFFE URI SANs on EC P-256 (Istio's CA protocol; SPIFFE X509-SVID)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hostmesh.model.identity import Credentials, Identity, InvalidIdentity
from hostmesh.model.node import INBOUND_NAMESPACE
from hostmesh.model.trust import CertificateKey

_CACHED_LEAVES = 4096
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


# TypeError: a name whose attribute is of a kind that its library does not make itself (a bit string, say).
_UNREADABLE = (ValueError, TypeError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)


class BadCertificate(ValueError):
    """A certificate, or a CA's answer, cannot be used; the text says why."""


@lru_cache(maxsize=_CACHED_LEAVES)
def spiffe_identities(der: bytes) -> tuple[Identity, ...]:
    """The SPIFFE identities that a leaf names, in its order; the first is who the peer is.

    URI SANs that are not in Istio's form are passed over. Cached: the same leaves connect again and again.

    Raises:
        BadCertificate: not a certificate, or its SAN extension cannot be read.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    except _UNREADABLE as error:
        raise BadCertificate(f"peer certificate cannot be read: {error}") from error
    identities = []
    for uri in extension.value.get_values_for_type(x509.UniformResourceIdentifier):
        try:
            identities.append(Identity.parse(uri))
        except InvalidIdentity:
            continue
    return tuple(identities)


@lru_cache(maxsize=_CACHED_LEAVES)
def expires_at(der: bytes) -> float:
    """When a certificate stops being valid, in seconds since the epoch.

    Raises:
        BadCertificate: not a certificate.
    """
    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
    except _UNREADABLE as error:
        raise BadCertificate(f"peer certificate cannot be read: {error}") from error


@lru_cache(maxsize=_CACHED_LEAVES)
def certificate_key(der: bytes) -> CertificateKey:
    """What revocation lists call a certificate by: its issuer and its serial number.

    Raises:
        BadCertificate: not a certificate.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        return certificate.issuer.public_bytes(), certificate.serial_number
    except _UNREADABLE as error:
        raise BadCertificate(f"peer certificate cannot be read: {error}") from error


def chain_keys(chain_pem: bytes) -> tuple[CertificateKey, ...]:
    """`certificate_key` of each certificate of a PEM chain.

    Raises:
        BadCertificate: one of them cannot be read.
    """
    return tuple(certificate_key(_der(block)) for block in split_pem(chain_pem))


def leaf_identities(chain_pem: bytes) -> tuple[Identity, ...]:
    """`spiffe_identities` of a PEM chain's first certificate.

    Raises:
        BadCertificate: it cannot be read.
    """
    return spiffe_identities(_der(chain_pem))


def _der(pem: bytes) -> bytes:
    """Without `ssl`, which would load the system's OpenSSL beside the one that proxy workers use."""
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    except _UNREADABLE as error:
        raise BadCertificate(f"certificate cannot be read: {error}") from error


def issuer_key_id(pem: bytes) -> bytes:
    """The authority key identifier of a PEM chain's leaf; empty if it has none.

    Raises:
        BadCertificate: it cannot be read.
    """
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        return leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    except x509.ExtensionNotFound:
        return b""
    except _UNREADABLE as error:
        raise BadCertificate(f"certificate cannot be read: {error}") from error


def new_key_and_csr(identity: Identity) -> tuple[bytes, bytes]:
    """A fresh key and the request that asks for `identity`: (PKCS#8 PEM, PKCS#10 PEM).

    Empty subject, one critical SAN with the SPIFFE URI, signed with SHA-256.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, request.public_bytes(serialization.Encoding.PEM)


def split_pem(text: bytes) -> list[bytes]:
    """The certificates of a PEM bundle, each with its own BEGIN and END line; other text is dropped."""
    blocks = []
    position = text.find(_BEGIN)
    while position >= 0:
        end = text.find(_END, position)
        if end < 0:
            break
        end += len(_END)
        blocks.append(text[position:end] + b"\n")
        position = text.find(_BEGIN, end)
    return blocks


def credentials(
    identity: Identity, key_pem: bytes, cert_chain: Sequence[str], *, check_san: bool = True
) -> Credentials:
    """Put a CA's answer together with the key it is for.

    Args:
        identity: who was asked for.
        key_pem: what `new_key_and_csr` made for the request.
        cert_chain: leaf first, root bundle last (all of it trusted), of those between the first certificate each.
        check_san: whether the leaf's first identity must be the one asked for. Who asks for the certificate of a
            whole host does not know whom it will name: anybody, but not nobody.

    Raises:
        BadCertificate: the answer is not usable.
    """
    if not cert_chain:
        raise BadCertificate(f"chain returned from CA is empty for: {identity}")
    if len(cert_chain) == 1:
        raise BadCertificate("no root certificate present")
    blocks = [split_pem(element.encode()) for element in cert_chain]
    if not blocks[-1]:
        raise BadCertificate("no root certificate present")
    for number, element in enumerate(blocks[:-1], 1):
        if not element:
            raise BadCertificate(f"element {number} of the chain returned from CA for {identity} is no certificate")
    chain = [element[0] for element in blocks[:-1]]
    leaf = _load(chain[0], identity)
    _check_key(leaf, key_pem, identity)
    for other in (*chain[1:], *blocks[-1]):
        _load(other, identity)
    named = spiffe_identities(leaf.public_bytes(serialization.Encoding.DER))
    found = bool(named) if identity.namespace == INBOUND_NAMESPACE else named[:1] == (identity,)
    if check_san and not found:
        raise BadCertificate(f"did not find expected SAN: {identity}")
    return Credentials(
        identity=identity,
        key_pem=key_pem,
        chain_pem=b"".join(chain),
        roots_pem=b"".join(blocks[-1]),
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        serial=leaf.serial_number,
    )


def _load(pem: bytes, identity: Identity) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except _UNREADABLE as error:
        raise BadCertificate(f"certificate returned from CA for {identity} cannot be read: {error}") from error


def _check_key(leaf: x509.Certificate, key_pem: bytes, identity: Identity) -> None:
    key = serialization.load_pem_private_key(key_pem, None)
    if leaf.public_key() != key.public_key():  # a leaf for another key would fail every handshake later
        raise BadCertificate(f"certificate returned from CA for {identity} is not for the key that was sent")
