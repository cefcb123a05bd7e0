"""What was issued is known as long as it may live, over restarts and torn writes."""

from __future__ import annotations

from pathlib import Path

from tests.support.mesh import workload
from tests.support.records import NAME, records

from hostmesh.control.ledger import Entry, Ledger
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
    ledger = Ledger(records(tmp_path), clock)
    first, second, other = entry(2**126 + 1), entry(7, 3000.0), entry(8, identity=DB)
    for one in (first, second, other):
        ledger.record(one)
    for known in (ledger, Ledger(records(tmp_path), clock)):
        assert known.find(7) == second
        assert known.of_identity(WEB) == [first, second]
        assert list(known.living()) == [first, second, other]
        assert known.find(9) is None
    clock.now = 2000.0
    for known in (ledger, Ledger(records(tmp_path), clock)):
        assert known.of_identity(WEB) == [second]
        assert known.find(8) is None
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_a_certificate_that_names_several_is_each_ones(tmp_path: Path) -> None:
    """So that it is revoked with any of them; a restart changes nothing."""
    clock = Clock()
    ledger = Ledger(records(tmp_path), clock)
    shared = Entry(5, workload("mesh2", "hostmesh-inbound"), "mesh2", "aa", 1.0, 2000.0, (DB, WEB))
    ledger.record(entry(1))
    ledger.record(shared)
    for known in (ledger, Ledger(records(tmp_path), clock)):
        assert known.of_identity(DB) == [shared]
        assert [one.serial for one in known.of_identity(WEB)] == [1, 5]
        assert len(list(known.living())) == 2


def test_an_entry_that_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    """The others can still be revoked."""
    kept = records(tmp_path)
    Ledger(kept, Clock()).record(entry(1))
    kept.commit({"issued/3": '{"serial": "3"}', "issued/4": "[]", "issued/x": "{"})
    assert [one.serial for one in Ledger(kept, Clock()).living()] == [1]


def test_what_has_expired_does_not_pile_up(tmp_path: Path) -> None:
    """Expired certificates are forgotten, a few with each new one."""
    clock = Clock()
    ledger = Ledger(records(tmp_path), clock)
    for number in range(9000):
        clock.now += 1
        ledger.record(entry(number + 1, clock.now + 10))
    assert len(list(ledger.living())) == 10
    assert len(ledger._entries) < 1000
    assert len((tmp_path / NAME).read_bytes().splitlines()) < 9000


def test_another_control_plane_s_certificates_are_known(tmp_path: Path) -> None:
    """Revocation of an identity means all of them."""
    shared = records(tmp_path)
    one, other = Ledger(shared, Clock()), Ledger(shared, Clock())
    one.record(entry(1))
    assert other.of_identity(WEB) == [entry(1)]
