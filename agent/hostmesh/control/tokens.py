"""Join tokens: single-use, short-lived, bound to one node (and to its host key or address), stored as hashes only."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from hostmesh.kernel.files import write_atomically
from hostmesh.model.node import is_node_name
from hostmesh.wire.ssh_key import is_fingerprint

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
    REVOKED = "TOKEN_REVOKED"
    WRONG_NODE = "TOKEN_WRONG_NODE"
    WRONG_ADDRESS = "TOKEN_WRONG_ADDRESS"
    WRONG_HOST_KEY = "TOKEN_WRONG_HOST_KEY"


class TokenRefused(Exception):
    """The token does not admit this node."""

    def __init__(self, reason: TokenRefusal, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason
        self.text = text


class TokenStoreBroken(Exception):
    """The file of tokens cannot be read."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token. `id` is public; times are seconds since the epoch; 0 means never.

    `host_key` is a fingerprint, `addresses` are networks; empty ones bind to nothing.
    """

    id: str
    hash: str
    node: str
    minted: float
    expires: float
    used: float = 0.0
    revoked: float = 0.0
    host_key: str = ""
    addresses: tuple[str, ...] = ()

    def state(self, now: float) -> str:
        """In one word: open, used, revoked or expired."""
        if self.used:
            return "used"
        if self.revoked:
            return "revoked"
        return "open" if now < self.expires else "expired"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who brings a token, as the control plane saw it: its IP (empty if unknown), and the host keys it has proven."""

    address: str = ""
    host_keys: frozenset[str] = frozenset()


NOBODY = Bearer()


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

    def mint(self, node: str, ttl: float = DEFAULT_TTL, *, host_key: str = "", addresses: Iterable[str] = ()) -> str:
        """A new token that admits `node` once within `ttl` seconds; this is the only time it is seen.

        Args:
            node: name.
            ttl: seconds.
            host_key: fingerprint of the SSH host key that the bearer must prove; empty for any.
            addresses: networks in CIDR form that the bearer must come from; none for any.

        Raises:
            ValueError: one of these is not what it should be, or there are too many open tokens.
        """
        if not is_node_name(node):
            raise ValueError(f"{node!r} is not a node name: use letters, digits, '.', '_' and '-', at most 253")
        if not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"a join token lives 1 s to {MAX_TTL:.0f} s, not {ttl:g} s")
        if host_key and not is_fingerprint(host_key):
            raise ValueError(f"{host_key!r} is not a fingerprint of a host key like SHA256:...")
        networks = tuple(str(ip_network(address, strict=False)) for address in addresses)
        self._prune()
        if len(self._records) >= MAX_TOKENS:
            raise ValueError(f"there are {MAX_TOKENS} join tokens already: wait until some expire")
        identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        now = self._now()
        self._put(TokenRecord(identifier, _hash(secret), node, now, now + ttl, host_key=host_key, addresses=networks))
        return f"{identifier}.{secret}"

    def redeem(self, node: str, token: str, bearer: Bearer = NOBODY) -> TokenRecord:
        """Use the token up for `node`. A refused attempt does not use it up.

        Raises:
            TokenRefused: it does not admit this node now.
            OSError: the use could not be recorded; the token stays unused.
        """
        record = self._find(token)
        now = self._now()
        self._check_place(record, node, bearer)
        self._check_time(record, node, now)
        used = replace(record, used=now)
        self._put(used)
        return used

    def _check_place(self, record: TokenRecord, node: str, bearer: Bearer) -> None:
        """Elsewhere: another node, network or machine than it was minted for."""
        if record.node != node:
            raise TokenRefused(
                TokenRefusal.WRONG_NODE, f"the join token {record.id} was minted for another node than {node!r}"
            )
        if record.addresses and not _is_in(bearer.address, record.addresses):
            raise TokenRefused(
                TokenRefusal.WRONG_ADDRESS,
                f"the join token {record.id} is good from {', '.join(record.addresses)} only, and this host is seen as "
                f"{bearer.address or 'unknown'}",
            )
        if record.host_key and record.host_key not in bearer.host_keys:
            shown = ", ".join(sorted(bearer.host_keys)) or "none"
            raise TokenRefused(
                TokenRefusal.WRONG_HOST_KEY,
                f"the join token {record.id} is good for the host with the SSH host key {record.host_key} only; this "
                f"host has proven {shown}",
            )

    def _check_time(self, record: TokenRecord, node: str, now: float) -> None:
        """Late: used, withdrawn or run out."""
        if record.used:
            raise TokenRefused(
                TokenRefusal.REPLAYED, f"the join token {record.id} has been used already; mint a new one for {node!r}"
            )
        if record.revoked:
            raise TokenRefused(
                TokenRefusal.REVOKED, f"the join token {record.id} was revoked; mint a new one for {node!r}"
            )
        if now >= record.expires:
            raise TokenRefused(
                TokenRefusal.EXPIRED,
                f"the join token {record.id} expired {now - record.expires:.0f} s ago; mint a new one for {node!r}",
            )

    def records(self) -> list[TokenRecord]:
        """All remembered tokens, oldest first, without what would let anyone use them."""
        return sorted((replace(r, hash="") for r in self._records.values()), key=lambda r: r.minted)

    def revoke(self, identifier: str) -> TokenRecord | None:
        """Make an open token unusable; what became of it, None if there is no such token.

        Raises:
            OSError: it could not be recorded; the token is still good.
        """
        record = self._records.get(identifier)
        if record is not None and record.state(self._now()) == "open":
            record = replace(record, revoked=self._now())
            self._put(record)
        return None if record is None else replace(record, hash="")

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
        return {entry["id"]: _record(entry) for entry in values["tokens"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TokenStoreBroken(
            f"{path}: the join tokens cannot be read ({error}); restore the file, or remove it: "
            "tokens that are still open are then refused and must be minted again"
        ) from error


def _record(entry: dict[str, Any]) -> TokenRecord:
    return TokenRecord(**{**entry, "addresses": tuple(entry.get("addresses", ()))})


def _is_in(address: str, networks: Iterable[str]) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in ip_network(network) for network in networks)
