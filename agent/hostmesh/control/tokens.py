"""Join tokens: single-use, short-lived, bound to one node (and to its host key or address), stored as hashes only."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Any

from hostmesh.control.records import Conflict, Record, Records, RecordsBroken
from hostmesh.model.node import is_node_name
from hostmesh.wire.ssh_key import is_fingerprint

DEFAULT_TTL = 3600.0
MAX_TTL = 7 * 86400.0
REMEMBER = 30 * 86400.0
"""Used and expired tokens are remembered so long after their expiry, so that the refusal can say which they were."""
MAX_TOKENS = 20_000
_PREFIX = "tokens/"
_IDENTIFIER = re.compile("[0-9a-f]{16}")
_FORGET_AT_ONCE = 100
"""Of old ones, whenever a new one is minted; etcd limits what a transaction may do."""


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
    """Mints and redeems. A token that is brought to two control planes at the same moment is taken by one of them.

    Args:
        records: where they are kept, under `tokens/`.
        now: seconds since the epoch.
    """

    def __init__(self, records: Records, now: Callable[[], float] = time.time) -> None:
        self._records = records
        self._now = now

    def mint(self, node: str, ttl: float = DEFAULT_TTL, *, host_key: str = "", addresses: Iterable[str] = ()) -> str:
        """A new token that admits `node` once within `ttl` seconds; this is the only time it is seen.

        Args:
            node: name.
            ttl: seconds.
            host_key: fingerprint of the SSH host key that the bearer must prove; empty for any.
            addresses: networks in CIDR form that the bearer must come from; none for any.

        Raises:
            ValueError: one of these is not what it should be, or there are too many open tokens.
            OSError: it could not be recorded.
        """
        if not is_node_name(node):
            raise ValueError(f"{node!r} is not a node name: use letters, digits, '.', '_' and '-', at most 253")
        if not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"a join token lives 1 s to {MAX_TTL:.0f} s, not {ttl:g} s")
        if host_key and not is_fingerprint(host_key):
            raise ValueError(f"{host_key!r} is not a fingerprint of a host key like SHA256:...")
        networks = tuple(str(ip_network(address, strict=False)) for address in addresses)
        kept = self._kept()
        old = [key for key, record in kept.items() if record.expires <= self._now() - REMEMBER]
        if len(kept) - len(old) >= MAX_TOKENS:
            raise ValueError(f"there are {MAX_TOKENS} join tokens already: wait until some expire")
        identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        now = self._now()
        record = TokenRecord(identifier, _hash(secret), node, now, now + ttl, host_key=host_key, addresses=networks)
        self._records.commit({_key(identifier): _text(record), **dict.fromkeys(old[:_FORGET_AT_ONCE])})
        return f"{identifier}.{secret}"

    def redeem(self, node: str, token: str, bearer: Bearer = NOBODY) -> TokenRecord:
        """Use the token up for `node`. A refused attempt does not use it up.

        Raises:
            TokenRefused: it does not admit this node now.
            OSError: the use could not be recorded; the token stays unused.
        """
        while True:
            record, version = self._find(token)
            now = self._now()
            self._check_place(record, node, bearer)
            self._check_time(record, node, now)
            used = replace(record, used=now)
            try:
                self._records.commit({_key(record.id): _text(used)}, expect={_key(record.id): version})
            except Conflict:
                continue  # somebody else was there: the next look says who
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
        return sorted((replace(r, hash="") for r in self._kept().values()), key=lambda r: r.minted)

    def revoke(self, identifier: str) -> TokenRecord | None:
        """Make an open token unusable; what became of it, None if there is no such token.

        Raises:
            OSError: it could not be recorded; the token is still good.
        """
        while (found := self._records.fresh(_key(identifier))) is not None:
            record = _record(self._records.where, found)
            if record.state(self._now()) != "open":
                return replace(record, hash="")
            record = replace(record, revoked=self._now())
            try:
                self._records.commit({_key(identifier): _text(record)}, expect={_key(identifier): found.version})
            except Conflict:
                continue
            return replace(record, hash="")
        return None

    def _find(self, token: str) -> tuple[TokenRecord, int]:
        """The token and its version, as they are now whichever control plane has written them."""
        identifier, _, secret = token.partition(".")
        found = self._records.fresh(_key(identifier)) if _IDENTIFIER.fullmatch(identifier) else None
        record = _record(self._records.where, found) if found is not None else None
        expected = record.hash if record is not None else _hash("")
        if not hmac.compare_digest(_hash(secret), expected) or record is None or found is None:
            raise TokenRefused(
                TokenRefusal.UNKNOWN, "this control plane minted no such join token, or long ago; mint a new one"
            )
        return record, found.version

    def _kept(self) -> dict[str, TokenRecord]:
        where = self._records.where
        return {key: _record(where, record) for key, record in self._records.under(_PREFIX).items()}


def _key(identifier: str) -> str:
    return f"{_PREFIX}{identifier}"


def _text(record: TokenRecord) -> str:
    return json.dumps(asdict(record))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _record(where: str, found: Record) -> TokenRecord:
    try:
        entry: dict[str, Any] = json.loads(found.value)
        return TokenRecord(**{**entry, "addresses": tuple(entry.get("addresses", ()))})
    except (ValueError, TypeError) as error:
        raise RecordsBroken(f"{where}: a join token cannot be read ({error}); restore it from backup") from error


def _is_in(address: str, networks: Iterable[str]) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in ip_network(network) for network in networks)
