"""The file of records: what a crash, a full disk or a hand leaves in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.records import NAME, records, unwritable

from hostmesh.control.record_file import FileRecords
from hostmesh.control.records import RecordsBroken


def values(kept: FileRecords) -> dict[str, str]:
    return {key: record.value for key, record in kept.under("").items()}


def test_a_crash_at_any_byte_leaves_a_whole_transaction_or_none(tmp_path: Path) -> None:
    """What was acknowledged before is there, and the next write is right again."""
    kept = records(tmp_path)
    kept.commit({"a": "1"})
    before = (tmp_path / NAME).read_bytes()
    kept.commit({"a": "2", "b": "x"})
    after = (tmp_path / NAME).read_bytes()
    for length in range(len(before), len(after) + 1):
        (tmp_path / NAME).write_bytes(after[:length])
        again = records(tmp_path)
        assert values(again) == ({"a": "2", "b": "x"} if length == len(after) else {"a": "1"})
        again.commit({"c": "y"})
        assert values(records(tmp_path)) == values(again)


def test_a_write_that_failed_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not in memory and not in the file, whatever the disk took of it."""
    kept = records(tmp_path)
    kept.commit({"a": "1"})
    with unwritable(tmp_path), pytest.raises(OSError, match=NAME):
        kept.commit({"a": "2"})
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"a": "half')
    assert values(kept) == {"a": "1"}
    kept.commit({"b": "3"})
    assert values(records(tmp_path)) == {"a": "1", "b": "3"}


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"a": 1}', b"\xff"])
def test_damage_is_named_with_its_line(tmp_path: Path, line: bytes) -> None:
    """It is not taken for an end: what follows may be a revocation."""
    (tmp_path / NAME).write_bytes(b'{"a": "1"}\n' + line + b'\n{"b": "1"}\n')
    with pytest.raises(RecordsBroken, match=r"records.jsonl:2: is damaged .*restore the file from backup"):
        records(tmp_path)


def test_history_is_forgotten(tmp_path: Path) -> None:
    """The file stays in proportion to what it holds."""
    kept = records(tmp_path)
    for number in range(10_000):
        kept.commit({"same": str(number)}, durable=False)
    assert len((tmp_path / NAME).read_bytes().splitlines()) < 5000
    assert values(records(tmp_path)) == {"same": "9999"}


def test_what_is_held_does_not_survive(tmp_path: Path) -> None:
    """It stands for a process that lives."""
    records(tmp_path).hold("alive/n", "here")
    assert records(tmp_path).get("alive/n") is None


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.text(max_size=3), max_size=3), max_size=8))
def test_any_sequence_of_transactions_is_read_back(transactions: list[dict[str, str | None]]) -> None:
    """Against a dictionary."""
    import tempfile

    model: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        kept = records(Path(directory))
        for changes in transactions:
            kept.commit(changes, durable=False)
            model.update({key: value for key, value in changes.items() if value is not None})
            for key in [key for key, value in changes.items() if value is None]:
                model.pop(key, None)
        assert values(kept) == values(records(Path(directory))) == model
