"""A certificate request's public key: all that is taken from a request (Istio CA: its contents are not trusted)."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

MAX_CSR_BYTES = 16 << 10
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class BadRequest(ValueError):
    """The certificate request cannot be granted as it is."""


def public_key(pem: str) -> PublicKey:
    """The key that a PEM request asks a certificate for, proven by its signature to be in the requester's hand.

    Raises:
        BadRequest: not a PEM request, bad signature, or a key other than P-256 or RSA of 2048 to 8192 bits.
    """
    if len(pem) > MAX_CSR_BYTES:
        raise BadRequest(f"the certificate request is longer than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadRequest(f"the certificate request cannot be read: {error}") from error
    if not proven:
        raise BadRequest("the certificate request's signature does not fit its key")
    return _acceptable(key)


def _acceptable(key: object) -> PublicKey:
    match key:
        case ec.EllipticCurvePublicKey():
            if isinstance(key.curve, ec.SECP256R1):
                return key
            raise BadRequest(f"the key is on the curve {key.curve.name}, only P-256 is certified")
        case rsa.RSAPublicKey():
            if _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
                return key
            raise BadRequest(f"the RSA key has {key.key_size} bits, only {_MIN_RSA_BITS} to {_MAX_RSA_BITS} will do")
        case _:
            raise BadRequest("only P-256 and RSA keys are certified")
