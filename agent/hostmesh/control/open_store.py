"""The store that the configuration names, opened: records, documents, and the shelf of our own authority."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostmesh.control import plugged_ca
from hostmesh.control.config import ControlPlaneConfig, EtcdStore
from hostmesh.control.directory import Directory
from hostmesh.control.document_tree import DocumentTree
from hostmesh.control.etcd.client import EtcdEndpoints, members
from hostmesh.control.etcd.records import EtcdRecords
from hostmesh.control.etcd.tree import EtcdTree
from hostmesh.control.record_file import FileRecords
from hostmesh.control.records import Records, RecordsBroken
from hostmesh.control.shelf import DirectoryShelf, RecordShelf, Shelf, read_encryption_key
from hostmesh.kernel.files import write_atomically

START_TIMEOUT = 15.0
"""Seconds that etcd may take to answer at the start; systemd tries again."""


@dataclass(frozen=True, slots=True)
class Store:
    """All parts. `problem` tells why what is known may be old; `name` is this control plane's own."""

    records: Records
    documents: DocumentTree
    shelf: Shelf
    name: str
    problem: Callable[[], str]
    close: Callable[[], None]


def open_store(config: ControlPlaneConfig) -> Store:
    """Open it; `close` it at the end.

    Raises:
        RecordsBroken: what is kept is damaged.
        CaBroken: the key for our own authority's keys is not usable.
        StoreUnavailable: etcd does not answer.
        OSError: a directory is not usable.
    """
    ca = config.state_dir / "ca"
    if config.store.etcd is not None:
        return _open_etcd(config, config.store.etcd, ca)
    config.documents_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    return Store(
        FileRecords(config.state_dir / "records.jsonl"),
        Directory(config.documents_dir, config.state_dir / "applying.json"),
        DirectoryShelf(ca),
        _name(config.state_dir),
        problem=lambda: "",
        close=lambda: None,
    )


def _open_etcd(config: ControlPlaneConfig, etcd: EtcdStore, ca: Path) -> Store:
    endpoints = EtcdEndpoints(members(etcd.endpoints), etcd.root_cert, etcd.cert, etcd.key)
    name = _name(config.state_dir)
    needless = plugged_ca.is_plugged(ca) and not etcd.encryption_key_file.exists()
    key = None if needless else read_encryption_key(etcd.encryption_key_file)
    records = EtcdRecords(endpoints, prefix=etcd.prefix, writer=name, lease_ttl=config.registry.lease)
    records.start(START_TIMEOUT)
    return Store(
        records,
        EtcdTree(records, Path(f"etcd:{etcd.prefix}documents")),
        RecordShelf(records, key) if key is not None else DirectoryShelf(ca),
        name,
        problem=lambda: records.problem,
        close=records.close,
    )


def _name(state: Path) -> str:
    """An identifier that no other control plane has, kept over restarts."""
    path = state / "name"
    try:
        name = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        name = ""
    except UnicodeDecodeError as error:
        raise RecordsBroken(f"{path}: is damaged ({error}); remove it") from error
    if not name:
        name = secrets.token_hex(8)
        write_atomically(path, name.encode())
    return name
