"""Keys and certificates of an authority on disk: read with errors that name the file, written as a whole or not."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hostmesh.control.issue import SigningKey
from hostmesh.kernel.files import write_atomically


class CaBroken(Exception):
    """The authority's files are not usable; the text names the file, what is wrong with it, and the next step."""


def read(path: Path) -> bytes | None:
    """The file's content; None if there is no such file.

    Raises:
        CaBroken: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CaBroken(f"{path}: cannot be read ({error.strerror})") from error


def write(path: Path, data: bytes, mode: int) -> None:
    """Replace the file.

    Raises:
        CaBroken: it cannot be written; the old one is unharmed.
    """
    try:
        write_atomically(path, data, mode)
    except OSError as error:
        raise CaBroken(f"{path}: cannot be written ({error.strerror})") from error


def parse_key(path: Path, data: bytes) -> SigningKey:
    """A private key that can sign certificates.

    Raises:
        CaBroken: another kind of key, encrypted, or none.
    """
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CaBroken(f"{path}: not a PEM private key without password ({error})") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise CaBroken(f"{path}: neither an elliptic-curve nor an RSA key")
    return key


def parse_authorities(path: Path, data: bytes) -> tuple[x509.Certificate, ...]:
    """The CA certificates of a file, at least one.

    Raises:
        CaBroken: something else is in it.
    """
    try:
        certificates = tuple(x509.load_pem_x509_certificates(data))
        authorities = [_is_authority(certificate) for certificate in certificates]
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CaBroken(f"{path}: not a usable CA certificate ({error})") from error
    if not all(authorities):
        subject = certificates[authorities.index(False)].subject.rfc4514_string()
        raise CaBroken(f"{path}: not a usable CA certificate ({subject} may not sign certificates)")
    return certificates


def _is_authority(certificate: x509.Certificate) -> bool:
    certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one has signed the other."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def cert_pem(*certificates: x509.Certificate) -> bytes:
    """One after the other."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def key_pem(key: SigningKey) -> bytes:
    """PKCS#8 without password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
