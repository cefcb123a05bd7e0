"""Rules that hold for records wherever they are kept."""

from __future__ import annotations

import threading

import pytest
from tests.conformance.conftest import Open
from tests.support.patience import PATIENCE

from hostmesh.control.records import ABSENT, Conflict, Record, Records


def values(records: Records, prefix: str = "") -> dict[str, str]:
    return {key: record.value for key, record in records.under(prefix).items() if not key.startswith("writers/")}


def test_what_was_committed_is_there_at_once_and_after_a_restart(open_store: Open) -> None:
    """Written, replaced and removed, in one transaction or in several."""
    store = open_store()
    store.commit({"a/1": "one", "a/2": 'two\n"ü"', "b": ""})
    store.commit({"a/1": "uno", "a/3": "three", "a/2": None})
    for known in (store, open_store()):
        assert values(known) == {"a/1": "uno", "a/3": "three", "b": ""}
        assert list(values(known, "a/")) == ["a/1", "a/3"]
        assert known.get("a/2") is None
        assert known.fresh("a/2") is None
        found = known.get("a/1")
        assert found is not None
        assert found == known.fresh("a/1")


def test_a_transaction_that_relies_on_what_has_changed_writes_nothing(open_store: Open) -> None:
    """Not even the part that nobody else has touched."""
    store = open_store()
    store.commit({"token": "open"})
    read = store.get("token")
    assert read is not None
    store.commit({"token": "used"}, expect={"token": read.version})
    with pytest.raises(Conflict):
        store.commit({"token": "used again", "other": "x"}, expect={"token": read.version})
    with pytest.raises(Conflict):
        store.commit({"other": "x"}, expect={"token": ABSENT})
    assert values(store) == {"token": "used"}
    store.commit({"other": "x"}, expect={"other": ABSENT})
    assert values(store) == {"token": "used", "other": "x"}


def test_the_same_value_written_again_is_another_version(open_store: Open) -> None:
    """Who has read the first one learns that somebody was there."""
    store = open_store()
    store.commit({"k": "v"})
    first = store.get("k")
    store.commit({"k": "v"})
    second = store.get("k")
    assert first is not None
    assert second is not None
    assert first.version != second.version


def test_of_many_at_the_same_moment_one_wins(open_store: Open) -> None:
    """What makes a join token good once."""
    store = open_store()
    store.commit({"token": "open"})
    read = store.get("token")
    assert read is not None
    version, won, start = read.version, [], threading.Barrier(8)

    def use(number: int) -> None:
        start.wait()
        try:
            store.commit({"token": f"used by {number}"}, expect={"token": version})
            won.append(number)
        except Conflict:
            pass

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert values(store) == {"token": f"used by {won[0]}"}


def test_followers_hear_what_is_there_and_then_each_change_in_order(open_store: Open) -> None:
    """Of their own prefix only."""
    store, heard = open_store(), []
    store.commit({"a/0": "x", "b/0": "x"})

    def changed(key: str, record: Record | None) -> None:
        heard.append((key, record.value if record is not None else None))

    store.follow("a/", changed)
    store.commit({"a/1": "y"})
    store.commit({"b/1": "y"})
    store.commit({"a/1": None, "a/0": "z"})
    assert heard[:2] == [("a/0", "x"), ("a/1", "y")]
    assert sorted(heard[2:], key=str) == [("a/0", "z"), ("a/1", None)]


def test_what_is_held_is_seen_and_can_be_released(open_store: Open) -> None:
    """And heard of by followers, though not at once."""
    store, changed = open_store(), threading.Semaphore(0)
    store.follow("alive/", lambda *_: changed.release())
    store.hold("alive/n1", "here")
    assert changed.acquire(timeout=PATIENCE)
    assert values(store, "alive/") == {"alive/n1": "here"}
    store.release("alive/n1")
    assert changed.acquire(timeout=PATIENCE)
    assert values(store, "alive/") == {}


def test_many_records_in_one_transaction(open_store: Open) -> None:
    """More than one page of a listing."""
    store = open_store()
    many = {f"n/{number:05}": str(number) for number in range(2500)}
    store.commit(many)
    assert values(open_store()) == many
