"""What was issued is known as long as it may live, over restarts and torn writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.mesh import workload

from hostmesh.control.ledger import Entry, Ledger, LedgerBroken
from hostmesh.model.identity import Identity

WEB, DB = workload("web"), workload("db")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def entry(serial: int, not_after: float = 2000.0, identity: Identity = WEB) -> Entry:
    return Entry(serial, identity, "n", "aa", 1.0, not_after)


def test_what_is_recorded_is_found_until_it_expires(tmp_path: Path) -> None:
    """By number, by identity, and all of it; a restart changes nothing."""
    clock = Clock()
    ledger = Ledger(tmp_path / "issued", clock)
    first, second, other = entry(2**126 + 1), entry(7, 3000.0), entry(8, identity=DB)
    for one in (first, second, other):
        ledger.record(one)
    for known in (ledger, Ledger(tmp_path / "issued", clock)):
        assert known.find(7) == second
        assert known.of_identity(WEB) == [first, second]
        assert list(known.living()) == [first, second, other]
        assert known.find(9) is None
    clock.now = 2000.0
    for known in (ledger, Ledger(tmp_path / "issued", clock)):
        assert known.of_identity(WEB) == [second]
        assert known.find(8) is None
    assert (tmp_path / "issued").stat().st_mode & 0o777 == 0o600


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    """A power cut in the middle of a write."""
    path = tmp_path / "issued"
    ledger = Ledger(path, Clock())
    ledger.record(entry(1))
    ledger.record(entry(2))
    path.write_bytes(path.read_bytes()[:-20] + b"\n" + b'{"serial": "3"}\n[]\n')
    assert [one.serial for one in Ledger(path, Clock()).living()] == [1]


def test_the_file_does_not_grow_without_bound(tmp_path: Path) -> None:
    """Expired certificates leave it."""
    clock = Clock()
    path = tmp_path / "issued"
    ledger = Ledger(path, clock)
    for number in range(6000):
        clock.now += 1
        ledger.record(entry(number + 1, clock.now + 10))
    assert len(path.read_bytes().splitlines()) < 3000
    assert len(list(ledger.living())) == 10
    assert len(ledger._entries) < 3000


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """Nothing is issued that could not be revoked later."""
    (tmp_path / "issued").mkdir()
    with pytest.raises(LedgerBroken, match="issued: cannot be read"):
        Ledger(tmp_path / "issued")
