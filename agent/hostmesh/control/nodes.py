"""NodeRegistry: the SSH host keys by which the control plane knows its hosts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hostmesh.kernel.files import write_atomically
from hostmesh.model.node import is_node_name
from hostmesh.wire.ssh_key import BadSshKey, SshPublicKey

MAX_NODES = 200_000
MAX_KEYS = 16
"""Of one node; OpenSSH makes three."""

Source = Literal["operator", "token"]
"""Who said that the key is the node's: an operator, or the node itself when a join token admitted it."""


class NodeRegistryBroken(Exception):
    """The file of nodes cannot be read."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One host. `keys` are sorted; `changed` is seconds since the epoch."""

    name: str
    keys: tuple[SshPublicKey, ...]
    source: Source
    changed: float


class NodeRegistry:
    """Registers and looks up. Every change is on disk before its method returns.

    Args:
        path: the file, 0600; read once, here.
        now: seconds since the epoch.

    Raises:
        NodeRegistryBroken: the file is there but is not what this class wrote.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._records = _read(path)

    def get(self, name: str) -> NodeRecord | None:
        """The host of that name, if it is registered."""
        return self._records.get(name)

    def records(self) -> list[NodeRecord]:
        """All of them, by name."""
        return sorted(self._records.values(), key=lambda record: record.name)

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
        known = self._records.get(name)
        wanted = tuple(sorted(given if known is None or replace else given | set(known.keys)))
        if known is not None and known.keys == wanted and (known.source == source or source == "token"):
            return False
        self._check_limits(name, wanted)
        self._check_foreign(name, given)
        self._write({**self._records, name: NodeRecord(name, wanted, source, self._now())})
        return True

    def remove(self, name: str) -> bool:
        """Forget a host; False if it was not registered.

        Raises:
            OSError: it could not be written; nothing was changed.
        """
        if name not in self._records:
            return False
        self._write({key: record for key, record in self._records.items() if key != name})
        return True

    def _check_limits(self, name: str, wanted: tuple[SshPublicKey, ...]) -> None:
        if len(wanted) > MAX_KEYS:
            raise ValueError(f"node {name} would have {len(wanted)} host keys, at most {MAX_KEYS}; use --replace")
        if name not in self._records and len(self._records) >= MAX_NODES:
            raise ValueError(f"there are {MAX_NODES} nodes already")

    def _check_foreign(self, name: str, keys: set[SshPublicKey]) -> None:
        """Two hosts with one key are clones of one image: each could take the other's place."""
        for other in self._records.values():
            shared = keys.intersection(other.keys) if other.name != name else ()
            for key in shared:
                raise ValueError(
                    f"the host key {key.fingerprint} of node {name} is that of node {other.name}: make new host keys "
                    f"on one of them (ssh-keygen -A), or remove the other node if it was renamed"
                )

    def _write(self, records: dict[str, NodeRecord]) -> None:
        nodes = [
            {"name": r.name, "keys": [str(key) for key in r.keys], "source": r.source, "changed": r.changed}
            for r in records.values()
        ]
        write_atomically(self._path, json.dumps({"nodes": nodes}, indent=1).encode())
        self._records = records


def _read(path: Path) -> dict[str, NodeRecord]:
    try:
        return {entry["name"]: _record(entry) for entry in json.loads(path.read_bytes())["nodes"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, BadSshKey) as error:
        raise NodeRegistryBroken(
            f"{path}: the registered host keys cannot be read ({error}); restore the file, or remove it and run the "
            "playbook, which registers them again"
        ) from error


def _record(entry: dict[str, Any]) -> NodeRecord:
    if entry["source"] not in ("operator", "token"):
        raise ValueError(f"unknown source {entry['source']!r}")
    keys = tuple(sorted(SshPublicKey.parse(line) for line in entry["keys"]))
    return NodeRecord(str(entry["name"]), keys, entry["source"], float(entry["changed"]))
