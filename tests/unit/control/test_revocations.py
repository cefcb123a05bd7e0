"""What is taken back stays so: over restarts, for its whole life, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.mesh import workload
from tests.support.records import NAME, records, unwritable

from hostmesh.control.ledger import Entry
from hostmesh.control.records import RecordsBroken
from hostmesh.control.revocations import HOLD, REASONS, UNKNOWN_LIFETIME, Revocations

WEB = workload("web")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def entry(serial: int, not_after: float = 2000.0) -> Entry:
    return Entry(serial, WEB, "n", "aa", 1.0, not_after)


def test_an_identity_is_revoked_with_its_certificates(tmp_path: Path) -> None:
    """And what another of its certificates says does not matter any more."""
    revocations = Revocations(records(tmp_path), Clock())
    revocations.revoke_identity(WEB, "keyCompromise", [entry(2**127), entry(2)])
    for known in (revocations, Revocations(records(tmp_path), Clock())):
        assert known.has_identity(WEB)
        assert known.revokes(99, WEB)
        assert known.revokes(2, workload("other"))
        assert not known.revokes(3, workload("other"))
        assert [(one.serial, one.issuer, one.reason) for one in known.serials] == [
            (2, "aa", "keyCompromise"),
            (2**127, "aa", "keyCompromise"),
        ]
        assert known.number == 1
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_unrevoking_admits_the_identity_and_not_its_old_keys(tmp_path: Path) -> None:
    """A stolen key stays worthless; the workload gets a new one."""
    revocations = Revocations(records(tmp_path), Clock())
    revocations.revoke_identity(WEB, "keyCompromise", [entry(1)])
    assert revocations.unrevoke_identity(WEB)
    assert not revocations.has_identity(WEB)
    assert revocations.revokes(1, WEB)
    assert not revocations.unrevoke_identity(WEB)
    assert not revocations.unrevoke_serial(1)


def test_a_hold_is_taken_back_as_a_whole(tmp_path: Path) -> None:
    """RFC 5280 knows one reason that is not for ever."""
    revocations = Revocations(records(tmp_path), Clock())
    revocations.revoke_identity(WEB, HOLD, [entry(1)])
    revocations.revoke_serial(2, HOLD, None)
    assert revocations.unrevoke_identity(WEB)
    assert not revocations.revokes(1, WEB)
    assert revocations.unrevoke_serial(2)
    assert revocations.serials == ()
    assert revocations.number == 4


def test_a_serial_number_is_forgotten_when_its_certificate_expires(tmp_path: Path) -> None:
    """One that is in no ledger is kept as long as any certificate may live."""
    clock = Clock()
    revocations = Revocations(records(tmp_path), clock)
    revocations.revoke_serial(1, "superseded", entry(1, 1500.0))
    revocations.revoke_serial(2, "superseded", None)
    clock.now = 1500.0
    assert [one.serial for one in revocations.serials] == [2]
    clock.now = 1000.0 + UNKNOWN_LIFETIME
    assert revocations.serials == ()


def test_the_first_reason_stays_when_the_identity_follows(tmp_path: Path) -> None:
    """A hold on the identity does not soften what was revoked for good."""
    revocations = Revocations(records(tmp_path), Clock())
    revocations.revoke_serial(1, "keyCompromise", entry(1))
    revocations.revoke_identity(WEB, HOLD, [entry(1), entry(2)])
    revocations.unrevoke_identity(WEB)
    assert [(one.serial, one.reason) for one in revocations.serials] == [(1, "keyCompromise")]


def test_what_cannot_be_written_is_not_revoked(tmp_path: Path) -> None:
    """Memory and disk agree."""
    revocations = Revocations(records(tmp_path), Clock())
    with unwritable(tmp_path), pytest.raises(OSError, match=NAME):
        revocations.revoke_identity(WEB, "unspecified", [])
    assert not revocations.has_identity(WEB)
    assert revocations.number == 0


@pytest.mark.parametrize("key", ["serial/1", "identity/spiffe://cluster.local/ns/a/sa/b", "number"])
@pytest.mark.parametrize("text", ["{", "[]", '{"serial": 1}'])
def test_a_damaged_record_is_not_passed_over(tmp_path: Path, key: str, text: str) -> None:
    """Starting without it would admit somebody who was revoked."""
    kept = records(tmp_path)
    kept.commit({f"revoked/{key}": text})
    with pytest.raises(RecordsBroken, match=rf"revoked/{key} is damaged .*restore it from backup"):
        Revocations(kept)


def test_what_another_control_plane_revokes_is_revoked(tmp_path: Path) -> None:
    """As soon as the record is known here, with its number."""
    shared = records(tmp_path)
    one, other = Revocations(shared, Clock()), Revocations(shared, Clock())
    one.revoke_identity(WEB, HOLD, [entry(number) for number in range(1, 200)])
    assert other.revokes(199, workload("other"))
    assert (other.number, len(other.serials)) == (one.number, 199)
    other.unrevoke_identity(WEB)
    assert not one.has_identity(WEB)


def test_reasons_are_those_of_the_standard() -> None:
    """As RFC 5280 writes them."""
    assert {"unspecified", "keyCompromise", "certificateHold", "superseded", "cessationOfOperation"} <= set(REASONS)
    assert "removeFromCRL" not in REASONS
