"""Join tokens: single-use, short-lived, bound to one node, stored as hashes only."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from hostmesh.kernel.files import write_atomically
from hostmesh.model.node import is_node_name

DEFAULT_TTL = 3600.0
MAX_TTL = 7 * 86400.0
REMEMBER = 30 * 86400.0
"""Used and expired tokens are remembered so long after their expiry, so that the refusal can say which they were."""
MAX_TOKENS = 20_000


class TokenRefusal(Enum):
    """Why a token does not admit: these names are what users and the audit log see."""

    UNKNOWN = "TOKEN_UNKNOWN"
    REPLAYED = "TOKEN_REPLAYED"
    EXPIRED = "TOKEN_EXPIRED"
    WRONG_NODE = "TOKEN_WRONG_NODE"


class TokenRefused(Exception):
    """The token does not admit this node."""

    def __init__(self, reason: TokenRefusal, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason


class TokenStoreBroken(Exception):
    """The file of tokens cannot be read."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token. `id` is public; times are seconds since the epoch; `used` 0 means never."""

    id: str
    hash: str
    node: str
    minted: float
    expires: float
    used: float = 0.0


class TokenStore:
    """Mints and redeems. Every change is on disk before its method returns, so a restart forgets no use.

    Args:
        path: the file, 0600; read once, here.
        now: seconds since the epoch.

    Raises:
        TokenStoreBroken: the file is there but is not what this class wrote.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._records = _read(path)

    def mint(self, node: str, ttl: float = DEFAULT_TTL) -> str:
        """A new token that admits `node` once within `ttl` seconds; this is the only time it is seen.

        Raises:
            ValueError: not a node name, or a lifetime outside 1 s to 7 days, or too many open tokens.
        """
        if not is_node_name(node):
            raise ValueError(f"{node!r} is not a node name: use letters, digits, '.', '_' and '-', at most 253")
        if not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"a join token lives 1 s to {MAX_TTL:.0f} s, not {ttl:g} s")
        self._prune()
        if len(self._records) >= MAX_TOKENS:
            raise ValueError(f"there are {MAX_TOKENS} join tokens already: wait until some expire")
        identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        now = self._now()
        self._put(TokenRecord(identifier, _hash(secret), node, now, now + ttl))
        return f"{identifier}.{secret}"

    def redeem(self, node: str, token: str) -> TokenRecord:
        """Use the token up for `node`. A refused attempt does not use it up.

        Raises:
            TokenRefused: it does not admit this node now.
            OSError: the use could not be recorded; the token stays unused.
        """
        record = self._find(token)
        now = self._now()
        if record.node != node:
            raise TokenRefused(
                TokenRefusal.WRONG_NODE, f"the join token {record.id} was minted for another node than {node!r}"
            )
        if record.used:
            raise TokenRefused(
                TokenRefusal.REPLAYED, f"the join token {record.id} has been used already; mint a new one for {node!r}"
            )
        if now >= record.expires:
            raise TokenRefused(
                TokenRefusal.EXPIRED,
                f"the join token {record.id} expired {now - record.expires:.0f} s ago; mint a new one for {node!r}",
            )
        used = replace(record, used=now)
        self._put(used)
        return used

    def records(self) -> list[TokenRecord]:
        """All remembered tokens, oldest first, without what would let anyone use them."""
        return sorted((replace(r, hash="") for r in self._records.values()), key=lambda r: r.minted)

    def revoke(self, identifier: str) -> bool:
        """Make an open token unusable (it will be refused as expired); False if there is no such token."""
        record = self._records.get(identifier)
        if record is None:
            return False
        if not record.used:
            self._put(replace(record, expires=min(record.expires, self._now())))
        return True

    def _find(self, token: str) -> TokenRecord:
        identifier, _, secret = token.partition(".")
        record = self._records.get(identifier)
        expected = record.hash if record is not None else _hash("")
        if not hmac.compare_digest(_hash(secret), expected) or record is None:
            raise TokenRefused(
                TokenRefusal.UNKNOWN, "this control plane minted no such join token, or long ago; mint a new one"
            )
        return record

    def _put(self, record: TokenRecord) -> None:
        changed = {**self._records, record.id: record}
        write_atomically(self._path, json.dumps({"tokens": [asdict(r) for r in changed.values()]}).encode())
        self._records = changed

    def _prune(self) -> None:
        horizon = self._now() - REMEMBER
        self._records = {key: r for key, r in self._records.items() if r.expires > horizon}


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(path: Path) -> dict[str, TokenRecord]:
    try:
        values = json.loads(path.read_bytes())
        return {entry["id"]: TokenRecord(**entry) for entry in values["tokens"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TokenStoreBroken(
            f"{path}: the join tokens cannot be read ({error}); restore the file, or remove it: "
            "tokens that are still open are then refused and must be minted again"
        ) from error
