"""Rules for requests: only their key counts, and only some keys."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.csr import BadRequest, public_key


def request(key: object, algorithm: hashes.HashAlgorithm | None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[call-overload,no-any-return]


KEYS = [
    (lambda: ec.generate_private_key(ec.SECP256R1()), ""),
    (lambda: rsa.generate_private_key(65537, 2048), ""),
    (lambda: rsa.generate_private_key(65537, 1024), "1024 bits"),
    (lambda: ec.generate_private_key(ec.SECP384R1()), "curve secp384r1"),
    (lambda: dsa.generate_private_key(1024), "only P-256 and RSA"),
]


@pytest.mark.parametrize(("make", "refusal"), KEYS)
def test_which_keys_are_certified(make: object, refusal: str) -> None:
    """P-256 and RSA from 2048 bits."""
    assert callable(make)
    key = make()
    text = request(key, hashes.SHA256())
    if refusal:
        with pytest.raises(BadRequest, match=refusal):
            public_key(text)
    else:
        assert public_key(text) == key.public_key()


def test_ed25519_is_not_certified() -> None:
    """TLS stacks of peers need not know it."""
    with pytest.raises(BadRequest, match="only P-256 and RSA"):
        public_key(request(ed25519.Ed25519PrivateKey.generate(), None))


def test_the_requester_must_hold_the_key() -> None:
    """A request with somebody else's public key has a signature that does not fit."""
    der = bytearray(
        x509.load_pem_x509_csr(request(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).encode()).public_bytes(
            serialization.Encoding.DER
        )
    )
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(BadRequest, match="signature does not fit"):
        public_key(forged)


@given(
    st.text()
    | st.builds("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----".format, st.text())
)
def test_nonsense_is_refused(text: str) -> None:
    """Whatever the text, the answer is a BadRequest."""
    with pytest.raises(BadRequest):
        public_key(text)


def test_a_long_request_is_not_even_parsed() -> None:
    """16 KiB hold any honest request."""
    with pytest.raises(BadRequest, match="longer than"):
        public_key("x" * 20_000)
