"""Rules for SSH signatures: every kind of host key, and every bit counts."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.wire.ssh_key import BadSshKey
from hostmesh.wire.sshsig import BadSignature, PrivateKey, load_private_key, public_part, sign, signer, verify

ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, PrivateKey] = {
    "ed25519": ED25519,
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": RSA,
}
GOOD = sign(ED25519, "enrolment", b"message")


@pytest.mark.parametrize("kind", KEYS)
def test_what_is_signed_is_verified(kind: str) -> None:
    """And its signer is named."""
    key = KEYS[kind]
    blob = sign(key, "enrolment", b"message")
    assert verify(blob, "enrolment", b"message") == signer(blob) == public_part(key)
    with pytest.raises(BadSignature, match="does not fit"):
        verify(blob, "enrolment", b"massage")


def test_another_purpose_is_refused() -> None:
    """A signature for logging in, or over a file, admits nobody."""
    with pytest.raises(BadSignature, match="signed for b'file' and not for 'enrolment'"):
        verify(sign(ED25519, "file", b"message"), "enrolment", b"message")


def test_a_weak_rsa_key_proves_nothing() -> None:
    """1024 bits can be factored."""
    with pytest.raises(BadSignature, match="1024 bits proves nothing"):
        verify(sign(rsa.generate_private_key(65537, 1024), "enrolment", b"x"), "enrolment", b"x")


@given(st.integers(0, len(GOOD) * 8 - 1))
def test_every_bit_counts(bit: int) -> None:
    """Whichever one is turned; the reserved field's length is one of them."""
    changed = bytearray(GOOD)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadSignature):
        verify(bytes(changed), "enrolment", b"message")


@given(st.binary(max_size=300) | st.integers(0, len(GOOD) - 1).map(lambda n: GOOD[:n]) | st.just(GOOD + b"x"))
@settings(max_examples=200)
def test_other_bytes_are_refused(blob: bytes) -> None:
    """Cut short, continued, or never a signature: always the same exception."""
    with pytest.raises(BadSignature):
        verify(blob, "enrolment", b"message")


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("style", [serialization.PrivateFormat.OpenSSH, serialization.PrivateFormat.PKCS8])
def test_private_keys_are_read_in_both_formats(kind: str, style: serialization.PrivateFormat) -> None:
    """OpenSSH's own, and PEM from before 2018."""
    data = KEYS[kind].private_bytes(serialization.Encoding.PEM, style, serialization.NoEncryption())
    assert public_part(load_private_key(data)) == public_part(KEYS[kind])


def test_locked_and_foreign_private_keys_are_refused() -> None:
    """With the reason."""
    locked = ED25519.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    for data in (locked, b"", b"-----BEGIN PRIVATE KEY-----\n"):
        with pytest.raises(BadSshKey, match="cannot be read"):
            load_private_key(data)
