"""What only a shared store can promise: control planes that act at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tests.conformance.conftest import Open
from tests.conformance.test_documents import live, service

from hostmesh.control.apply import Input
from hostmesh.control.etcd.records import EtcdRecords
from hostmesh.control.etcd.tree import EtcdTree
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.store import DocumentStore
from hostmesh.control.tokens import TokenRefusal, TokenRefused, TokenStore


def at_once(*works: Callable[[], None]) -> None:
    """Each in a thread of its own, begun together."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_token_admits_at_one_of_them(open_etcd: Open) -> None:
    """Brought to three at the same moment, thirty times over."""
    stores = [TokenStore(open_etcd()) for _ in range(3)]
    for _ in range(30):
        token, outcomes = stores[0].mint("n"), []

        def redeem(store: TokenStore, token: str = token, outcomes: list[str] = outcomes) -> None:
            try:
                store.redeem("n", token)
                outcomes.append("admitted")
            except TokenRefused as refused:
                outcomes.append(refused.reason.name)

        at_once(*(lambda store=store: redeem(store) for store in stores))
        assert sorted(outcomes) == [TokenRefusal.REPLAYED.name] * 2 + ["admitted"]


def test_documents_applied_at_the_same_moment_are_all_there(open_etcd: Open, tmp_path: Path) -> None:
    """And every control plane has given every service the same address, which no other service has."""
    stores: list[DocumentStore] = []
    for number in range(3):
        records, state = open_etcd(), tmp_path / str(number)
        state.mkdir()
        stores.append(DocumentStore(EtcdTree(records, Path("etcd:/documents")), records, state, MeshConfig()))
        stores[-1].start()

    def apply(number: int) -> None:
        for count in range(5):
            name = f"s{number}-{count}"
            stores[number].apply([Input(name, service(name))], dry_run=False)

    at_once(*(lambda number=number: apply(number) for number in range(3)))
    for store in stores:
        for _ in range(100):
            store.refresh()
            if len(live(store)) == 15:
                break
            threading.Event().wait(0.02)
    first = live(stores[0])
    assert len(first) == 15
    assert live(stores[1]) == live(stores[2]) == first
    assert len({vip for vips in first.values() for vip in vips}) == 30


def test_what_is_held_vanishes_with_its_holder(open_etcd: Callable[[], EtcdRecords]) -> None:
    """Within the lease's time, unless another control plane has taken it over."""
    one, other = open_etcd(), open_etcd()
    gone, taken = threading.Event(), threading.Event()
    one.hold("alive/a", "one")
    one.hold("alive/b", "one")
    other.follow("alive/a", lambda _, record: gone.set() if record is None else None)
    other.follow("alive/b", lambda _, record: taken.set() if record is not None and record.value == "other" else None)
    for _ in range(200):
        if len(other.under("alive/")) == 2:
            break
        threading.Event().wait(0.02)
    other.hold("alive/b", "other")
    assert taken.wait(10)
    one.close()
    assert gone.wait(15)
    assert {key: record.value for key, record in other.under("alive/").items()} == {"alive/b": "other"}
