"""SSH public keys as text and as fingerprints (RFC 4253 §6.6, RFC 8709, RFC 5656; OpenSSH's SHA256 fingerprints)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

ALGORITHMS = frozenset(("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"))
"""Kinds of host keys that prove a host."""

MAX_KEY_BYTES = 4096
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class BadSshKey(ValueError):
    """Not a public key of a host; the text says why."""


@dataclass(frozen=True, slots=True, order=True)
class SshPublicKey:
    """`blob` is the key as it travels, which begins with its algorithm's name; comments are not part of a key."""

    algorithm: str
    blob: bytes

    @classmethod
    def from_blob(cls, blob: bytes) -> SshPublicKey:
        """Read the algorithm's name off a key.

        Raises:
            BadSshKey: cut short, too long, or of a kind that does not prove hosts.
        """
        if len(blob) > MAX_KEY_BYTES:
            raise BadSshKey(f"a key of {len(blob)} bytes is longer than {MAX_KEY_BYTES}")
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 or not 0 < length <= len(blob) - 4:
            raise BadSshKey("the key is cut short")
        algorithm = blob[4 : 4 + length].decode("ascii", "replace")
        if algorithm not in ALGORITHMS:
            raise BadSshKey(f"a key of the kind {algorithm[:64]!r} proves no host; take the ed25519, ecdsa or rsa key")
        return cls(algorithm, blob)

    @classmethod
    def parse(cls, line: str) -> SshPublicKey:
        """Read a line of a `.pub` file or of known_hosts; what stands before and after the key is ignored.

        Raises:
            BadSshKey: there is no such key in the line.
        """
        words = line.split()
        at = next((n for n, word in enumerate(words) if word in ALGORITHMS), None)
        if at is None or at + 1 == len(words):
            kind = next((word for word in words if word.startswith(("ssh-", "sk-", "ecdsa-"))), "")
            why = f"a key of the kind {kind!r} proves no host" if kind else "it holds no SSH public key"
            raise BadSshKey(f"{why}; give a line like `ssh-ed25519 AAAA...` from /etc/ssh/ssh_host_ed25519_key.pub")
        try:
            key = cls.from_blob(base64.b64decode(words[at + 1], validate=True))
        except binascii.Error as error:
            raise BadSshKey(f"the key is not base64 ({error})") from error
        if key.algorithm != words[at]:
            raise BadSshKey(f"the line says {words[at]} but the key is {key.algorithm}")
        return key

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"


def is_fingerprint(text: str) -> bool:
    """Whether it looks like `SHA256:` and 32 bytes in base64."""
    return _FINGERPRINT.fullmatch(text) is not None
