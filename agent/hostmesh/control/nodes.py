"""NodeRegistry: the SSH host keys by which the control plane knows its hosts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from hostmesh.control.records import ABSENT, Conflict, Record, Records, RecordsBroken
from hostmesh.model.node import is_node_name
from hostmesh.wire.ssh_key import BadSshKey, SshPublicKey

MAX_NODES = 200_000
MAX_KEYS = 16
"""Of one node; OpenSSH makes three."""
_PREFIX = "nodes/"

Source = Literal["operator", "token"]
"""Who said that the key is the node's: an operator, or the node itself when a join token admitted it."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One host. `keys` are sorted; `changed` is seconds since the epoch."""

    name: str
    keys: tuple[SshPublicKey, ...]
    source: Source
    changed: float


class NodeRegistry:
    """Registers and looks up.

    A node is `nodes/<name>`; each of its keys is `host-keys/<fingerprint>` too, with the node's name, so that no two
    nodes can have one key, whichever control planes register them.

    Args:
        records: where they are kept.
        now: seconds since the epoch.
    """

    def __init__(self, records: Records, now: Callable[[], float] = time.time) -> None:
        self._records = records
        self._now = now

    def get(self, name: str) -> NodeRecord | None:
        """The host of that name, if it is registered."""
        found = self._records.get(_key(name))
        return self._parse(found) if found is not None else None

    def records(self) -> list[NodeRecord]:
        """All of them, by name."""
        found = [self._parse(record) for record in self._records.under(_PREFIX).values()]
        return sorted(found, key=lambda record: record.name)

    def add(
        self, name: str, keys: Iterable[SshPublicKey], *, replace: bool = False, source: Source = "operator"
    ) -> bool:
        """Register keys of a host beside those it has, or instead of them; whether that changed anything.

        Args:
            name: of the node.
            keys: its host keys, one at least.
            replace: forget the keys that are not among them, as after a new installation.
            source: whose word it is.

        Raises:
            ValueError: not a node name, no key, too many of either, or a key that is another host's.
            OSError: it could not be written; nothing was changed.
        """
        if not is_node_name(name):
            raise ValueError(f"{name!r} is not a node name: use letters, digits, '.', '_' and '-', at most 253")
        given = set(keys)
        if not given:
            raise ValueError(f"node {name} needs a host key: give one from /etc/ssh/ssh_host_ed25519_key.pub")
        while True:
            found = self._records.fresh(_key(name))
            known = self._parse(found) if found is not None else None
            wanted = tuple(sorted(given if known is None or replace else given | set(known.keys)))
            if known is not None and known.keys == wanted and (known.source == source or source == "token"):
                return False
            self._check_limits(name, wanted, known=known is not None)
            changes, expect = self._key_changes(name, wanted, known)
            changes[_key(name)] = _text(NodeRecord(name, wanted, source, self._now()))
            expect[_key(name)] = found.version if found is not None else ABSENT
            try:
                self._records.commit(changes, expect=expect)
            except Conflict:
                continue
            return True

    def remove(self, name: str) -> bool:
        """Forget a host; False if it was not registered.

        Raises:
            OSError: it could not be written; nothing was changed.
        """
        while (found := self._records.fresh(_key(name))) is not None:
            changes: dict[str, str | None] = {_owner(key): None for key in self._parse(found).keys}
            try:
                self._records.commit({**changes, _key(name): None}, expect={_key(name): found.version})
            except Conflict:
                continue
            return True
        return False

    def _check_limits(self, name: str, wanted: tuple[SshPublicKey, ...], *, known: bool) -> None:
        if len(wanted) > MAX_KEYS:
            raise ValueError(f"node {name} would have {len(wanted)} host keys, at most {MAX_KEYS}; use --replace")
        if not known and len(self._records.under(_PREFIX)) >= MAX_NODES:
            raise ValueError(f"there are {MAX_NODES} nodes already")

    def _key_changes(
        self, name: str, wanted: tuple[SshPublicKey, ...], known: NodeRecord | None
    ) -> tuple[dict[str, str | None], dict[str, int]]:
        """Whose the keys are from now on, and what that relies on.

        Two hosts with one key are clones of one image: each could take the other's place.
        """
        held = set(known.keys) if known is not None else set()
        changes: dict[str, str | None] = {_owner(key): None for key in held.difference(wanted)}
        expect: dict[str, int] = {}
        for key in set(wanted) - held:
            owner = self._records.fresh(_owner(key))
            if owner is not None and owner.value != name:
                raise ValueError(
                    f"the host key {key.fingerprint} of node {name} is that of node {owner.value}: make new host keys "
                    f"on one of them (ssh-keygen -A), or remove the other node if it was renamed"
                )
            changes[_owner(key)] = name
            expect[_owner(key)] = owner.version if owner is not None else ABSENT
        return changes, expect

    def _parse(self, found: Record) -> NodeRecord:
        try:
            return _record(json.loads(found.value))
        except (ValueError, TypeError, KeyError, BadSshKey) as error:
            raise RecordsBroken(
                f"{self._records.where}: a registered host cannot be read ({error}); restore it from backup"
            ) from error


def _key(name: str) -> str:
    return f"{_PREFIX}{name}"


def _owner(key: SshPublicKey) -> str:
    return f"host-keys/{key.fingerprint}"


def _text(record: NodeRecord) -> str:
    keys = [str(key) for key in record.keys]
    return json.dumps({"name": record.name, "keys": keys, "source": record.source, "changed": record.changed})


def _record(entry: dict[str, Any]) -> NodeRecord:
    if entry["source"] not in ("operator", "token"):
        raise ValueError(f"unknown source {entry['source']!r}")
    keys = tuple(sorted(SshPublicKey.parse(line) for line in entry["keys"]))
    return NodeRecord(str(entry["name"]), keys, entry["source"], float(entry["changed"]))
