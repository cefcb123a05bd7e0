"""Take secrets out of text that leaves the host: private keys, tokens, passwords, also where they are encoded."""

from __future__ import annotations

import base64
import binascii
import re

PRIVATE_KEY = "<private key removed>"
TOKEN = "<token removed>"  # noqa: S105 -- what stands in its place
SECRET = "<secret removed>"  # noqa: S105 -- what stands in its place

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_ESCAPED_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^\"']*")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_JOIN_TOKEN = re.compile(r"\b[0-9a-f]{16}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_NAMED = re.compile(
    r"""(?ix)
    (?P<key> ["']? [\w.-]*? (?:token|secret|password|passwd|passphrase|private_?key|api_?key|credentials?) ["']?
      \s* [:=] \s* )
    (?P<value> "(?:[^"\\]|\\.)*" | '[^']*' | [^\s,;}\]]+ )
    """
)
_URL_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")
_HARMLESS = ("null", "none", "true", "false", '""', "''", "{", "[")


def redact(text: str) -> str:
    """The text without what would let anybody act as somebody; certificates and public keys stay."""
    text = _PEM.sub(PRIVATE_KEY, text)
    text = _ESCAPED_PEM.sub(PRIVATE_KEY, text)
    text = _BASE64.sub(_encoded, text)
    text = _JWT.sub(TOKEN, text)
    text = _JOIN_TOKEN.sub(TOKEN, text)
    text = _BEARER.sub(lambda found: f"{found[1]} {TOKEN}", text)
    text = _URL_PASSWORD.sub(lambda found: f"{found['before']}{SECRET}", text)
    return _NAMED.sub(_named, text)


def _encoded(found: re.Match[str]) -> str:
    """Base64 that holds a private key, as PEM or as DER (PKCS #8, SEC 1)."""
    try:
        data = base64.b64decode(found[0] + "=" * (-len(found[0]) % 4))
    except binascii.Error:
        return found[0]
    secret = b"PRIVATE KEY" in data or any(mark in data[:48] for mark in _DER_KEYS)
    return PRIVATE_KEY if secret else found[0]


_DER_KEYS = (
    bytes.fromhex("020100300706"),  # PKCS #8, a key of one algorithm: version 0, then the algorithm
    bytes.fromhex("020100301306072a8648ce3d0201"),  # PKCS #8, elliptic curve
    bytes.fromhex("020100300d06092a864886f70d010101"),  # PKCS #8, RSA
    bytes.fromhex("020100300506032b6570"),  # PKCS #8, Ed25519
    bytes.fromhex("0201010420"),  # SEC 1, P-256
)


def _named(found: re.Match[str]) -> str:
    value = found["value"]
    if value.lower() in _HARMLESS or value.startswith("<"):
        return found[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found['key']}{quote}{SECRET}{quote}"
