"""Rules that hold for documents wherever they stand: a directory, or an etcd with several control planes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conformance.conftest import Open
from tests.support.documents import document
from tests.support.records import records as file_records

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.apply import Input, Refused
from hostmesh.control.directory import Directory
from hostmesh.control.documents.read import ObjectKey
from hostmesh.control.etcd.tree import EtcdTree
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.store import DocumentStore

OpenDocuments = Callable[[], DocumentStore]


@pytest.fixture(params=["directory", "etcd"])
def open_documents(request: pytest.FixtureRequest, tmp_path: Path) -> OpenDocuments:
    """Each call is a start of a control plane; with etcd, of another one."""
    if request.param == "directory":
        (tmp_path / "documents").mkdir()
        return lambda: DocumentStore(
            Directory(tmp_path / "documents", tmp_path / "applying.json"),
            file_records(tmp_path),
            tmp_path,
            MeshConfig(),
        )
    open_etcd: Open = request.getfixturevalue("open_etcd")
    numbers = itertools.count()

    def open_one() -> DocumentStore:
        state = tmp_path / f"state{next(numbers)}"
        state.mkdir()
        records = open_etcd()
        return DocumentStore(EtcdTree(records, Path("etcd:/documents")), records, state, MeshConfig())

    return open_one


def service(name: str) -> str:
    return document(
        "ServiceEntry",
        f"hosts: [{name}.example]\nports: [{{name: tcp, number: 80, protocol: TCP}}]\nresolution: STATIC",
        f"name: {name}",
    )


def started(open_documents: OpenDocuments) -> DocumentStore:
    store = open_documents()
    store.start()
    return store


def live(store: DocumentStore) -> dict[str, list[str]]:
    assert store.current is not None
    return {one.name: [str(vip.ip) for vip in one.vips] for one in store.current.translation.services}


def test_what_is_applied_is_live_and_there_after_a_restart(open_documents: OpenDocuments) -> None:
    """Several documents together, a change, a removal."""
    store = started(open_documents)
    store.apply([Input("a", service("a")), Input("b", service("b"))], dry_run=False)
    assert set(live(store)) == {"a", "b"}
    store.delete(ObjectKey("ServiceEntry", "default", "a"), dry_run=False)
    for known in (store, started(open_documents)):
        assert set(live(known)) == {"b"}
        assert known.problems == ()


def test_a_bad_document_changes_nothing(open_documents: OpenDocuments) -> None:
    """Nor do those that came with it."""
    store = started(open_documents)
    bad = service("b").replace("ports", "prots")
    with pytest.raises(InvalidYaml, match="prots"):
        store.apply([Input("a", service("a")), Input("b", bad)], dry_run=False)
    with pytest.raises(Refused, match="is not there"):
        store.delete(ObjectKey("ServiceEntry", "default", "a"), dry_run=False)
    store.apply([Input("a", service("a"))], dry_run=True)
    assert live(store) == {}
    assert live(started(open_documents)) == {}


def test_addresses_stay_with_their_services(open_documents: OpenDocuments) -> None:
    """Over restarts, and whatever comes and goes around them."""
    store = started(open_documents)
    for name in ("b", "a", "c"):
        store.apply([Input(name, service(name))], dry_run=False)
    before = live(store)
    assert len({vip for vips in before.values() for vip in vips}) == 6
    store.delete(ObjectKey("ServiceEntry", "default", "b"), dry_run=False)
    again = started(open_documents)
    again.apply([Input("d", service("d"))], dry_run=False)
    assert live(again)["a"] == before["a"]
    assert live(again)["c"] == before["c"]
    assert live(started(open_documents)) == live(again)


def test_a_file_is_replaced_as_a_whole(open_documents: OpenDocuments) -> None:
    """What it no longer holds is gone, other files are left alone, and the same again changes nothing."""
    store = started(open_documents)
    store.apply([Input("x", service("x"))], dry_run=False)
    first = store.replace("inventory.yaml", Input("i", service("a") + "---\n" + service("b")), dry_run=False)
    second = Input("i", service("b") + "---\n" + service("c"))
    assert {outcome.action for outcome in first.outcomes} == {"created"}
    said = store.replace("inventory.yaml", second, dry_run=False)
    assert {(one.key.name, one.action) for one in said.outcomes} == {
        ("a", "deleted"),
        ("b", "unchanged"),
        ("c", "created"),
    }
    again = store.replace("inventory.yaml", second, dry_run=False)
    assert {one.action for one in again.outcomes} == {"unchanged"}
    assert set(live(store)) == set(live(started(open_documents))) == {"x", "b", "c"}
    with pytest.raises(InvalidYaml, match="x"):
        store.replace("other.yaml", Input("o", service("x")), dry_run=False)
    with pytest.raises(Refused, match="no name for a file"):
        store.replace("../x.yaml", second, dry_run=False)
    store.replace("inventory.yaml", Input("i", "# nothing\n"), dry_run=False)
    assert set(live(store)) == {"x"}
