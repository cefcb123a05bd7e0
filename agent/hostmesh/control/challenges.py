"""Challenges for hosts that prove their key: bound to who asked, good once and briefly, nothing kept for strangers.

A challenge carries its own expiry and a keyed hash over everything it is bound to, so asking for a million of them
costs no memory; only those that were answered rightly are remembered, until they expire.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

LIFETIME = 60.0
"""Seconds from question to answer."""

_HEAD = struct.Struct(">Q16s")  # expiry in milliseconds since the epoch, randomness
_TAG_BYTES = 32


class ChallengeRefusal(Enum):
    """Why an answered challenge is not taken: these names are what users and the audit log see."""

    FOREIGN = "CHALLENGE_FOREIGN"
    EXPIRED = "CHALLENGE_EXPIRED"
    REPLAYED = "CHALLENGE_REPLAYED"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a challenge is bound to: the node's name, its request and the connection (`ip:port` of the caller)."""

    node: str
    request_hash: bytes
    connection: str

    def encode(self) -> bytes:
        """Unambiguously: each part with its length."""
        parts = (self.node.encode(), self.request_hash, self.connection.encode())
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@dataclass(slots=True)
class Challenges:
    """Issues and judges. A restart forgets all: those who had just asked ask again."""

    now: Callable[[], float] = time.time
    lifetime: float = LIFETIME
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _used: dict[bytes, float] = field(default_factory=dict)

    def issue(self, asked: Asked) -> bytes:
        """A new challenge."""
        head = _HEAD.pack(int((self.now() + self.lifetime) * 1000), secrets.token_bytes(16))
        return head + self._tag(head, asked)

    def refusal(self, challenge: bytes, asked: Asked) -> ChallengeRefusal | None:
        """Why it cannot be answered by this caller now; None if it can."""
        head, tag = challenge[: _HEAD.size], challenge[_HEAD.size :]
        if len(challenge) != _HEAD.size + _TAG_BYTES or not hmac.compare_digest(tag, self._tag(head, asked)):
            return ChallengeRefusal.FOREIGN
        if challenge in self._used:
            return ChallengeRefusal.REPLAYED
        if self.now() >= _HEAD.unpack(head)[0] / 1000:
            return ChallengeRefusal.EXPIRED
        return None

    def use_up(self, challenge: bytes) -> None:
        """It was answered rightly; once is enough."""
        now = self.now()
        self._used = {used: expires for used, expires in self._used.items() if expires > now}
        self._used[challenge] = _HEAD.unpack(challenge[: _HEAD.size])[0] / 1000

    def _tag(self, head: bytes, asked: Asked) -> bytes:
        return hmac.digest(self._secret, head + asked.encode(), hashlib.sha256)
