"""The stores under test: the real ones, a file on a disk and an etcd cluster of three."""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.etcd import Cluster, etcd_cluster

from hostmesh.control.etcd.records import EtcdRecords
from hostmesh.control.record_file import FileRecords
from hostmesh.control.records import Records

_numbers = itertools.count()

LEASE = 5.0
"""Seconds, of hosts at the control planes of tests."""


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with etcd_cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


Open = Callable[[], Records]
"""Each call is what another start, or another control plane, sees."""


@pytest.fixture
def close_etcd() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def open_etcd(etcd: Cluster, close_etcd: ExitStack) -> Callable[[], EtcdRecords]:
    prefix = f"/test{next(_numbers)}/"

    def open_one() -> EtcdRecords:
        records = EtcdRecords(etcd.endpoints, prefix=prefix, writer=f"w{next(_numbers)}", lease_ttl=3.0)
        records.start()
        close_etcd.callback(records.close)
        return records

    return open_one


@pytest.fixture(params=["file", "etcd"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "etcd":
        opened: Open = request.getfixturevalue("open_etcd")
        return opened
    return lambda: FileRecords(tmp_path / "records.jsonl")


@pytest.fixture
def settings(etcd: Cluster, tmp_path: Path) -> dict[str, Any]:
    key = tmp_path / "store.key"
    key.write_bytes(base64.b64encode(os.urandom(32)))
    store = {
        "endpoints": [member.url for member in etcd.members],
        "prefix": f"/mesh{next(_numbers)}/",
        "encryption_key_file": str(key),
    }
    return {"store": {"etcd": store}, "registry": {"lease": LEASE}}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened
