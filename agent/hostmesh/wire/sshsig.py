"""Signatures by SSH keys over anything (OpenSSH PROTOCOL.sshsig, version 1): what `ssh-keygen -Y` makes and checks.

The namespace keeps purposes apart: nothing signed here is of use where the same key logs in, or signs other things.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from hostmesh.wire.ssh_key import BadSshKey, SshPublicKey

MAX_SIGNATURE_BYTES = 8192
_MAGIC = b"SSHSIG"
_VERSION = 1
_DIGEST = b"sha512"
_MIN_RSA_BITS = 2048
_RSA_ALGORITHM = b"rsa-sha2-512"
_CURVES: dict[str, hashes.HashAlgorithm] = {
    "ecdsa-sha2-nistp256": hashes.SHA256(),
    "ecdsa-sha2-nistp384": hashes.SHA384(),
    "ecdsa-sha2-nistp521": hashes.SHA512(),
}

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class BadSignature(ValueError):
    """Not a signature, or not one of this key over this message; the text says which."""


def load_private_key(data: bytes) -> PrivateKey:
    """A private key without a passphrase, in OpenSSH's format or in PEM.

    Raises:
        BadSshKey: unreadable, locked, or of a kind that proves no host.
    """
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    try:
        key = load(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadSshKey(f"the private key cannot be read ({error})") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadSshKey(f"a key of the kind {type(key).__name__} proves no host")
    return key


def public_part(key: PrivateKey) -> SshPublicKey:
    """What others know of it.

    Raises:
        BadSshKey: on a curve that SSH has no name for.
    """
    try:
        text = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadSshKey(str(error)) from error
    return SshPublicKey.parse(text.decode())


def sign(key: PrivateKey, namespace: str, message: bytes) -> bytes:
    """The signature blob; the key's public part is in it.

    Raises:
        BadSshKey: on a curve that SSH has no name for.
    """
    public = public_part(key)
    signed = _to_be_signed(namespace.encode(), _DIGEST, message)
    match key:
        case ed25519.Ed25519PrivateKey():
            algorithm, value = b"ssh-ed25519", key.sign(signed)
        case rsa.RSAPrivateKey():
            algorithm, value = _RSA_ALGORITHM, key.sign(signed, padding.PKCS1v15(), hashes.SHA512())
        case _:
            algorithm = public.algorithm.encode()
            r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(_CURVES[public.algorithm])))
            value = _string(_mpint(r)) + _string(_mpint(s))
    return b"".join(
        [
            _MAGIC,
            _VERSION.to_bytes(4, "big"),
            _string(public.blob),
            _string(namespace.encode()),
            _string(b""),
            _string(_DIGEST),
            _string(_string(algorithm) + _string(value)),
        ]
    )


def signer(blob: bytes) -> SshPublicKey:
    """Whose signature it claims to be, unchecked.

    Raises:
        BadSignature: not a signature.
    """
    return _parse(blob)[0]


def verify(blob: bytes, namespace: str, message: bytes) -> SshPublicKey:
    """Whose signature over this message, for this purpose, it is.

    Raises:
        BadSignature: it is none.
    """
    public, signed_namespace, digest, algorithm, value = _parse(blob)
    if signed_namespace != namespace.encode():
        raise BadSignature(f"signed for {signed_namespace[:64]!r} and not for {namespace!r}")
    try:
        _check(public, algorithm, value, _to_be_signed(signed_namespace, digest, message))
    except InvalidSignature as error:
        raise BadSignature(f"the signature does not fit the key {public.fingerprint} and the message") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadSignature(f"the signature cannot be checked ({error})") from error
    return public


def _check(public: SshPublicKey, algorithm: bytes, value: bytes, signed: bytes) -> None:
    key = serialization.load_ssh_public_key(str(public).encode())
    expected = _RSA_ALGORITHM if public.algorithm == "ssh-rsa" else public.algorithm.encode()
    if algorithm != expected:
        raise BadSignature(f"signed as {algorithm[:64]!r} where {expected.decode()} is asked for")
    match key:
        case ed25519.Ed25519PublicKey():
            key.verify(value, signed)
        case rsa.RSAPublicKey():
            if key.key_size < _MIN_RSA_BITS:
                raise BadSignature(f"an RSA key of {key.key_size} bits proves nothing; {_MIN_RSA_BITS} are the least")
            key.verify(value, signed, padding.PKCS1v15(), hashes.SHA512())
        case ec.EllipticCurvePublicKey():
            reader = _Reader(value)
            r, s = int.from_bytes(reader.string(), "big"), int.from_bytes(reader.string(), "big")
            reader.end()
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_CURVES[public.algorithm]))
        case _:
            raise BadSignature(f"a key of the kind {public.algorithm} proves no host")


def _parse(blob: bytes) -> tuple[SshPublicKey, bytes, bytes, bytes, bytes]:
    """Public key, namespace, digest's name, signature algorithm, signature."""
    if len(blob) > MAX_SIGNATURE_BYTES:
        raise BadSignature(f"a signature of {len(blob)} bytes is longer than {MAX_SIGNATURE_BYTES}")
    reader = _Reader(blob)
    if reader.take(len(_MAGIC)) != _MAGIC or int.from_bytes(reader.take(4), "big") != _VERSION:
        raise BadSignature("not an SSH signature of version 1")
    try:
        public = SshPublicKey.from_blob(reader.string())
    except BadSshKey as error:
        raise BadSignature(str(error)) from error
    namespace, _reserved, digest, signature = reader.string(), reader.string(), reader.string(), reader.string()
    reader.end()
    if digest not in (b"sha256", b"sha512"):
        raise BadSignature(f"the message was hashed with {digest[:64]!r}, which is neither sha256 nor sha512")
    inner = _Reader(signature)
    algorithm, value = inner.string(), inner.string()
    inner.end()
    return public, namespace, digest, algorithm, value


def _to_be_signed(namespace: bytes, digest: bytes, message: bytes) -> bytes:
    hashed = hashlib.new(digest.decode(), message).digest()
    return _MAGIC + _string(namespace) + _string(b"") + _string(digest) + _string(hashed)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _mpint(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


class _Reader:
    """Takes fields off a blob; never past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, n: int) -> bytes:
        if n > len(self._data) - self._at:
            raise BadSignature("the signature is cut short")
        self._at += n
        return self._data[self._at - n : self._at]

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        if self._at != len(self._data):
            raise BadSignature("there is something behind the signature")
